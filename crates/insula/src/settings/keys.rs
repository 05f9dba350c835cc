//! The keys of `config.toml`: one table that reads, checks, documents and prints them.

use crate::failure::Failure;
use crate::nearest::nearest;
use database::PostgresAddress;
use domain::amounts::{
    LEAST_CPU, LEAST_MEMORY, parse_bytes, parse_decimal, show_bytes, show_decimal,
};
use domain::{Network, Span};
use sandbox::{Ipv4Range, MakeAhead};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// `config.toml`.
    File,
}

/// Every setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where the API also listens, as `ADDRESS:PORT`; port 0 lets the kernel choose one.
    pub(crate) listen: Option<String>,
    /// Where the site's state is kept; a file of SQLite in the home if `None`.
    pub(crate) store: Option<PostgresAddress>,
    /// The file with the password of the store's user.
    pub(crate) store_password_file: Option<PathBuf>,
    /// The file with the authorities that vouch for the store's server; the system's if `None`.
    pub(crate) store_ca_file: Option<PathBuf>,
    /// What sessions reach unless they say.
    pub(crate) network: Network,
    /// CPU of a session that does not say, in ten-thousandths; the site's default if `None`.
    pub(crate) default_cpu: Option<u64>,
    /// Memory of a session that does not say, in bytes; the site's default if `None`.
    pub(crate) default_memory: Option<u64>,
    /// This machine's name as a node; its host name if `None`.
    pub(crate) node_name: Option<String>,
    /// CPU that this machine offers, in ten-thousandths; all if `None`.
    pub(crate) node_cpu: Option<u64>,
    /// Memory that this machine offers, in bytes; all but a reserve if `None`.
    pub(crate) node_memory: Option<u64>,
    /// First user id that sessions get, 65,536 each.
    pub(crate) uid_base: u32,
    /// Whether sandboxes that are likely to be asked for next are made before that.
    pub(crate) make_ahead: MakeAhead,
    /// Where the addresses of sessions with the network `egress` come from; chosen if `None`.
    pub(crate) egress_range: Option<Ipv4Range>,
    /// What those sessions cannot reach, beside what they never can.
    pub(crate) egress_denied: Vec<Ipv4Range>,
    /// How long ended sessions are kept.
    pub(crate) keep_sessions: Span,
    /// How long events are kept.
    pub(crate) keep_events: Span,
    /// How long idempotency keys are kept.
    pub(crate) keep_idempotency_keys: Span,
    /// How much the daemon logs: `error`, `warn`, `info`, `debug`, `trace`.
    pub(crate) log_level: String,
    origins: BTreeMap<&'static str, Origin>,
}

const DAY_MS: u64 = 86_400_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Some("127.0.0.1:0".to_owned()),
            store: None,
            store_password_file: None,
            store_ca_file: None,
            network: Network::Host,
            default_cpu: None,
            default_memory: None,
            node_name: None,
            node_cpu: None,
            node_memory: None,
            uid_base: 2_000_000_000,
            make_ahead: MakeAhead::Auto,
            egress_range: None,
            egress_denied: Vec::new(),
            keep_sessions: Span(90 * DAY_MS),
            keep_events: Span(30 * DAY_MS),
            keep_idempotency_keys: Span(DAY_MS),
            log_level: "info".to_owned(),
            origins: BTreeMap::new(),
        }
    }
}

/// One key of `config.toml`.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name with its table: `site.network`.
    pub(crate) name: &'static str,
    /// What it does, in one sentence without a full stop.
    pub(crate) about: &'static str,
    /// Puts a value in; says what would be right if it is not.
    set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value as it would stand in the file.
    pub(crate) show: fn(&Config) -> String,
}

