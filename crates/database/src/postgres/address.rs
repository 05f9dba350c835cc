//! Where a PostgreSQL is, and who asks there.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// What an address begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Where Debian's servers have their sockets: for an address without a host.
const SOCKETS: &str = "/run/postgresql";

/// A database of a PostgreSQL server: `postgres://USER@HOST:PORT/DATABASE`. The host may be the
/// directory of a socket (`?host=/run/postgresql`), which is also the default. Another machine is
/// reached by TLS and has to prove its name, unless `?sslmode=disable` says that the way is safe.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    url: String,
    pub(super) config: Config,
    pub(super) encryption: Encryption,
}

/// What is known of who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Nothing: it is this machine, or the way is safe.
    Off,
    /// By TLS, that it has the name that was asked for.
    VerifyFull {
        /// The file of those who may say so; the system's if `None`.
        authorities: Option<PathBuf>,
    },
}

/// A text is not the address of a PostgreSQL that can be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no URL of this kind.
    #[error("it is not a URL such as postgres://USER@HOST/DATABASE")]
    Form,
    /// The URL cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] tokio_postgres::Error),
    /// A password stands in it.
    #[error("it has a password in it, which belongs into a file of its own")]
    Password,
    /// The connection shall be encrypted, whoever is at its other end.
    #[error("sslmode={mode} does not look who answers")]
    Mode {
        /// What was asked for.
        mode: String,
    },
    /// TLS to an address without a name.
    #[error("it gives the server's address and no name, which its certificate would be for")]
    Name,
    /// TLS on a socket of this machine.
    #[error("it asks for TLS (sslmode) on a socket of this machine, where there is none")]
    Socket,
    /// Authorities are named, and nothing is encrypted.
    #[error("it goes without TLS, and authorities for TLS are named")]
    Unencrypted,
}

impl AddressError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Form | Self::Unreadable(_) => {
                "write postgres://USER@HOST:PORT/DATABASE, or \
                 postgres://USER@/DATABASE?host=/run/postgresql for a socket"
            }
            Self::Password => "leave it out, and name its file with `site.store-password-file`",
            Self::Mode { .. } => {
                "say ?sslmode=verify-full, with `site.store-ca-file` if the server's certificate is \
                 signed by an authority of your own; or ?sslmode=disable, if the way to the server \
                 is safe"
            }
            Self::Name => "write postgres://USER@NAME/DATABASE?hostaddr=ADDRESS",
            Self::Socket => "leave sslmode out: nobody else hears what goes through a socket",
            Self::Unencrypted => {
                "say ?sslmode=verify-full in `site.store`, or set `site.store-ca-file` to system"
            }
        }
    }
}

impl PostgresAddress {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(AddressError::Form);
        }
        // The driver knows fewer modes than there are.
        let (plain, mode) = without_mode(url);
        let mut config: Config = plain.parse().map_err(AddressError::Unreadable)?;
        if config.get_password().is_some() {
            return Err(AddressError::Password);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path(SOCKETS);
        }
        let hosts = config.get_hosts();
        // Where there are addresses, the driver connects to those, whatever the names are.
        let mut addresses = config.get_hostaddrs().iter();
        let is_elsewhere =
            hosts.iter().any(is_remote) || addresses.any(|address| !address.is_loopback());
        let full = Encryption::VerifyFull { authorities: None };
        let encryption = match mode {
            Some("disable") => Encryption::Off,
            Some("verify-full") => full,
            None if is_elsewhere => full,
            None => Encryption::Off,
            Some(mode) => {
                let mode = mode.to_owned();
                return Err(AddressError::Mode { mode });
            }
        };
        let is_encrypted = encryption != Encryption::Off;
        if is_encrypted && hosts.iter().any(|host| matches!(host, Host::Unix(_))) {
            return Err(AddressError::Socket);
        }
        if is_encrypted && hosts.is_empty() {
            return Err(AddressError::Name);
        }
        // A copy that only follows another server takes no writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.application_name("insula");
        config.ssl_mode(if is_encrypted {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        Ok(Self {
            url: url.to_owned(),
            config,
            encryption,
        })
    }

    /// Where only those in this file, certificates in PEM, may say who the server is.
    pub fn with_authorities(mut self, file: PathBuf) -> Result<Self, AddressError> {
        match &mut self.encryption {
            Encryption::Off => Err(AddressError::Unencrypted),
            Encryption::VerifyFull { authorities } => {
                *authorities = Some(file);
                Ok(self)
            }
        }
    }

    /// With the password of the user.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// With settings of the server's for these connections, as `-c name=value`.
    #[must_use]
    pub fn with_options(mut self, options: &str) -> Self {
        self.config.options(options);
        self
    }
}

