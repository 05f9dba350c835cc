//! Opening: what the server is, whose tables they are, and migrations.

use super::dialect;
use super::session::Session;
use super::{LEASE, PostgresOptions};
use crate::error::{OpenError, Place, StoreError};
use crate::sql::migrations::{self, Applied, LEDGER};
use crate::sql::read::Rows;
use crate::sql::{Database, values};

/// The first version that has what is used here.
const OLDEST_VERSION: i64 = 13;
/// One migrates at a time; any number that others of the database do not use.
const MIGRATION_LOCK: i64 = 0x494E_5355;
/// Longest wait for a row that another transaction has changed.
const LOCK_LIMIT_MS: u64 = 2_000;

/// What is to be known of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) version: String,
    /// It tells of a commit only when that is on its disk.
    pub(super) is_durable: bool,
}

/// Connects, and looks at what is there. Changes nothing.
pub(super) fn connect(
    options: &PostgresOptions,
    place: &Place,
) -> Result<(Session, Server), OpenError> {
    let session = Session::open(&options.address).map_err(|source| OpenError::Database {
        act: "connect to",
        place: place.clone(),
        source,
    })?;
    let error = |source| OpenError::store("prepare", place, source);
    let server = prepare(&session).map_err(error)?;
    let oldest = format!("PostgreSQL {OLDEST_VERSION}");
    let number = |act, sql| one_number(&session, act, sql).map_err(error);
    let version = number(
        "read the server's version",
        "SELECT current_setting('server_version_num')::bigint / 10000",
    )?;
    if version < OLDEST_VERSION {
        return Err(OpenError::Unfit {
            place: place.clone(),
            found: format!("PostgreSQL {}", server.version),
            needed: oldest,
        });
    }
    let is_utf8 = number(
        "read the database's encoding",
        "SELECT count(*) FROM pg_database
         WHERE datname = current_database() AND pg_encoding_to_char(encoding) = 'UTF8'",
    )?;
    if is_utf8 == 0 {
        return Err(OpenError::Unfit {
            place: place.clone(),
            found: "a database of another encoding".to_owned(),
            needed: "one of UTF8".to_owned(),
        });
    }
    let applied = applied(&session).map_err(error)?;
    match applied {
        Some(applied) => migrations::judge(applied, place)?,
        None if has_tables(&session).map_err(error)? => {
            let place = place.clone();
            return Err(OpenError::Foreign { place });
        }
        None => {}
    }
    Ok((session, server))
}

/// Sets what the rest relies on.
fn prepare(session: &Session) -> Result<Server, StoreError> {
    // A leader that stands still in the middle of a write must not keep the lease's row: the
    // server then ends the transaction.
    let settings = format!(
        "SET idle_in_transaction_session_timeout = {}; SET lock_timeout = {LOCK_LIMIT_MS};
         SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0;
         SET standard_conforming_strings = on",
        LEASE.as_millis()
    );
    session.batch("set up the connection", &settings)?;
    let setting = |name: &str| {
        let rows = Rows {
            database: session,
            table: "pg_settings",
            act: "read a setting of the server",
        };
        let found = rows.all(
            "SELECT setting FROM pg_settings WHERE name = ?1",
            values![name],
            |row| row.get::<String>(0),
        )?;
        Ok::<String, StoreError>(found.into_iter().next().unwrap_or_default())
    };
    if setting("synchronous_commit")? == "off" {
        session.batch(
            "have commits wait for the disk",
            "SET synchronous_commit = on",
        )?;
    }
    Ok(Server {
        version: setting("server_version")?,
        is_durable: setting("fsync")? == "on",
    })
}

/// What was applied; `None` without a ledger.
fn applied(session: &Session) -> Result<Option<Vec<Applied>>, StoreError> {
    if has_table(session, "migrations")? {
        migrations::applied(session).map(Some)
    } else {
        Ok(None)
    }
}

fn has_table(session: &Session, name: &str) -> Result<bool, StoreError> {
    let mut found = false;
    session.each(
        "look for a table",
        "SELECT 1::bigint FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?1::text",
        values![name],
        &mut |_| {
            found = true;
            Ok(())
        },
    )?;
    Ok(found)
}

fn has_tables(session: &Session) -> Result<bool, StoreError> {
    let sql = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    Ok(one_number(session, "look for tables", sql)? > 0)
}

fn one_number(session: &Session, act: &'static str, sql: &str) -> Result<i64, StoreError> {
    let rows = Rows {
        database: session,
        table: "pg_catalog",
        act,
    };
    let found = rows.all(sql, values![], |row| row.get::<i64>(0))?;
    Ok(found.first().copied().unwrap_or(0))
}

/// Whether this process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leading {
    Yes,
    NotYet,
}

/// Makes the tables of a new site. Those of a site that there is are changed only by its leader: an
/// older build may be leading.
pub(super) fn migrate(
    session: &Session,
    options: &PostgresOptions,
    leading: Leading,
) -> Result<(), StoreError> {
    let migrated = session.transaction("BEGIN", |database| {
        database.each(
            "wait for others that migrate",
            "SELECT 1::bigint FROM (SELECT pg_advisory_xact_lock(?1::bigint)) AS waited",
            values![MIGRATION_LOCK],
            &mut |_| Ok(()),
        )?;
        let known = applied(session)?;
        if known.is_some() && leading == Leading::NotYet && has_table(session, "lease")? {
            return Ok(());
        }
        if known.is_none() {
            let ledger = dialect::migration(LEDGER);
            session.batch("make the ledger of migrations", &ledger)?;
        }
        for migration in migrations::missing(&known.unwrap_or_default()) {
            session.batch("apply a migration", &dialect::migration(migration.sql))?;
            migrations::remember(database, migration, options.now)?;
        }
        migrations::make_site(database, options.new_site, options.now)
    });
    migrated.map_err(super::session::Failed::into_error)
}
