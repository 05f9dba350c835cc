//! Migrations of the file.

use super::{OpenOptions, sqlite};
use crate::error::{OpenError, Place, StoreError};
use crate::sql::migrations::{self, Applied, LEDGER, Migration};
use process::crash_point;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

/// Refuses a store that a newer build, or a build with other migrations, has made. Changes
/// nothing.
pub(super) fn check(connection: &Connection, place: &Place) -> Result<(), OpenError> {
    let applied = applied(connection).map_err(|source| OpenError::store("read", place, source))?;
    migrations::judge(applied, place)
}

/// Applies what is missing and makes the site's row, each in a transaction of its own.
pub(super) fn apply(
    connection: &mut Connection,
    options: &OpenOptions,
    place: &Place,
) -> Result<(), OpenError> {
    apply_missing(connection, options).map_err(|source| OpenError::store("migrate", place, source))
}

fn apply_missing(connection: &mut Connection, options: &OpenOptions) -> Result<(), StoreError> {
    connection
        .execute_batch(LEDGER)
        .map_err(sqlite("make the ledger of migrations"))?;
    for migration in migrations::missing(&applied(connection)?) {
        apply_one(connection, migration, options)?;
    }
    migrations::make_site(connection, options.new_site, options.now)?;
    crash_point("migrate.site-made");
    Ok(())
}

fn apply_one(
    connection: &mut Connection,
    migration: &Migration,
    options: &OpenOptions,
) -> Result<(), StoreError> {
    let error = sqlite;
    let act = "apply a migration";
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(error(act))?;
    transaction
        .execute_batch(migration.sql)
        .map_err(error(act))?;
    migrations::remember(&*transaction, migration, options.now)?;
    crash_point("migrate.applied");
    transaction.commit().map_err(error(act))?;
    crash_point("migrate.committed");
    Ok(())
}

/// What was applied, ascending; nothing for a file without the ledger.
fn applied(connection: &Connection) -> Result<Vec<Applied>, StoreError> {
    let ledger = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'",
            [],
            |_| Ok(()),
        )
        .optional()
        .map_err(sqlite("look for the ledger of migrations"))?;
    match ledger {
        Some(()) => migrations::applied(connection),
        None => Ok(Vec::new()),
    }
}
