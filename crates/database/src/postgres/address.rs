//! Where a PostgreSQL is, and who asks there.

use std::fmt;
use std::net::IpAddr;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// What an address begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Where Debian's servers have their sockets: for an address without a host.
const SOCKETS: &str = "/run/postgresql";

/// A database of a PostgreSQL server: `postgres://USER@HOST:PORT/DATABASE`. The host may be the
/// directory of a socket (`?host=/run/postgresql`), which is also the default.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    url: String,
    pub(super) config: Config,
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
    /// The connection shall be encrypted.
    #[error("it asks for TLS (sslmode), and this build connects to PostgreSQL without")]
    Encrypted,
    /// The server is on another machine, and nothing says that this may go unencrypted.
    #[error("{host} is another machine, and this build connects to PostgreSQL without TLS")]
    Remote {
        /// Which.
        host: String,
    },
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
            Self::Encrypted | Self::Remote { .. } => {
                "lead an encrypted tunnel here (ssh -L, stunnel) and name its end; or say \
                 ?sslmode=disable, if the way to the server is safe"
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
        // The driver knows fewer modes than there are; none but these goes without TLS.
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let mode = query
            .split('&')
            .find_map(|part| part.strip_prefix("sslmode="));
        if mode.is_some_and(|mode| mode != "disable") {
            return Err(AddressError::Encrypted);
        }
        let mut config: Config = url.parse().map_err(AddressError::Unreadable)?;
        if config.get_password().is_some() {
            return Err(AddressError::Password);
        }
        if config.get_hosts().is_empty() {
            config.host_path(SOCKETS);
        }
        if config.get_ssl_mode() != SslMode::Disable
            && let Some(host) = config.get_hosts().iter().find_map(remote)
        {
            let host = host.to_owned();
            return Err(AddressError::Remote { host });
        }
        // A copy that only follows another server takes no writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.application_name("insula");
        config.ssl_mode(SslMode::Disable);
        let url = url.to_owned();
        Ok(Self { url, config })
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

/// The host, if it is another machine.
fn remote(host: &Host) -> Option<&str> {
    match host {
        Host::Unix(_) => None,
        Host::Tcp(name) => {
            let address: Option<IpAddr> = name.parse().ok();
            let is_here = name == "localhost" || address.is_some_and(|ip| ip.is_loopback());
            (!is_here).then_some(name)
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
    use super::PostgresAddress;

    #[test]
    fn an_address_is_shown_as_it_is_meant_and_never_with_a_password() {
        for url in [
            "postgres:///insula",
            "postgresql://ann@localhost/insula",
            "postgres://ann@127.0.0.1:5433/insula",
            "postgres://ann@/insula?host=/run/postgresql",
            "postgres://ann@db.example/insula?sslmode=disable",
        ] {
            let address = PostgresAddress::parse(url).expect(url);
            assert_eq!(address.to_string(), url);
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
            (
                "postgres://localhost/insula?password=secret",
                "has a password",
            ),
            (
                "postgres://localhost/insula?sslmode=require",
                "asks for TLS",
            ),
            (
                "postgres://localhost/insula?sslmode=verify-full",
                "asks for TLS",
            ),
            (
                "postgres://db.example/insula",
                "db.example is another machine",
            ),
            (
                "postgres://192.0.2.7/insula",
                "192.0.2.7 is another machine",
            ),
        ] {
            let error = PostgresAddress::parse(url).expect_err(url);
            assert!(error.to_string().contains(expect), "{url}: {error}");
            assert!(!error.hint().is_empty());
        }
    }
}
