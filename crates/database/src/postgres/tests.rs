//! PostgreSQL: every case that holds for SQLite, and what holds for it alone. Each test has a
//! server of its own.

mod cases;
mod encrypted;
mod fencing;
mod marks;
mod opening;
mod proxy;

use super::{PostgresAddress, PostgresOptions, PostgresStore, Standing};
use crate::tests::sample::START;
use crate::tests::{Opened, Place, TestStore};
use domain::{SiteId, Timestamp};
use test_postgres::Server;

/// Options of a candidate of its own for the lease.
pub(super) fn options(address: &str, place: &str) -> PostgresOptions {
    let address = PostgresAddress::parse(address).expect("an address");
    let site = (SiteId(5), Timestamp(START));
    PostgresOptions::new(address, site, (place.to_owned(), None)).expect("random numbers")
}

/// A store that leads.
pub(super) fn leading(options: &PostgresOptions) -> PostgresStore {
    let mut store = PostgresStore::open(options.clone()).expect("the store opens");
    assert_eq!(store.try_lead().expect("asked"), Standing::Leads);
    store
}

/// A store that leads, waited for as long as another holds the lease.
pub(super) fn leading_in_the_end(options: &PostgresOptions) -> PostgresStore {
    let mut store = PostgresStore::open(options.clone()).expect("the store opens");
    loop {
        match store.try_lead() {
            Ok(Standing::Leads) => return store,
            Ok(Standing::StandsBy(_)) | Err(_) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

/// A schema of a server for one case.
pub(super) struct Schema {
    options: PostgresOptions,
}

impl Schema {
    pub(super) fn new(server: &Server, name: &str) -> Self {
        let made = server.shell("postgres", &format!("CREATE SCHEMA {name}"));
        made.expect("a new name");
        let mut options = options(&server.address("postgres"), name);
        let path = format!("-c search_path={name}");
        options.address = options.address.with_options(&path);
        Self { options }
    }
}

impl Place for Schema {
    fn open(&self) -> Opened {
        Box::new(leading(&self.options))
    }
}

impl TestStore for PostgresStore {
    fn change(&mut self, sql: &str) {
        let session = self.connected().expect("connected");
        session.batch("change", sql).expect("changed");
    }

    fn number(&mut self, sql: &str) -> i64 {
        let mut found = None;
        let session: &dyn crate::sql::Database = self.connected().expect("connected");
        let read = session.each("look", sql, &[], &mut |row| {
            found = row.get(0).ok();
            Ok(())
        });
        read.expect("read");
        found.expect("a number")
    }
}
