//! Migrations: numbered files, each applied once, in order, and remembered with its checksum.

use super::read::Rows;
use super::{Database, values};
use crate::error::{OpenError, Place, StoreError};
use domain::{SiteId, Timestamp};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// One numbered file of `migrations/`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// All of them, ascending. One that was released is never edited.
pub(crate) const MIGRATIONS: &[Migration] = &[
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
    Migration {
        number: 6,
        name: "lease",
        sql: include_str!("../../../../migrations/0006-lease.sql"),
    },
    Migration {
        number: 7,
        name: "drained-and-removed-nodes",
        sql: include_str!("../../../../migrations/0007-drained-and-removed-nodes.sql"),
    },
    Migration {
        number: 8,
        name: "history-of-what-ended",
        sql: include_str!("../../../../migrations/0008-history-of-what-ended.sql"),
    },
];

/// The table that remembers what was applied.
pub(crate) const LEDGER: &str = "
    CREATE TABLE IF NOT EXISTS migrations (
        number     INTEGER NOT NULL PRIMARY KEY,
        name       TEXT    NOT NULL,
        checksum   TEXT    NOT NULL,
        applied_at INTEGER NOT NULL
    ) STRICT;";

/// A migration that was applied.
#[derive(Debug)]
pub(crate) struct Applied {
    number: u32,
    name: String,
    checksum: String,
    applied_at: i64,
}

/// The SHA-256 of a migration, in hexadecimal digits.
pub(crate) fn checksum(sql: &str) -> String {
    Sha256::digest(sql.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes everything");
            text
        })
}

/// What was applied, ascending. The ledger has to be there.
pub(crate) fn applied(database: &dyn Database) -> Result<Vec<Applied>, StoreError> {
    let rows = Rows {
        database,
        table: "migrations",
        act: "read which migrations were applied",
    };
    let sql = "SELECT number, name, checksum, applied_at FROM migrations ORDER BY number";
    rows.all(sql, values![], |row| {
        Ok(Applied {
            number: row.get(0)?,
            name: row.get(1)?,
            checksum: row.get(2)?,
            applied_at: row.get(3)?,
        })
    })
}

/// Refuses a store that a newer build, or a build with other migrations, has made.
pub(crate) fn judge(applied: Vec<Applied>, place: &Place) -> Result<(), OpenError> {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
    if let Some(newest) = applied.last().filter(|newest| newest.number > known) {
        return Err(OpenError::Newer {
            place: place.clone(),
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
                place: place.clone(),
                number: row.number,
                name: row.name,
                applied_at: Timestamp(row.applied_at),
            });
        }
    }
    Ok(())
}

/// Those that were not applied yet, in order.
pub(crate) fn missing(applied: &[Applied]) -> Vec<&'static Migration> {
    let is_missing =
        |migration: &&Migration| applied.iter().all(|row| row.number != migration.number);
    MIGRATIONS.iter().filter(is_missing).collect()
}

/// Writes down that a migration was applied, in the transaction that applied it.
pub(crate) fn remember(
    database: &dyn Database,
    migration: &Migration,
    now: Timestamp,
) -> Result<(), StoreError> {
    tracing::info!(migration.number, migration.name, "applies a migration");
    database.run(
        "write down a migration",
        "INSERT INTO migrations (number, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
        values![
            migration.number,
            migration.name,
            checksum(migration.sql),
            now.0
        ],
    )
}

/// Makes the site's row, unless there is one.
pub(crate) fn make_site(
    database: &dyn Database,
    site: SiteId,
    now: Timestamp,
) -> Result<(), StoreError> {
    database.run(
        "make the site's row",
        "INSERT INTO site (only_row, id, incarnation, epoch, next_event, created_at)
         VALUES (1, ?1, 1, 0, 1, ?2) ON CONFLICT DO NOTHING",
        values![site.to_string(), now.0],
    )
}
