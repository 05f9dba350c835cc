//! Databases of other builds, of other programs, and of another kind; and texts that PostgreSQL
//! has none of.

use super::{Schema, leading, options};
use crate::error::OpenError;
use crate::postgres::{PostgresStore, probe};
use crate::sql::migrations::MIGRATIONS;
use crate::store::{EventScope, Store as _};
use crate::tests::Place as _;
use crate::tests::sample::event;
use lifecycle::rows::RowChange;
use test_postgres::Server;

fn hint(error: &OpenError) -> &'static str {
    error.hint().expect("a hint")
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    for name in ["strange", "newer", "changed"] {
        server
            .shell("postgres", &format!("CREATE DATABASE {name}"))
            .expect("made");
    }
    server
        .shell("strange", "CREATE TABLE recipes (name text)")
        .expect("made");
    let refused = |name: &str| {
        let options = options(&server.address(name), name);
        PostgresStore::open(options).expect_err("refused")
    };
    let error = refused("strange");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(hint(&error).contains("database of its own"));

    let newest = MIGRATIONS.last().expect("there are some").number;
    for (name, change) in [
        (
            "newer",
            format!(
                "INSERT INTO migrations VALUES ({}, 'of-tomorrow', 'c', 0)",
                newest + 1
            ),
        ),
        (
            "changed",
            "UPDATE migrations SET checksum = 'else'".to_owned(),
        ),
    ] {
        drop(leading(&options(&server.address(name), name)));
        server.shell(name, &change).expect("changed");
    }
    let error = refused("newer");
    assert!(
        matches!(error, OpenError::Newer { found, known, .. } if found == newest + 1 && known == newest),
        "{error:?}"
    );
    let error = refused("changed");
    assert!(
        matches!(error, OpenError::Changed { number: 1, .. }),
        "{error:?}"
    );
    let error = refused("absent");
    assert!(matches!(error, OpenError::Database { .. }), "{error:?}");
    assert!(hint(&error).contains("start the server"));

    server
        .shell(
            "postgres",
            "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0",
        )
        .expect("made");
    let error = refused("latin");
    assert!(error.to_string().contains("UTF8 is needed"), "{error}");
}

#[test]
fn a_look_from_outside_tells_who_leads() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let one = options(&server.address("postgres"), "one:/home");
    let other = options(&server.address("postgres"), "two:/home");
    let before = probe(&other).expect("it can be reached");
    assert_eq!((before.leader, before.is_durable), (None, false));
    let mut store = leading(&one);
    let found = probe(&other).expect("it can be reached");
    let leader = found.leader.expect("one leads");
    assert_eq!((leader.place.as_str(), leader.epoch), ("one:/home", 1));
    store.give_up();
    assert_eq!(probe(&other).expect("reached").leader, None);
}

#[test]
fn the_one_character_that_postgresql_lacks_is_replaced_and_refuses_nothing() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut store = Schema::new(&server, "nul").open();
    let mut change = event(1, None);
    if let RowChange::AddEvent { event } = &mut change {
        event.message = "a\0b".to_owned();
    }
    store.commit(&[change]).expect("committed");
    let found = store.events(EventScope::All, 0, 1).expect("read");
    assert_eq!(found[0].message, "a\u{fffd}b");
    assert_eq!(store.number("SELECT count(*) FROM events"), 1);
}