/// The URL without the part that says how it is encrypted, and that.
fn without_mode(url: &str) -> (String, Option<&str>) {
    let Some((start, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let is_mode = |part: &&str| part.starts_with("sslmode=");
    let mode = query.split('&').find(is_mode);
    let kept: Vec<&str> = query.split('&').filter(|part| !is_mode(part)).collect();
    let mode = mode.and_then(|mode| mode.split_once('='));
    (
        format!("{start}?{}", kept.join("&")),
        mode.map(|(_, mode)| mode),
    )
}

fn is_remote(host: &Host) -> bool {
    match host {
        Host::Unix(_) => false,
        Host::Tcp(name) => {
            let address: Option<IpAddr> = name.parse().ok();
            name != "localhost" && !address.is_some_and(|ip| ip.is_loopback())
        }
    }
}

impl fmt::Display for PostgresAddress {
    /// As it was written; it has no password in it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.url)
    }
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::{Encryption, PostgresAddress};

    #[test]
    fn an_address_is_shown_as_it_is_meant_and_never_with_a_password() {
        for (url, encrypted) in [
            ("postgres:///insula", false),
            ("postgresql://ann@localhost/insula", false),
            ("postgres://ann@127.0.0.1:5433/insula", false),
            ("postgres://ann@/insula?host=/run/postgresql", false),
            ("postgres://ann@db.example/insula?sslmode=disable", false),
            ("postgres://ann@db.example/insula", true),
            ("postgres://192.0.2.7/insula?connect_timeout=3", true),
            ("postgres://localhost/insula?sslmode=verify-full", true),
            ("postgres://ann@localhost/insula?hostaddr=192.0.2.7", true),
            ("postgres://ann@/insula?hostaddr=127.0.0.1", false),
        ] {
            let address = PostgresAddress::parse(url).expect(url);
            assert_eq!(address.to_string(), url);
            assert_eq!(address.encryption != Encryption::Off, encrypted, "{url}");
            let named = address.clone().with_authorities("/etc/ca.pem".into());
            assert_eq!(named.is_ok(), encrypted, "{url}");
            let address = address.with_password("secret");
            assert!(!format!("{address} {address:?}").contains("secret"));
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        for (url, expect) in [
            ("mysql://ann@localhost/insula", "not a URL such as"),
            ("postgres://localhost:none/insula", "cannot be read"),
            ("postgres://ann:secret@localhost/insula", "has a password"),
            ("postgres://ann@/insula?hostaddr=192.0.2.7", "and no name"),
            (
                "postgres://localhost/insula?password=secret",
                "has a password",
            ),
            (
                "postgres://db.example/insula?sslmode=require",
                "sslmode=require does not look who answers",
            ),
            (
                "postgres://localhost/insula?sslmode=verify-ca",
                "does not look who answers",
            ),
            (
                "postgres:///insula?sslmode=verify-full",
                "on a socket of this machine",
            ),
        ] {
            let error = PostgresAddress::parse(url).expect_err(url);
            assert!(error.to_string().contains(expect), "{url}: {error}");
            assert!(!error.hint().is_empty());
        }
    }
}
