//! Every case that holds for SQLite, each in a schema of its own of one server.

use super::Schema;
use crate::tests::CASES;
use std::panic::{AssertUnwindSafe, catch_unwind};
use test_postgres::Server;

#[test]
fn every_case_holds_on_postgresql() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut failed = Vec::new();
    for (number, (name, case)) in CASES.iter().enumerate() {
        let schema = Schema::new(&server, &format!("case_{number}"));
        println!("{name}");
        if catch_unwind(AssertUnwindSafe(|| case(&schema))).is_err() {
            failed.push(*name);
        }
    }
    assert!(!CASES.is_empty() && failed.is_empty(), "{failed:?}");
}
