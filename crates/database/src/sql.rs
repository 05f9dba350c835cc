//! What stores of either kind have in common: statements, and how rows become records.
//!
//! The statements stand here once, in the subset of SQL that SQLite and PostgreSQL share: numbers
//! of 64 bits and text, `?1` for the first value. What is SQLite's alone, an index that a query is
//! bound to (`INDEXED BY`) or kept from (`+column`), PostgreSQL's side leaves out.

pub(crate) mod arrays;
pub(crate) mod history;
pub(crate) mod images;
mod many;
pub(crate) mod migrations;
pub(crate) mod prune;
pub(crate) mod read;
mod values;
pub(crate) mod write;

pub(crate) use values::{AsValue, Columns, Value, values};

use crate::error::StoreError;

/// What is done with each row of a query.
pub(crate) type TakeRow<'a> = dyn FnMut(&dyn Columns) -> Result<(), StoreError> + 'a;

/// A connection, most often within a transaction. `act` names in errors what a statement is for.
pub(crate) trait Database {
    /// Runs a statement that has no result. It may be run later, in its order: what comes next
    /// with a result, or the end of the transaction, then has its error.
    fn run(&self, act: &'static str, sql: &str, values: &[Value<'_>]) -> Result<(), StoreError>;

    /// Runs a statement and tells how many rows it changed.
    fn count(&self, act: &'static str, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError>;

    /// Runs a query and hands over its rows one by one.
    fn each(
        &self,
        act: &'static str,
        sql: &str,
        values: &[Value<'_>],
        take: &mut TakeRow<'_>,
    ) -> Result<(), StoreError>;
}
