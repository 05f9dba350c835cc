//! Databases that were set back to an older copy, and those that were not.

use super::{leading, options};
use crate::postgres::{PostgresOptions, PostgresStore, Standing};
use crate::store::Store as _;
use domain::{SiteId, Timestamp};
use lifecycle::rows::RowChange;
use std::path::Path;
use test_postgres::Server;

const ALWAYS: Timestamp = Timestamp(0);
const DATABASE: &str = "postgres";

/// A manager with a home.
fn of_home(server: &Server, home: &Path) -> PostgresOptions {
    let place = home.display().to_string();
    options(&server.address(DATABASE), &place).marked(home.join("postgres.mark"))
}

/// A leader takes the store over and does something; returns what it was told of the store.
fn work(store: &mut PostgresStore) -> Option<u64> {
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    let restored = loaded.restored;
    let mut site = loaded.site;
    site.epoch += 1;
    site.incarnation = restored.unwrap_or(0).max(site.incarnation);
    site.incarnation += u64::from(restored.is_some());
    for _ in 0..3 {
        site.next_event += 1;
        let site = site.clone();
        let commit = store.commit(&[RowChange::PutSite { site }]);
        commit.expect("committed");
    }
    let again = store.load(ALWAYS, ALWAYS).expect("loaded");
    assert_eq!(again.restored, None, "a leader has taken it over");
    restored
}

/// [`work`] of a manager that then goes down.
fn lead(server: &Server, home: &Path) -> Option<u64> {
    let mut store = leading(&of_home(server, home));
    let restored = work(&mut store);
    store.give_up();
    restored
}

#[test]
fn a_database_that_was_set_back_is_noticed_and_one_that_goes_on_is_not() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let homes = [0; 3].map(|_| tempfile::tempdir().expect("a directory"));
    let [one, other, strange] = homes.each_ref().map(tempfile::TempDir::path);
    assert_eq!(lead(&server, one), None);
    let copy = server.dump(DATABASE).expect("a copy");
    // It goes on, here and elsewhere.
    for home in [one, other, one] {
        assert_eq!(lead(&server, home), None);
    }
    server.restore(DATABASE, &copy).expect("restored");
    assert_eq!(lead(&server, one), Some(1));
    assert_eq!(lead(&server, one), None);
    assert_eq!(lead(&server, other), None, "the one before has noticed");

    // The control: it is the mark that tells. A home that has never seen the database knows
    // nothing, and makes no more of it.
    server.restore(DATABASE, &copy).expect("restored");
    assert_eq!(lead(&server, strange), None);
    assert_eq!(
        lead(&server, one),
        Some(2),
        "told of the incarnation between"
    );

    // What stood in a mark that cannot be read is not known: the store may well be a copy.
    std::fs::write(one.join("postgres.mark"), "no mark").expect("written");
    assert_eq!(lead(&server, one), Some(0));
    assert_eq!(lead(&server, one), None, "it is written anew");
}

#[test]
fn a_stranger_who_leads_a_copy_hides_nothing() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let homes = [0; 2].map(|_| tempfile::tempdir().expect("a directory"));
    let [one, strange] = homes.each_ref().map(tempfile::TempDir::path);
    lead(&server, one);
    let copy = server.dump(DATABASE).expect("a copy");
    let mut leader = leading(&of_home(&server, one));
    let mut site = leader.load(ALWAYS, ALWAYS).expect("loaded").site;
    site.next_event += 100;
    let commit = leader.commit(&[RowChange::PutSite { site }]);
    commit.expect("committed");
    leader.give_up();
    server.restore(DATABASE, &copy).expect("restored");
    // By this its epoch is above all that the other has seen.
    assert_eq!(lead(&server, strange), None);
    assert_eq!(lead(&server, one), Some(1));
}

#[test]
fn who_stood_by_notices_too() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let homes = [0; 2].map(|_| tempfile::tempdir().expect("a directory"));
    let [one, other] = homes.each_ref().map(tempfile::TempDir::path);
    lead(&server, one);
    let copy = server.dump(DATABASE).expect("a copy");
    {
        let mut leader = leading(&of_home(&server, one));
        work(&mut leader);
        let mut waits = PostgresStore::open(of_home(&server, other)).expect("opened");
        let standing = waits.try_lead().expect("asked");
        assert!(matches!(standing, Standing::StandsBy(_)), "{standing:?}");
        leader.give_up();
    }
    server.restore(DATABASE, &copy).expect("restored");
    // The copy has nobody's lease in it, or one that has run out.
    assert_eq!(lead(&server, other), Some(1));
    // One that is of another site says nothing of this one.
    let changed = format!("UPDATE site SET id = '{}', epoch = 1", SiteId(9));
    server.shell(DATABASE, &changed).expect("changed");
    assert_eq!(lead(&server, other), None);
}