/// All keys, in the order in which they are printed.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "site.listen",
        about: "Where the API listens besides its socket: ADDRESS:PORT (port 0 is a free one), or off",
        set: |config, text| {
            config.listen = match text {
                "off" => None,
                text => Some(
                    parse::<std::net::SocketAddr>(
                        text,
                        "an address such as 127.0.0.1:8900, or off",
                    )?
                    .to_string(),
                ),
            };
            Ok(())
        },
        show: |config| config.listen.clone().unwrap_or_else(|| "off".to_owned()),
    },
    Key {
        name: "site.store",
        about: "Where the site's state is kept: sqlite (a file in the home), or postgres://USER@HOST/DATABASE",
        set: |config, text| {
            config.store = match text {
                "sqlite" => None,
                url => Some(
                    PostgresAddress::parse(url)
                        .map_err(|error| format!("another address: {error}; {}", error.hint()))?,
                ),
            };
            Ok(())
        },
        show: |config| {
            let store = config.store.as_ref();
            store.map_or_else(|| "sqlite".to_owned(), PostgresAddress::to_string)
        },
    },
    Key {
        name: "site.store-password-file",
        about: "The file with the password of the store's user, or none",
        set: |config, text| {
            config.store_password_file = match text {
                "none" => None,
                path if Path::new(path).is_absolute() => Some(path.into()),
                _ => return Err("an absolute path, or none".to_owned()),
            };
            Ok(())
        },
        show: |config| {
            let file = config.store_password_file.as_ref();
            file.map_or_else(|| "none".to_owned(), |path| path.display().to_string())
        },
    },
    Key {
        name: "site.store-ca-file",
        about: "Authorities for the store's server: a file in PEM, or system",
        set: |config, text| {
            config.store_ca_file = match text {
                "system" => None,
                path if Path::new(path).is_absolute() => Some(path.into()),
                _ => return Err("an absolute path, or system".to_owned()),
            };
            Ok(())
        },
        show: |config| {
            let file = config.store_ca_file.as_ref();
            file.map_or_else(|| "system".to_owned(), |path| path.display().to_string())
        },
    },
    Key {
        name: "site.network",
        about: "What sessions reach unless they say: host, egress or none",
        set: |config, text| {
            config.network = match text {
                "host" => Network::Host,
                "egress" => Network::Egress,
                "none" => Network::None,
                _ => return Err("host, egress or none".to_owned()),
            };
            Ok(())
        },
        show: |config| match config.network {
            Network::Host => "host".to_owned(),
            Network::Egress => "egress".to_owned(),
            Network::None => "none".to_owned(),
        },
    },
    Key {
        name: "site.default-cpu",
        about: "CPUs of a session that does not say, or auto: 1",
        set: |config, text| set_optional(&mut config.default_cpu, text, cpu),
        show: |config| optional(config.default_cpu, |cpu| show_decimal(cpu.into())),
    },
    Key {
        name: "site.default-memory",
        about: "Memory of a session that does not say, or auto: 1 GiB, or a quarter of the node",
        set: |config, text| set_optional(&mut config.default_memory, text, memory),
        show: |config| optional(config.default_memory, |bytes| show_bytes(bytes.into())),
    },
    Key {
        name: "node.name",
        about: "The name of this machine, or auto: its host name",
        set: |config, text| set_optional(&mut config.node_name, text, |text| Ok(text.to_owned())),
        show: |config| optional(config.node_name.as_deref(), str::to_owned),
    },
    Key {
        name: "node.cpu",
        about: "CPUs that this machine offers, or auto: all",
        set: |config, text| set_optional(&mut config.node_cpu, text, cpu),
        show: |config| optional(config.node_cpu, |cpu| show_decimal(cpu.into())),
    },
    Key {
        name: "node.memory",
        about: "Memory that this machine offers, or auto: all but the larger of 512 MiB and 5 %",
        set: |config, text| set_optional(&mut config.node_memory, text, memory),
        show: |config| optional(config.node_memory, |bytes| show_bytes(bytes.into())),
    },
    Key {
        name: "node.uid-base",
        about: "First user id of sessions; each has 65536 of its own",
        set: |config, text| {
            let base: u32 = parse(text, "a user id from 65536")?;
            if !(65_536..=u32::MAX - (1 << 24)).contains(&base) {
                return Err("a user id from 65536 to 4278190079".to_owned());
            }
            config.uid_base = base;
            Ok(())
        },
        show: |config| config.uid_base.to_string(),
    },
    Key {
        name: "node.make-ahead",
        about: "Whether likely sandboxes are made ahead: auto (not while starts keep all CPUs busy), always, never",
        set: |config, text| {
            let found = MakeAhead::ALL
                .into_iter()
                .find(|one| one.to_string() == text);
            config.make_ahead = found.ok_or("auto, always or never")?;
            Ok(())
        },
        show: |config| config.make_ahead.to_string(),
    },
    Key {
        name: "node.egress-range",
        about: "Addresses of sessions with the network egress, or auto: a private range that no route leads to",
        set: |config, text| set_optional(&mut config.egress_range, text, egress_range),
        show: |config| optional(config.egress_range, |range| range.to_string()),
    },
    Key {
        name: "node.egress-denied",
        about: "Addresses that egress does not reach, with commas, or none; never the node, other sessions, link-local",
        set: |config, text| {
            config.egress_denied = match text {
                "none" => Vec::new(),
                text => text
                    .split(',')
                    .map(|range| {
                        parse(range.trim(), "ranges such as 10.0.0.0/8,192.0.2.7, or none")
                    })
                    .collect::<Result<_, _>>()?,
            };
            Ok(())
        },
        show: |config| match config.egress_denied.as_slice() {
            [] => "none".to_owned(),
            ranges => ranges
                .iter()
                .map(Ipv4Range::to_string)
                .collect::<Vec<_>>()
                .join(","),
        },
    },
    Key {
        name: "retention.sessions",
        about: "How long ended sessions are listed; their files and output are kept for 7 days at most",
        set: |config, text| set_span(&mut config.keep_sessions, text),
        show: |config| config.keep_sessions.to_string(),
    },
    Key {
        name: "retention.events",
        about: "How long events are kept",
        set: |config, text| set_span(&mut config.keep_events, text),
        show: |config| config.keep_events.to_string(),
    },
    Key {
        name: "retention.idempotency-keys",
        about: "How long a creation can be repeated safely",
        set: |config, text| set_span(&mut config.keep_idempotency_keys, text),
        show: |config| config.keep_idempotency_keys.to_string(),
    },
    Key {
        name: "log.level",
        about: "How much the daemon logs: error, warn, info, debug or trace",
        set: |config, text| {
            if !["error", "warn", "info", "debug", "trace"].contains(&text) {
                return Err("error, warn, info, debug or trace".to_owned());
            }
            config.log_level = text.to_owned();
            Ok(())
        },
        show: |config| config.log_level.clone(),
    },
];

