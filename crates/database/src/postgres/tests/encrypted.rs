//! TLS: a server that can prove its name is taken, and no other.

use super::{leading, options};
use crate::error::OpenError;
use crate::postgres::{PostgresOptions, PostgresStore};
use crate::store::Store as _;
use crate::tests::TestStore as _;
use crate::tests::sample::{pending, put};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::error::Error;
use std::path::{Path, PathBuf};
use test_postgres::Server;

/// Whether any connection of ours to the server is encrypted.
const ENCRYPTED: &str = "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(directory: &Path, name: &str) -> (Authority, PathBuf) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = CertifiedIssuer::self_signed(params, key).expect("signed");
    let file = directory.join(name);
    std::fs::write(&file, made.pem()).expect("written");
    (made, file)
}

/// A server whose certificate says that it is `name`, by the word of `authority`; and its port.
fn server(authority: &Authority, name: &str) -> Option<(Server, u16)> {
    let mut server = Server::start_or_skip()?;
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let started = server.start_again_on_loopback(Some((&certificate, &key)));
    let port = started.expect("it starts with TLS");
    Some((server, port))
}

fn address(port: u16, rest: &str) -> String {
    format!("postgres://postgres@db.example:{port}/postgres?hostaddr=127.0.0.1{rest}")
}

fn with(authorities: &Path, address: &str) -> PostgresOptions {
    let mut options = options(address, "one");
    let named = options.address.with_authorities(authorities.to_owned());
    options.address = named.expect("it is encrypted");
    options
}

fn refused(options: PostgresOptions) -> (String, &'static str) {
    let error = PostgresStore::open(options).expect_err("refused");
    assert!(matches!(error, OpenError::Database { .. }), "{error:?}");
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        said.push_str(&format!(": {source}"));
        cause = source.source();
    }
    println!("{said}\nhint: {:?}", error.hint());
    (said, error.hint().expect("a hint"))
}

#[test]
fn a_server_that_proves_its_name_is_taken_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ours, our_file) = authority(directory.path(), "ours.pem");
    let (_, strange_file) = authority(directory.path(), "strange.pem");
    let Some((_server, port)) = server(&ours, "db.example") else {
        return;
    };
    let mut store = leading(&with(&our_file, &address(port, "")));
    store.commit(&[put(pending(1))]).expect("it leads");
    assert_eq!(store.number(ENCRYPTED), 1);
    store.give_up();

    // Another authority, and the system's.
    let (_, hint) = refused(with(&strange_file, &address(port, "")));
    assert!(hint.contains("`site.store-ca-file`"), "{hint}");
    let (_, hint) = refused(options(&address(port, "&sslmode=verify-full"), "one"));
    assert!(hint.contains("`site.store-ca-file`"), "{hint}");
    // Another name than the certificate's.
    let other = address(port, "").replace("db.example", "db2.example");
    let (said, hint) = refused(with(&our_file, &other));
    assert!(said.contains("db2.example"), "{said}");
    assert!(hint.contains("as its certificate does"), "{hint}");

    // The control: nothing else is wrong with either, and unencrypted nobody looks.
    for address in [address(port, ""), other] {
        let mut store = leading(&options(&format!("{address}&sslmode=disable"), "one"));
        assert_eq!(store.number(ENCRYPTED), 0);
        store.give_up();
    }
}

#[test]
fn a_server_without_tls_and_a_file_without_authorities_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, our_file) = authority(directory.path(), "ours.pem");
    let Some(mut server) = Server::start_or_skip() else {
        return;
    };
    let port = server.start_again_on_loopback(None).expect("it starts");
    let (_, hint) = refused(with(&our_file, &address(port, "")));
    assert!(hint.contains("`ssl = on`"), "{hint}");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").expect("written");
    for file in [&empty, &directory.path().join("absent.pem")] {
        let (said, hint) = refused(with(file, &address(port, "")));
        assert!(said.contains(file.to_str().expect("text")), "{said}");
        assert!(hint.contains("`site.store-ca-file`"), "{hint}");
    }
}
