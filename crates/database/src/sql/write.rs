//! Row changes as statements.

mod sessions;

use super::many::Insertion;
use super::{images, read};
use crate::error::StoreError;
use crate::rows::{
    ArrayDocument, NodeDocument, ROW_VERSION, RowError, SpecDocument, status_word, write_document,
};
use crate::sql::{AsValue, Database, Value, values};
use domain::{ArrayRecord, NodeRecord, SessionId};
use lifecycle::rows::{IdempotencyRow, RowChange, SiteRow};
use std::mem::discriminant;

/// Writes a batch and counts the commit; returns its number. Only inside a transaction.
pub(crate) fn batch(database: &dyn Database, batch: &[RowChange]) -> Result<u64, StoreError> {
    // Rows of a kind come together, as the core tells them.
    for run in batch.chunk_by(|one, next| discriminant(one) == discriminant(next)) {
        changes(database, run)?;
    }
    let sql = "UPDATE commits SET number = number + 1";
    run(database, "count the commit", sql, values![])?;
    read::last_commit(database)
}

/// Writes changes of one kind.
fn changes(database: &dyn Database, run: &[RowChange]) -> Result<(), StoreError> {
    match run {
        [RowChange::PutSession { .. }, ..] => sessions::put(database, run),
        [RowChange::AddEvent { .. }, ..] => add_events(database, run),
        others => others.iter().try_for_each(|one| change(database, one)),
    }
}

/// Writes one change: several statements.
fn change(database: &dyn Database, change: &RowChange) -> Result<(), StoreError> {
    match change {
        RowChange::PutSession { .. } | RowChange::AddEvent { .. } => {
            changes(database, std::slice::from_ref(change))
        }
        RowChange::PutArray { array } => put_array(database, array),
        RowChange::DeleteSession { session } => delete_session(database, *session),
        RowChange::PutNode { node } => put_node(database, node),
        RowChange::DeleteNode { node } => run(
            database,
            "delete a node",
            "DELETE FROM nodes WHERE id = ?1",
            values![node.to_string()],
        ),
        RowChange::PutIdempotencyKey { key } => put_key(database, key),
        RowChange::PutSite { site } => put_site(database, site),
        RowChange::PutImage { image } => images::put_image(database, image),
        RowChange::DeleteImage { owner, image } => images::delete_image(database, owner, *image),
        RowChange::PutImageName { name } => images::put_name(database, name),
        RowChange::DeleteImageName { owner, name } => images::delete_name(database, owner, name),
    }
}

