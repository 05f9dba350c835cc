//! Stores that are older copies of themselves, and those that are not.

use super::sample::open;
use crate::MARK_FILE;
use crate::store::Store as _;
use domain::Timestamp;
use lifecycle::rows::{RowChange, SiteRow};
use std::fs;
use std::path::Path;

const ALWAYS: Timestamp = Timestamp(0);

/// A leader takes the store over and does something; returns what it was told of the store.
fn lead(directory: &Path) -> Option<u64> {
    let mut store = open(directory);
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    let restored = loaded.restored;
    let mut site = loaded.site;
    site.epoch += 1;
    site.incarnation += u64::from(restored.is_some());
    for _ in 0..3 {
        site.next_event += 1;
        put(&mut store, &site);
    }
    assert_eq!(
        store.load(ALWAYS, ALWAYS).expect("loaded").restored,
        None,
        "it is no copy once a leader has taken it over"
    );
    restored
}

fn put(store: &mut crate::SqliteStore, site: &SiteRow) {
    let site = site.clone();
    let commit = store.commit(&[RowChange::PutSite { site }]);
    commit.expect("committed");
}

#[test]
fn a_store_that_is_led_on_is_no_copy() {
    let home = tempfile::tempdir().expect("a directory");
    for _ in 0..3 {
        assert_eq!(lead(home.path()), None);
    }
    // A crash may have kept the last words of the mark from it.
    let mark = home.path().join(MARK_FILE);
    let behind = fs::read(&mark).expect("it is there");
    assert_eq!(lead(home.path()), None);
    fs::write(&mark, behind).expect("written");
    assert_eq!(lead(home.path()), None);
}

#[test]
fn an_older_copy_is_noticed() {
    let home = tempfile::tempdir().expect("a directory");
    let (store, backup) = (home.path().join("site.db"), home.path().join("backup"));
    lead(home.path());
    fs::copy(&store, &backup).expect("copied");
    lead(home.path());
    // The same file with an earlier content.
    fs::write(&store, fs::read(&backup).expect("read")).expect("written");
    assert_eq!(lead(home.path()), Some(1));
    // Another file.
    fs::remove_file(&store).expect("removed");
    fs::copy(&backup, &store).expect("copied");
    assert_eq!(
        lead(home.path()),
        Some(2),
        "it is told of the incarnation between"
    );
    assert_eq!(lead(home.path()), None);
}

#[test]
fn a_store_that_moved_or_lost_its_mark_counts_as_a_copy() {
    let (home, other) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    lead(home.path());
    for name in ["site.db", MARK_FILE] {
        fs::copy(home.path().join(name), other.path().join(name)).expect("copied");
    }
    assert_eq!(lead(other.path()), Some(1));
    fs::remove_file(home.path().join(MARK_FILE)).expect("removed");
    assert_eq!(lead(home.path()), Some(0));
    fs::write(home.path().join(MARK_FILE), "no mark").expect("written");
    assert_eq!(lead(home.path()), Some(0));
    assert_eq!(lead(home.path()), None);
}
