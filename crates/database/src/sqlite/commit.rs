//! The one write path: a batch in one transaction, with the reserve behind it.

use super::reserve::Reserve;
use super::{open, sqlite};
use crate::error::{CommitError, StoreError};
use crate::sql::{Database, read, write};
use lifecycle::rows::RowChange;
use rusqlite::Connection;

/// How far a transaction came before it failed: before its end it is rolled back for sure.
enum Failed {
    Before(StoreError),
    AtEnd(rusqlite::Error),
}

/// Commits `batch`; on a full disk gives up the reserve and tries once more.
pub(super) fn commit(
    connection: &mut Connection,
    reserve: &mut Reserve,
    batch: &[RowChange],
) -> Result<u64, CommitError> {
    if batch.is_empty() {
        return read::last_commit(connection).map_err(|source| CommitError::Refused { source });
    }
    with_reserve(connection, reserve, |database| {
        write::batch(database, batch)
    })
}

/// Runs `work` in a transaction. On a full disk it gives up the reserve, moves the log's pages
/// into the file so that the log's own blocks can be written again, and tries once more.
pub(super) fn with_reserve<T>(
    connection: &mut Connection,
    reserve: &mut Reserve,
    work: impl Fn(&dyn Database) -> Result<T, StoreError>,
) -> Result<T, CommitError> {
    let result = transact(connection, &work);
    let Err(CommitError::Refused { source }) = &result else {
        return result;
    };
    if !source.is_full() {
        return result;
    }
    let gave = reserve.spend();
    if gave {
        tracing::warn!("the disk of the store is full: its reserve is used");
        open::set_log_pages(connection, open::LOG_PAGES_FULL_DISK);
    }
    if !empty_log(connection) && !gave {
        return result;
    }
    transact(connection, &work)
}

/// Moves the log's pages into the file as far as readers and the disk allow. True if that was all
/// of them: the next commit then writes the log from its beginning.
fn empty_log(connection: &Connection) -> bool {
    let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    moved.is_ok_and(|(in_log, moved)| in_log > 0 && in_log == moved)
}

fn transact<T>(
    connection: &Connection,
    work: &impl Fn(&dyn Database) -> Result<T, StoreError>,
) -> Result<T, CommitError> {
    match attempt(connection, work) {
        Ok(value) => Ok(value),
        Err(Failed::Before(source)) => Err(CommitError::Refused { source }),
        Err(Failed::AtEnd(source)) => {
            let refused = is_refusal(&source);
            let source = sqlite("commit")(source);
            Err(if refused {
                CommitError::Refused { source }
            } else {
                CommitError::Unknown { source }
            })
        }
    }
}

fn attempt<T>(
    connection: &Connection,
    work: &impl Fn(&dyn Database) -> Result<T, StoreError>,
) -> Result<T, Failed> {
    let run = |sql: &str| connection.prepare_cached(sql)?.execute([]);
    run("BEGIN IMMEDIATE").map_err(|error| Failed::Before(sqlite("begin a commit")(error)))?;
    let result = work(connection).map_err(Failed::Before).and_then(|value| {
        run("COMMIT").map_err(Failed::AtEnd)?;
        Ok(value)
    });
    // Some errors have rolled back by themselves; of the others nothing may stay open.
    if result.is_err()
        && !connection.is_autocommit()
        && let Err(error) = run("ROLLBACK")
    {
        tracing::error!(%error, "a failed commit could not be rolled back");
    }
    result
}

/// Whether an error at the end of a transaction says that it is not on the disk. A full disk cuts
/// the log off before the frame that would make it a commit; of an I/O error, most of all a
/// failed sync, nobody knows what the disk holds.
fn is_refusal(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;
    crate::error::is_full(error)
        || error.sqlite_error_code().is_some_and(|code| {
            matches!(
                code,
                Code::DatabaseBusy
                    | Code::DatabaseLocked
                    | Code::ConstraintViolation
                    | Code::OutOfMemory
                    | Code::ReadOnly
            )
        })
}
