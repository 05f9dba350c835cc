//! Retention: deletes what is old, a bounded number of rows per call.

use super::read::Rows;
use super::write;
use crate::error::StoreError;
use crate::sql::{Database, values};
use crate::store::{PruneReport, Retention};
use domain::{SessionId, Span, Timestamp};

/// A session that is being removed stays: its members' files are not gone yet.
pub(crate) const OLD_SESSIONS: &str = "SELECT id FROM sessions
     WHERE outcome IS NOT NULL AND ended_at < ?1 AND removing = 0 ORDER BY ended_at LIMIT ?2";

pub(crate) const DELETE_EVENTS: &str = "DELETE FROM events WHERE number IN
     (SELECT number FROM events WHERE at < ?1 ORDER BY at LIMIT ?2)";

pub(crate) const DELETE_KEYS: &str = "DELETE FROM idempotency_keys WHERE (user_name, key) IN
     (SELECT user_name, key FROM idempotency_keys WHERE at < ?1 ORDER BY at LIMIT ?2)";

/// Deletes rows past their retention. Only inside a transaction.
pub(crate) fn delete_old(
    database: &dyn Database,
    limits: &Retention,
    now: Timestamp,
) -> Result<PruneReport, StoreError> {
    let limit = limits.rows_per_call;
    let sessions = old_sessions(database, before(now, limits.ended_sessions), limit)?;
    for session in &sessions {
        write::delete_session(database, *session)?;
    }
    let delete = |sql: &str, act: &'static str, span: Span| {
        database.count(act, sql, values![before(now, span), limit])
    };
    let events = delete(DELETE_EVENTS, "delete old events", limits.events)?;
    let keys = delete(
        DELETE_KEYS,
        "delete old idempotency keys",
        limits.idempotency_keys,
    )?;
    let full = |count: u64| count == u64::from(limit);
    Ok(PruneReport {
        more: limit > 0 && (full(sessions.len() as u64) || full(events) || full(keys)),
        sessions,
        events,
        idempotency_keys: keys,
    })
}

fn old_sessions(
    database: &dyn Database,
    before: i64,
    limit: u32,
) -> Result<Vec<SessionId>, StoreError> {
    let rows = Rows {
        database,
        table: "sessions",
        act: "find old sessions",
    };
    rows.all(OLD_SESSIONS, values![before, limit], |row| {
        Ok(row.get::<String>(0)?.parse()?)
    })
}

/// The moment `span` before `now`.
fn before(now: Timestamp, span: Span) -> i64 {
    now.0
        .saturating_sub(i64::try_from(span.micros()).unwrap_or(i64::MAX))
}
