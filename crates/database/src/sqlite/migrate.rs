//! Migrations: numbered files, each applied once, in order, and remembered with its checksum.

use super::OpenOptions;
use crate::error::OpenError;
use domain::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// One numbered file of `migrations/`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// All of them, ascending and without gaps. One that was released is never edited.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "sites-and-sessions",
        sql: include_str!("../../../../migrations/0001-sites-and-sessions.sql"),
    },
    Migration {
        number: 2,
        name: "arrays",
        sql: include_str!("../../../../migrations/0002-arrays.sql"),
    },
    Migration {
        number: 3,
        name: "images",
        sql: include_str!("../../../../migrations/0003-images.sql"),
    },
    Migration {
        number: 4,
        name: "case-twins",
        sql: include_str!("../../../../migrations/0004-case-twins.sql"),
    },
    Migration {
        number: 5,
        name: "restored-stores",
        sql: include_str!("../../../../migrations/0005-restored-stores.sql"),
    },
];

const LEDGER: &str = "
    CREATE TABLE IF NOT EXISTS migrations (
        number     INTEGER NOT NULL PRIMARY KEY,
        name       TEXT    NOT NULL,
        checksum   TEXT    NOT NULL,
        applied_at INTEGER NOT NULL
    ) STRICT";

/// A migration that was applied.
struct Applied {
    number: u32,
    name: String,
    checksum: String,
    applied_at: i64,
}

/// The SHA-256 of a migration, in hexadecimal digits.
pub(super) fn checksum(sql: &str) -> String {
    Sha256::digest(sql.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes everything");
            text
        })
}

/// Refuses a store that a newer build, or a build with other migrations, has made. Changes
/// nothing.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let error = |source| OpenError::Database {
        act: "read",
        path: path.to_owned(),
        source,
    };
    let applied = applied(connection).map_err(error)?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
    if let Some(newest) = applied.last().filter(|newest| newest.number > known) {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: newest.number,
            known,
        });
    }
    for row in applied {
        let ours = MIGRATIONS
            .iter()
            .find(|migration| migration.number == row.number);
        if ours.is_none_or(|migration| checksum(migration.sql) != row.checksum) {
            return Err(OpenError::Changed {
                path: path.to_owned(),
                number: row.number,
                name: row.name,
                applied_at: Timestamp(row.applied_at),
            });
        }
    }
    Ok(())
}

/// Applies what is missing and makes the site's row, each in a transaction of its own.
pub(super) fn apply(
    connection: &mut Connection,
    options: &OpenOptions,
    path: &Path,
) -> Result<(), OpenError> {
    let error = |source| OpenError::Database {
        act: "migrate",
        path: path.to_owned(),
        source,
    };
    connection.execute_batch(LEDGER).map_err(error)?;
    let last = applied(connection)
        .map_err(error)?
        .last()
        .map_or(0, |row| row.number);
    for migration in MIGRATIONS
        .iter()
        .filter(|migration| migration.number > last)
    {
        apply_one(connection, migration, options).map_err(error)?;
        tracing::info!(migration.number, migration.name, "applied a migration");
    }
    make_site(connection, options).map_err(error)
}

fn apply_one(
    connection: &mut Connection,
    migration: &Migration,
    options: &OpenOptions,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(migration.sql)?;
    transaction.execute(
        "INSERT INTO migrations (number, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
        params![
            migration.number,
            migration.name,
            checksum(migration.sql),
            options.now.0
        ],
    )?;
    transaction.commit()
}

fn make_site(connection: &Connection, options: &OpenOptions) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO site (only_row, id, incarnation, epoch, next_event, created_at)
         VALUES (1, ?1, 1, 0, 1, ?2) ON CONFLICT DO NOTHING",
        params![options.new_site.to_string(), options.now.0],
    )?;
    Ok(())
}

/// What was applied, ascending; nothing for a file without the ledger.
fn applied(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    let ledger = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'",
            [],
            |_| Ok(()),
        )
        .optional()?;
    if ledger.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = connection
        .prepare("SELECT number, name, checksum, applied_at FROM migrations ORDER BY number")?;
    let rows = statement.query_map([], |row| {
        Ok(Applied {
            number: row.get(0)?,
            name: row.get(1)?,
            checksum: row.get(2)?,
            applied_at: row.get(3)?,
        })
    })?;
    rows.collect()
}
