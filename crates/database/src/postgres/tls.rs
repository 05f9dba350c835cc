//! TLS to a server: it has to have the name that was asked for, by the word of somebody who may
//! say so.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// There is nobody to say who a server is.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates cannot be read.
    #[error("cannot read the authorities in {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A certificate of it is not one of an authority.
    #[error("a certificate in {path} cannot be taken for an authority's")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// There is none in it.
    #[error("no certificate is in {path}")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The system knows none.
    #[error("this system has no authorities")]
    NoneOfTheSystem,
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What makes connections, to servers that `authorities` (the system's, if `None`) vouch for.
pub(super) fn connector(authorities: Option<&Path>) -> Result<MakeRustlsConnect, TlsError> {
    let roots = match authorities {
        Some(path) => read(path)?,
        None => of_the_system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn read(path: &Path) -> Result<RootCertStore, TlsError> {
    let unreadable = |source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        let unfit = |source| TlsError::Unfit {
            path: path.to_owned(),
            source,
        };
        roots.add(certificate).map_err(unfit)?;
    }
    if roots.is_empty() {
        let path = path.to_owned();
        return Err(TlsError::Empty { path });
    }
    Ok(roots)
}

fn of_the_system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some authorities of the system cannot be read");
    }
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        return Err(TlsError::NoneOfTheSystem);
    }
    Ok(roots)
}

/// What to do about a connection that was not made because of TLS.
pub(crate) fn hint(error: &tokio_postgres::Error) -> Option<&'static str> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(found) = error.downcast_ref::<rustls::Error>().or(inner) {
            return Some(hint_of(found));
        }
        cause = error.source();
    }
    // The driver does not tell by a type.
    let is_refused = error
        .source()
        .is_some_and(|source| source.to_string() == "server does not support TLS");
    is_refused.then_some(
        "set `ssl = on` at the server; or say ?sslmode=disable, if the way to it is safe",
    )
}

fn hint_of(error: &rustls::Error) -> &'static str {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    match error {
        // The second is of another authority that gave itself the same name.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "name the file with the authority that signed the server's certificate in \
             `site.store-ca-file`"
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "name the server in `site.store` as its certificate does, or give it a certificate \
             with that name"
        }
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => "give the server a new certificate, and look at the clocks of both machines",
        _ => {
            "look at the server's certificate (`ssl_cert_file`) and at its log; `openssl s_client \
             -starttls postgres` shows what it sends"
        }
    }
}
