//! Retention: deletes what is old, a bounded number of rows per call.

use super::reserve::Reserve;
use super::{commit, database, write};
use crate::error::{CommitError, StoreError};
use crate::store::{PruneReport, Retention};
use domain::{SessionId, Span, Timestamp};
use rusqlite::{Connection, params};

/// A session that is being removed stays: its members' files are not gone yet.
pub(super) const OLD_SESSIONS: &str = "SELECT id FROM sessions
     WHERE state = 'ended' AND ended_at < ?1 AND removing = 0 ORDER BY ended_at LIMIT ?2";

pub(super) const DELETE_EVENTS: &str = "DELETE FROM events WHERE number IN
     (SELECT number FROM events WHERE at < ?1 ORDER BY at LIMIT ?2)";

pub(super) const DELETE_KEYS: &str = "DELETE FROM idempotency_keys WHERE rowid IN
     (SELECT rowid FROM idempotency_keys WHERE at < ?1 ORDER BY at LIMIT ?2)";

pub(super) fn prune(
    connection: &mut Connection,
    reserve: &mut Reserve,
    limits: &Retention,
    now: Timestamp,
) -> Result<PruneReport, StoreError> {
    let report = commit::with_reserve(connection, reserve, |connection| {
        delete_old(connection, limits, now)
    });
    // A prune that is not on the disk is done again by the next call, so that its result is
    // unknown matters to nobody.
    report.map_err(|error| match error {
        CommitError::Refused { source } | CommitError::Unknown { source } => source,
    })
}

fn delete_old(
    connection: &Connection,
    limits: &Retention,
    now: Timestamp,
) -> Result<PruneReport, StoreError> {
    let limit = limits.rows_per_call;
    let sessions = old_sessions(connection, before(now, limits.ended_sessions), limit)?;
    for session in &sessions {
        write::delete_session(connection, *session)?;
    }
    let delete = |sql: &str, act: &'static str, span: Span| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params![before(now, span), limit]))
            .map_err(database(act))
    };
    let events = delete(DELETE_EVENTS, "delete old events", limits.events)?;
    let keys = delete(
        DELETE_KEYS,
        "delete old idempotency keys",
        limits.idempotency_keys,
    )?;
    let full = |count: usize| u32::try_from(count).is_ok_and(|count| count == limit);
    Ok(PruneReport {
        more: limit > 0 && (full(sessions.len()) || full(events) || full(keys)),
        sessions,
        events: u64::try_from(events).expect("a count fits 64 bits"),
        idempotency_keys: u64::try_from(keys).expect("a count fits 64 bits"),
    })
}

fn old_sessions(
    connection: &Connection,
    before: i64,
    limit: u32,
) -> Result<Vec<SessionId>, StoreError> {
    let act = "find old sessions";
    let mut statement = connection
        .prepare_cached(OLD_SESSIONS)
        .map_err(database(act))?;
    let ids = statement
        .query_map(params![before, limit], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>)
        .map_err(database(act))?;
    ids.into_iter()
        .map(|id| {
            id.parse().map_err(|error| StoreError::Row {
                table: "sessions",
                key: id.clone(),
                source: crate::rows::RowError::from(error),
            })
        })
        .collect()
}

/// The moment `span` before `now`.
fn before(now: Timestamp, span: Span) -> i64 {
    now.0
        .saturating_sub(i64::try_from(span.micros()).unwrap_or(i64::MAX))
}
