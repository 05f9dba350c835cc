//! Opening the file: settings of the connection, and whose file it is.

use super::OpenOptions;
use super::migrate;
use crate::error::{DatabaseError, OpenError, Place};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// Marks the file as a store of Insula: `INSU` in ASCII.
const APPLICATION_ID: i64 = 0x494E_5355;
/// How long a statement waits for an operator's shell that reads the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements that are kept; there are fewer kinds than this.
const STATEMENTS_KEPT: usize = 64;
/// Most bytes that the write-ahead log keeps on disk after a checkpoint.
const LOG_LIMIT_BYTES: i64 = 16 << 20;
/// Pages in the log after which a commit moves them into the file; SQLite's own default.
pub(super) const LOG_PAGES: u32 = 1_000;
/// The same while the reserve is used: every commit does, so that the log stays as small as one
/// commit and does not eat what the file needs to grow.
pub(super) const LOG_PAGES_FULL_DISK: u32 = 1;
/// Page cache in KiB, as SQLite wants it: negative.
const CACHE_KIB: i64 = -16_384;

/// Opens, checks and migrates the file at `path`.
pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Connection, OpenError> {
    let place = &Place::File(path.to_owned());
    let error = |act: &'static str| {
        move |source| OpenError::Database {
            act,
            place: place.clone(),
            source: DatabaseError::Sqlite(source),
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(error("open the store"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(error("set the busy timeout of"))?;
    // Whose file it is comes first: nothing that is not ours is changed.
    check_owner(&connection, place)?;
    migrate::check(&connection, place)?;
    configure(&connection).map_err(error("configure"))?;
    migrate::apply(&mut connection, options, place)?;
    Ok(connection)
}

/// Refuses a database that another program made. An empty one is ours to fill.
fn check_owner(connection: &Connection, place: &Place) -> Result<(), OpenError> {
    let error = |source| OpenError::Database {
        act: "read",
        place: place.clone(),
        source: DatabaseError::Sqlite(source),
    };
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let marked = number("PRAGMA application_id").map_err(error)?;
    let tables = number("SELECT count(*) FROM sqlite_schema").map_err(error)?;
    if marked == APPLICATION_ID || (marked == 0 && tables == 0) {
        Ok(())
    } else {
        Err(OpenError::Foreign {
            place: place.clone(),
        })
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    let marked: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if marked != APPLICATION_ID {
        // Setting it writes to the file, even where it changes nothing.
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A corrupt schema must not run code of its own.
    connection.pragma_update(None, "trusted_schema", false)
}

/// Sets after how many pages in the log a commit moves them into the file.
pub(super) fn set_log_pages(connection: &Connection, pages: u32) {
    // It can only fail as a statement that SQLite does not know would.
    if let Err(error) = connection.pragma_update(None, "wal_autocheckpoint", pages) {
        tracing::error!(%error, "the log's length could not be set");
    }
}
