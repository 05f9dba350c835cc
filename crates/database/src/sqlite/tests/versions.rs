//! Files of other builds and of other programs.

use super::sample::{open, options};
use crate::error::OpenError;
use crate::sql::migrations::{MIGRATIONS, checksum};
use crate::sqlite::SqliteStore;
use rusqlite::Connection;
use std::path::Path;

fn refusal(path: &Path) -> OpenError {
    let before = std::fs::read(path).expect("read");
    let error = SqliteStore::open(path, options()).expect_err("refused");
    assert_eq!(std::fs::read(path).expect("read"), before, "left as it was");
    error
}

#[test]
fn a_store_of_a_newer_build_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.db");
    drop(open(directory.path()));
    let newest = MIGRATIONS.last().expect("there are some").number;
    let newer = newest + 1;
    let sql = format!("INSERT INTO migrations VALUES ({newer}, 'of-tomorrow', 'c', 0)");
    Connection::open(&path)
        .expect("opened")
        .execute(&sql, [])
        .expect("inserted");
    let error = refusal(&path);
    let OpenError::Newer { found, known, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*found, *known), (newer, newest));
    assert!(error.hint().expect("a hint").contains("newer build"));
}

#[test]
fn a_store_whose_migrations_are_not_ours_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.db");
    drop(open(directory.path()));
    let connection = Connection::open(&path).expect("opened");
    connection
        .execute("UPDATE migrations SET checksum = 'else'", [])
        .expect("updated");
    drop(connection);
    let error = refusal(&path);
    assert!(
        matches!(error, OpenError::Changed { number: 1, .. }),
        "{error:?}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn a_database_of_something_else_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.db");
    let connection = Connection::open(&path).expect("opened");
    connection
        .execute("CREATE TABLE recipes (name TEXT)", [])
        .expect("made");
    drop(connection);
    assert!(matches!(refusal(&path), OpenError::Foreign { .. }));
    std::fs::write(&path, "this is a text, and a rather long one at that").expect("written");
    assert!(matches!(refusal(&path), OpenError::Database { .. }));
}

#[test]
fn opening_again_applies_nothing_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    for _ in 0..3 {
        let store = open(directory.path());
        let applied: i64 = store
            .connection
            .query_row("SELECT count(*) FROM migrations", [], |row| row.get(0))
            .expect("counted");
        assert_eq!(usize::try_from(applied), Ok(MIGRATIONS.len()));
    }
}

#[test]
fn migrations_are_in_order_and_none_was_edited() {
    let mut all = String::new();
    assert!(MIGRATIONS.is_sorted_by(|one, next| one.number < next.number));
    for migration in MIGRATIONS {
        let number = migration.number;
        let sum = checksum(migration.sql);
        all.push_str(&format!("{number:04} {} {sum}\n", migration.name));
    }
    // A line of this list never changes once it was released; a migration adds one.
    insta::assert_snapshot!(all);
}
