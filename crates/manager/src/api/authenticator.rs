//! Who asks: the kernel tells it on the Unix socket, the site's key on TCP.

use crate::api::problems::Refusal;
use axum::http::{HeaderMap, Uri, header};
use public_api::{Caller, Problem, ProblemCode};
use std::net::SocketAddr;

/// The domain of everything on a local site.
pub const LOCAL_DOMAIN: &str = "default";
/// The project of everything on a local site.
pub const LOCAL_PROJECT: &str = "default";
/// Longest user name that is taken over from the system.
const USER_NAME_LIMIT: usize = 64;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, by the credentials that the kernel kept when it connected.
    Unix {
        /// Its user id.
        uid: u32,
    },
    /// Whoever can reach the address.
    Tcp {
        /// The address that was reached.
        local: SocketAddr,
    },
}

/// Finds out who asks. On a local site that is its owner or root, who may do everything, or
/// whoever has the site's key, which only they can read.
pub struct Authenticator {
    owner_uid: u32,
    owner_name: String,
    root_name: String,
    key: Option<String>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Authenticator")
            .field("owner_uid", &self.owner_uid)
            .field("owner_name", &self.owner_name)
            .field("key", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// For the site of the user under whom this process runs.
    pub fn new(key: String) -> Self {
        Self::local(rustix::process::geteuid().as_raw(), Some(key))
    }

    /// For the site of the user `owner_uid`, under whom the daemon runs. Without a `key` nobody
    /// is let in by TCP. Names come from /etc/passwd once, here: a directory service that is down
    /// must not stop requests, so users who are only there are called `uid-N`.
    pub fn local(owner_uid: u32, key: Option<String>) -> Self {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self {
            owner_uid,
            owner_name: user_name(&passwd, owner_uid),
            root_name: user_name(&passwd, 0),
            key: key.filter(|key| !key.is_empty()),
        }
    }

    /// The caller of a request with these headers from this peer.
    pub(super) fn authenticate(
        &self,
        peer: Option<&Peer>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Caller, Refusal> {
        match peer {
            Some(Peer::Unix { uid }) => self.by_uid(*uid),
            Some(Peer::Tcp { local }) => {
                expect_own_host(*local, uri, headers)?;
                self.by_key(headers)
            }
            None => Err(unauthenticated("the request came by no known connection")),
        }
    }

    fn by_uid(&self, uid: u32) -> Result<Caller, Refusal> {
        let name = if uid == self.owner_uid {
            &self.owner_name
        } else if uid == 0 {
            &self.root_name
        } else {
            let detail = format!(
                "this site belongs to {} (uid {}), and uid {uid} asked",
                self.owner_name, self.owner_uid
            );
            let hint = "start a site of your own with `insula up`";
            return Err(Problem::new(ProblemCode::Forbidden, detail)
                .hint(hint)
                .into());
        };
        Ok(operator(name, Some(uid)))
    }

    fn by_key(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return Err(unauthenticated("the request has no `authorization` header"));
        };
        let sent = header.as_bytes();
        let scheme = b"bearer ";
        let is_bearer =
            sent.len() > scheme.len() && sent[..scheme.len()].eq_ignore_ascii_case(scheme);
        if !is_bearer {
            return Err(unauthenticated(
                "the `authorization` header is not a bearer token",
            ));
        }
        let sent = sent[scheme.len()..].trim_ascii();
        match &self.key {
            Some(key) if equal_in_constant_time(sent, key.as_bytes()) => {
                // Not the owner's uid: the key may be used from another machine, whose paths
                // are not the daemon's to mount.
                Ok(operator(&self.owner_name, None))
            }
            _ => Err(unauthenticated("the key is not this site's")),
        }
    }
}

fn operator(user: &str, uid: Option<u32>) -> Caller {
    Caller {
        domain: LOCAL_DOMAIN.to_owned(),
        project: LOCAL_PROJECT.to_owned(),
        user: user.to_owned(),
        uid,
        operator: true,
    }
}

fn unauthenticated(detail: &str) -> Refusal {
    Problem::new(ProblemCode::Unauthenticated, detail).into()
}

/// On loopback the request must name a loopback host: a page of another origin, whose name was
/// made to resolve to this machine, names its own.
fn expect_own_host(local: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if !local.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let named = headers
        .get_all(header::HOST)
        .iter()
        .map(axum::http::HeaderValue::as_bytes)
        .chain(
            uri.authority()
                .map(|authority| authority.as_str().as_bytes()),
        );
    let mut any = false;
    for host in named {
        any = true;
        if !is_own_host(host, local.port()) {
            let detail = format!(
                "the request is for host `{}`, which is not this site",
                String::from_utf8_lossy(host)
            );
            let hint = format!("use http://127.0.0.1:{}", local.port());
            return Err(Problem::new(ProblemCode::Forbidden, detail)
                .hint(hint)
                .into());
        }
    }
    if any {
        return Ok(());
    }
    let detail = "the request has no `host` header";
    Err(Problem::new(ProblemCode::InvalidRequest, detail).into())
}

fn is_own_host(host: &[u8], port: u16) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let host = host.to_ascii_lowercase();
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
        host.strip_prefix(name)
            .is_some_and(|rest| rest == format!(":{port}") || (rest.is_empty() && port == 80))
    })
}

/// Takes as long for a key that differs in its first byte as in its last. Lengths are no secret.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut difference = 0_u8;
    for (one, other) in left.iter().zip(right) {
        difference = std::hint::black_box(difference | (one ^ other));
    }
    difference == 0
}

fn user_name(passwd: &str, uid: u32) -> String {
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id = fields.nth(1)?.parse::<u32>().ok()?;
        (id == uid && is_usable(name)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("uid-{uid}"))
}

fn is_usable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=USER_NAME_LIMIT).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::{equal_in_constant_time, is_own_host, user_name};

    #[test]
    fn names_come_from_passwd_where_they_can_be_used() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n+::::::\nbroken\nan a:x:7:7::/:\nann:x:8:8::/:\n";
        for (uid, expected) in [(0, "root"), (8, "ann"), (7, "uid-7"), (9, "uid-9")] {
            assert_eq!(user_name(passwd, uid), expected);
        }
    }

    #[test]
    fn only_loopback_names_with_the_port_are_the_sites_own() {
        for (host, expected) in [
            ("127.0.0.1:81", true),
            ("LOCALHOST:81", true),
            ("[::1]:81", true),
            ("localhost", false),
            ("localhost:82", false),
            ("localhost.example:81", false),
            ("127.0.0.1:81@example", false),
            ("example:81", false),
            ("", false),
        ] {
            assert_eq!(is_own_host(host.as_bytes(), 81), expected, "{host}");
        }
        assert!(
            is_own_host(b"localhost", 80),
            "the port that http leaves out"
        );
    }

    #[test]
    fn keys_are_equal_only_as_a_whole() {
        assert!(equal_in_constant_time(b"abc", b"abc"));
        for other in [&b"abd"[..], b"bbc", b"ab", b"abcd", b""] {
            assert!(!equal_in_constant_time(other, b"abc"));
        }
    }
}
