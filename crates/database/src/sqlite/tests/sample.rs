//! Stores to test with.

use crate::sqlite::{OpenOptions, SqliteStore};
use crate::tests::sample::START;
use crate::tests::{Opened, Place, TestStore};
use domain::{SiteId, Timestamp};
use std::path::Path;

pub(super) fn options() -> OpenOptions {
    OpenOptions {
        new_site: SiteId(5),
        reserve_bytes: 0,
        now: Timestamp(START),
    }
}

pub(super) fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(&directory.join("site.db"), options()).expect("the store opens")
}

/// A directory for the store of a case.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }
}

impl Place for Directory {
    fn open(&self) -> Opened {
        Box::new(open(self.0.path()))
    }
}

impl TestStore for SqliteStore {
    fn change(&mut self, sql: &str) {
        self.connection.execute(sql, []).expect("changed");
    }

    fn number(&mut self, sql: &str) -> i64 {
        let found = self.connection.query_row(sql, [], |row| row.get(0));
        found.expect("a number")
    }
}
