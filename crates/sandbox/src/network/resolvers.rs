//! Who answers questions for names, as the node's own files say.

use super::EgressSettings;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Name servers that the C library asks at most.
const SERVERS_LIMIT: usize = 3;
/// Largest file that is read, in bytes.
const FILE_LIMIT: usize = 64 << 10;

/// What the node's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolvers {
    /// Name servers that containers can ask themselves.
    pub(super) direct: Vec<Ipv4Addr>,
    /// Where there are none of those: name servers that only the node can ask, on loopback or by
    /// IPv6.
    pub(super) behind: Vec<IpAddr>,
    /// The lines with search domains and options, as they are.
    lines: Vec<String>,
}

impl Resolvers {
    /// Reads the files of the settings; what is not there says nothing.
    pub(super) fn read(settings: &EgressSettings) -> Self {
        Self::of(&settings.resolver_files, |path| {
            let text = std::fs::read_to_string(path).ok()?;
            (text.len() <= FILE_LIMIT).then_some(text)
        })
    }

    fn of(files: &[PathBuf], read: impl Fn(&PathBuf) -> Option<String>) -> Self {
        let found: Vec<Self> = files
            .iter()
            .filter_map(read)
            .map(|text| Self::parse(&text))
            .collect();
        let best = found.iter().position(|found| !found.direct.is_empty());
        let mut found = found.into_iter();
        found.nth(best.unwrap_or(0)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("nameserver"), Some(address)) => match address.parse() {
                    Ok(IpAddr::V4(address)) if is_beyond(address) => found.direct.push(address),
                    Ok(address) => found.behind.push(address),
                    // An address with a zone, or none.
                    Err(_) => {}
                },
                (Some("search" | "domain" | "options" | "sortlist"), Some(_)) => {
                    found.lines.push(line.to_owned());
                }
                _ => {}
            }
        }
        found.direct.truncate(SERVERS_LIMIT);
        found.behind.truncate(SERVERS_LIMIT);
        if !found.direct.is_empty() {
            found.behind.clear();
        }
        found
    }

    /// The content of a container's `/etc/resolv.conf`; `forwarder` asks in its place where it
    /// cannot ask itself.
    pub(super) fn file(&self, forwarder: Ipv4Addr) -> String {
        let mut servers = self.direct.clone();
        if !self.behind.is_empty() {
            servers = vec![forwarder];
        }
        let mut text = String::new();
        for server in servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// A packet can be sent there from elsewhere than the node itself.
fn is_beyond(address: Ipv4Addr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::Resolvers;
    use std::net::Ipv4Addr;

    fn file(files: &[&str]) -> String {
        let paths: Vec<_> = (0..files.len()).map(|n| n.to_string().into()).collect();
        let found = Resolvers::of(&paths, |path| {
            let place: usize = path.to_str()?.parse().ok()?;
            Some(files[place].to_owned())
        });
        found.file(Ipv4Addr::new(10, 213, 0, 1))
    }

    #[test]
    fn name_servers_beyond_the_node_are_asked_themselves() {
        let own = "# x\nnameserver 192.0.2.1\nnameserver ::1\nsearch a.example\noptions ndots:2\n";
        assert_eq!(
            file(&[own, "nameserver 192.0.2.9\n"]),
            "nameserver 192.0.2.1\nsearch a.example\noptions ndots:2\n"
        );
        let many = "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4";
        assert_eq!(file(&[many]).lines().count(), 3);
    }

    #[test]
    fn behind_a_stub_on_loopback_are_the_real_ones() {
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n";
        let real = "nameserver 192.0.2.1\nsearch lan\n";
        assert_eq!(file(&[stub, real]), "nameserver 192.0.2.1\nsearch lan\n");
    }

    #[test]
    fn what_only_the_node_can_ask_is_asked_for_them() {
        for own in [
            "nameserver 127.0.0.1\n",
            "nameserver fd00::1\n",
            "nameserver 0.0.0.0",
        ] {
            assert_eq!(file(&[own]), "nameserver 10.213.0.1\n", "{own}");
        }
        assert_eq!(file(&["", "search lan"]), "");
        assert_eq!(file(&[]), "");
    }
}