pub(crate) fn run(
    database: &dyn Database,
    act: &'static str,
    sql: &str,
    values: &[Value<'_>],
) -> Result<(), StoreError> {
    database.run(act, sql, values)
}

/// Names the row in an error of conversion.
pub(crate) fn unwritable(
    table: &'static str,
    key: impl ToString,
) -> impl FnOnce(RowError) -> StoreError {
    move |source| {
        let key = key.to_string();
        StoreError::Change { table, key, source }
    }
}

pub(crate) fn signed(number: u64, column: &'static str) -> Result<i64, RowError> {
    i64::try_from(number).map_err(|_| RowError::Number { column })
}

fn put_array(database: &dyn Database, array: &ArrayRecord) -> Result<(), StoreError> {
    let error = || unwritable("arrays", array.id);
    run(
        database,
        "put an array",
        "INSERT INTO arrays (id, name, domain, project, user_name, size, throttle, digest,
             created_at, row_version, spec, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, domain = excluded.domain,
             project = excluded.project, user_name = excluded.user_name, size = excluded.size,
             throttle = excluded.throttle, digest = excluded.digest,
             created_at = excluded.created_at, row_version = excluded.row_version,
             spec = excluded.spec, record = excluded.record",
        values![
            array.id.to_string(),
            array.name.as_str(),
            array.owner.domain,
            array.owner.project,
            array.owner.user,
            array.size,
            array.throttle,
            array.digest,
            array.created_at.0,
            ROW_VERSION,
            write_document(&SpecDocument::from(&array.template)).map_err(error())?,
            write_document(&ArrayDocument::from(array)).map_err(error())?,
        ],
    )
}

/// Deletes a session with its members and its events; with the last element of an
/// array the array and what happened to it.
pub(crate) fn delete_session(database: &dyn Database, id: SessionId) -> Result<(), StoreError> {
    let id = id.to_string();
    // Is this the last element of its array?
    run(
        database,
        "delete an array's events",
        "DELETE FROM events WHERE session_id IS NULL
             AND array_id = (SELECT array_id FROM sessions WHERE id = ?1)
             AND NOT EXISTS (SELECT 1 FROM sessions AS other
                 WHERE other.array_id = events.array_id AND other.id <> ?1)",
        values![&id],
    )?;
    run(
        database,
        "delete an array",
        "DELETE FROM arrays WHERE id = (SELECT array_id FROM sessions WHERE id = ?1)
             AND NOT EXISTS (SELECT 1 FROM sessions AS other
                 WHERE other.array_id = arrays.id AND other.id <> ?1)",
        values![&id],
    )?;
    run(
        database,
        "delete a session's members",
        "DELETE FROM members WHERE session_id = ?1",
        values![&id],
    )?;
    run(
        database,
        "delete a session's events",
        "DELETE FROM events WHERE session_id = ?1",
        values![&id],
    )?;
    run(
        database,
        "delete a session",
        "DELETE FROM sessions WHERE id = ?1",
        values![&id],
    )
}

fn put_node(database: &dyn Database, node: &NodeRecord) -> Result<(), StoreError> {
    let error = || unwritable("nodes", node.id);
    let (drain, removal) = (node.drain.as_ref(), node.removal.as_ref());
    run(
        database,
        "put a node",
        "INSERT INTO nodes (id, name, pool, status, generation, row_version, record,
             drained_by, drained_at, drain_reason, removed_by, removed_at, removed_lost)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, pool = excluded.pool,
             status = excluded.status, generation = excluded.generation,
             row_version = excluded.row_version, record = excluded.record,
             drained_by = excluded.drained_by, drained_at = excluded.drained_at,
             drain_reason = excluded.drain_reason, removed_by = excluded.removed_by,
             removed_at = excluded.removed_at, removed_lost = excluded.removed_lost",
        values![
            node.id.to_string(),
            node.name,
            node.pool,
            status_word(node.status),
            signed(node.generation, "generation").map_err(error())?,
            ROW_VERSION,
            write_document(&NodeDocument::of(node)).map_err(error())?,
            drain.map(|order| order.by.as_str()),
            drain.map(|order| order.at.0),
            drain.map(|order| order.reason.as_str()),
            removal.map(|order| order.by.as_str()),
            removal.map(|order| order.at.0),
            removal.map(|order| order.lost),
        ],
    )
}

static EVENTS: Insertion = Insertion::new(
    "add events",
    "INSERT INTO events (number, at, project, session_id, node_id, code, message, array_id)",
    8,
    "",
);

fn add_events(database: &dyn Database, run: &[RowChange]) -> Result<(), StoreError> {
    let mut rows = EVENTS.rows(database);
    for change in run {
        let RowChange::AddEvent { event } = change else {
            continue;
        };
        let number = signed(event.number, "number").map_err(unwritable("events", event.number))?;
        rows.add([
            Value::Number(number),
            Value::Number(event.at.0),
            event.project.as_value(),
            text_or_null(event.session),
            text_or_null(event.node),
            event.code.as_value(),
            event.message.as_value(),
            text_or_null(event.array),
        ])?;
    }
    rows.finish()
}

/// An id, if there is one.
fn text_or_null<'a>(id: Option<impl ToString>) -> Value<'a> {
    id.map_or(Value::Null, |id| id.to_string().into())
}

fn put_key(database: &dyn Database, row: &IdempotencyRow) -> Result<(), StoreError> {
    run(
        database,
        "put an idempotency key",
        "INSERT INTO idempotency_keys (user_name, key, digest, session_id, at, array_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (user_name, key) DO UPDATE SET digest = excluded.digest,
             session_id = excluded.session_id, at = excluded.at, array_id = excluded.array_id",
        values![
            row.user,
            row.key,
            row.digest,
            row.session.to_string(),
            row.at.0,
            row.array.map(|array| array.to_string()),
        ],
    )
}

fn put_site(database: &dyn Database, site: &SiteRow) -> Result<(), StoreError> {
    let number = |number, column| signed(number, column).map_err(unwritable("site", site.id));
    run(
        database,
        "put the site",
        "UPDATE site SET id = ?1, incarnation = ?2, epoch = ?3, next_event = ?4,
         restored_epoch = ?5",
        values![
            site.id.to_string(),
            number(site.incarnation, "incarnation")?,
            number(site.epoch, "epoch")?,
            number(site.next_event, "next_event")?,
            number(site.restored_epoch, "restored_epoch")?,
        ],
    )
}