impl Config {
    /// Reads a file's text over the defaults; refuses what it does not know.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            Failure::new(error.to_string().trim_end().to_owned())
        })?;
        let mut config = Self::default();
        for (outer, value) in &table {
            let Value::Table(inner) = value else {
                return Err(unknown(outer));
            };
            for (name, value) in inner {
                config.set(&format!("{outer}.{name}"), value)?;
            }
            let known = KEYS
                .iter()
                .any(|key| key.name.split('.').next() == Some(outer));
            if !known {
                return Err(unknown(outer));
            }
        }
        Ok(config)
    }

    /// Where the value of a key comes from.
    pub(crate) fn origin(&self, key: &Key) -> Origin {
        self.origins
            .get(key.name)
            .copied()
            .unwrap_or(Origin::Default)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), Failure> {
        let key = KEYS
            .iter()
            .find(|key| key.name == name)
            .ok_or_else(|| unknown(name))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            other => other.to_string(),
        };
        (key.set)(self, &text).map_err(|right| {
            Failure::new(format!("`{text}` is no value for `{name}`"))
                .hint(format!("write {right}"))
        })?;
        self.origins.insert(key.name, Origin::File);
        Ok(())
    }
}

fn unknown(name: &str) -> Failure {
    let failure = Failure::new(format!("there is no key `{name}`"));
    match nearest(name, KEYS.iter().map(|key| key.name)) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure,
    }
}

fn parse<T: std::str::FromStr>(text: &str, right: &str) -> Result<T, String> {
    text.parse().map_err(|_| right.to_owned())
}

fn set_span(span: &mut Span, text: &str) -> Result<(), String> {
    *span = parse(text, "a length of time such as 12h or 30d")?;
    Ok(())
}

fn set_optional<T>(
    field: &mut Option<T>,
    text: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<(), String> {
    *field = if text == "auto" {
        None
    } else {
        Some(read(text)?)
    };
    Ok(())
}

fn optional<T>(field: Option<T>, show: impl Fn(T) -> String) -> String {
    field.map_or_else(|| "auto".to_owned(), show)
}

fn egress_range(text: &str) -> Result<Ipv4Range, String> {
    let right = "a range from /12 to /29 such as 10.213.0.0/20, or auto";
    let range: Ipv4Range = parse(text, right)?;
    if range.is_usable() {
        Ok(range)
    } else {
        Err(right.to_owned())
    }
}

fn cpu(text: &str) -> Result<u64, String> {
    let right = || "a number of CPUs from 0.01, such as 0.5, or auto".to_owned();
    let cpu = parse_decimal(text).map_err(|_| right())?;
    if cpu < LEAST_CPU {
        Err(right())
    } else {
        Ok(cpu)
    }
}

fn memory(text: &str) -> Result<u64, String> {
    let right = || "a size from 8m, such as 512m or 4g, or auto".to_owned();
    let bytes = parse_bytes(text).map_err(|_| right())?;
    if bytes < LEAST_MEMORY {
        Err(right())
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, KEYS, Origin};
    use domain::Span;
    use sandbox::MakeAhead;

    #[test]
    fn every_key_has_a_document_and_reads_what_it_prints() {
        let defaults = Config::default();
        for key in KEYS {
            assert!(
                !key.about.is_empty() && !key.about.ends_with('.'),
                "{}",
                key.name
            );
            let shown = (key.show)(&defaults);
            let (table, name) = key.name.split_once('.').expect("a table and a name");
            let text = format!("[{table}]\n{name} = \"{shown}\"\n");
            let read = Config::parse(&text).expect("its own default");
            assert_eq!((key.show)(&read), shown);
            assert_eq!(read.origin(key), Origin::File);
            assert_eq!(defaults.origin(key), Origin::Default);
        }
    }

    #[test]
    fn values_are_checked_and_numbers_need_no_quotes() {
        let text = "[site]\ndefault-cpu = 0.5\nlisten = \"off\"\n[node]\nmemory = \"4g\"\nuid-base = 100000\nmake-ahead = \"never\"\n[retention]\nevents = \"1h\"";
        let config = Config::parse(text).expect("right");
        assert_eq!((config.default_cpu, config.listen), (Some(5_000), None));
        assert_eq!(
            (config.node_memory, config.uid_base, config.make_ahead),
            (Some(4 << 30), 100_000, MakeAhead::Never)
        );
        assert_eq!(config.keep_events, Span(3_600_000));
        for (text, hint) in [
            ("[site]\nnetwrok = \"host\"", "did you mean `site.network`?"),
            ("[site]\nnetwork = \"all\"", "write host, egress or none"),
            (
                "[node]\ncpu = \"lots\"",
                "write a number of CPUs from 0.01, such as 0.5, or auto",
            ),
            ("[node]\nmake-ahead = true", "write auto, always or never"),
        ] {
            let failure = Config::parse(text).expect_err(text);
            assert_eq!(failure.hint.as_deref(), Some(hint), "{text}");
        }
        for text in ["x = 1", "[nosuch]", "[site", "[site]\nlisten = \"here\""] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
    }
}
