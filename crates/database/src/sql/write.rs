//! Row changes as statements.

use super::{images, read};
use crate::error::StoreError;
use crate::rows::{
    ArrayDocument, MemberDocument, NodeDocument, ROW_VERSION, RecordDocument, RowError,
    SpecDocument, kind_word, status_word, write_document,
};
use crate::sql::{Database, Value, values};
use domain::{
    ArrayRecord, Intention, MemberRecord, NodeRecord, SessionId, SessionRecord, SessionState,
};
use lifecycle::rows::{IdempotencyRow, RowChange, SiteEvent, SiteRow};

/// Writes a batch and counts the commit; returns its number. Only inside a transaction.
pub(crate) fn batch(database: &dyn Database, batch: &[RowChange]) -> Result<u64, StoreError> {
    for one in batch {
        change(database, one)?;
    }
    let sql = "UPDATE commits SET number = number + 1";
    run(database, "count the commit", sql, values![])?;
    read::last_commit(database)
}

/// Writes one change: several statements.
fn change(database: &dyn Database, change: &RowChange) -> Result<(), StoreError> {
    match change {
        RowChange::PutArray { array } => put_array(database, array),
        RowChange::PutSession { session } => put_session(database, session),
        RowChange::DeleteSession { session } => delete_session(database, *session),
        RowChange::PutNode { node } => put_node(database, node),
        RowChange::DeleteNode { node } => run(
            database,
            "delete a node",
            "DELETE FROM nodes WHERE id = ?1",
            values![node.to_string()],
        ),
        RowChange::AddEvent { event } => add_event(database, event),
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
    let key = key.to_string();
    move |source| StoreError::Change { table, key, source }
}

pub(crate) fn signed(number: u64, column: &'static str) -> Result<i64, RowError> {
    i64::try_from(number).map_err(|_| RowError::Number { column })
}

fn put_session(database: &dyn Database, session: &SessionRecord) -> Result<(), StoreError> {
    let id = session.id.to_string();
    let error = || unwritable("sessions", session.id);
    let outcome = match &session.state {
        SessionState::Ended { outcome } => Some(outcome.word()),
        SessionState::Pending
        | SessionState::Placed
        | SessionState::Preparing
        | SessionState::Starting
        | SessionState::Running
        | SessionState::Stopping => None,
    };
    let record = RecordDocument::of(session);
    run(
        database,
        "put a session",
        "INSERT INTO sessions (id, name, domain, project, user_name, kind, array_id, array_index,
             state, outcome, attempt, created_at, started_at, ended_at, removing, row_version,
             spec, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, domain = excluded.domain,
             project = excluded.project, user_name = excluded.user_name, kind = excluded.kind,
             array_id = excluded.array_id, array_index = excluded.array_index,
             state = excluded.state, outcome = excluded.outcome, attempt = excluded.attempt,
             created_at = excluded.created_at, started_at = excluded.started_at,
             ended_at = excluded.ended_at, removing = excluded.removing,
             row_version = excluded.row_version, spec = excluded.spec, record = excluded.record",
        values![
            id,
            session.name.as_str(),
            session.owner.domain,
            session.owner.project,
            session.owner.user,
            kind_word(session.kind),
            session.array.map(|(array, _)| array.to_string()),
            session.array.map(|(_, index)| index),
            session.state.word(),
            outcome,
            session.attempt,
            session.created_at.0,
            session.started_at.map(|at| at.0),
            session.ended_at.map(|at| at.0),
            matches!(session.intention, Intention::Remove { .. }),
            ROW_VERSION,
            write_document(&SpecDocument::from(&session.spec)).map_err(error())?,
            write_document(&record).map_err(error())?,
        ],
    )?;
    // A first attempt that has its members has no others: most sessions have no more than that.
    if session.attempt != 1 || session.members.is_empty() {
        run(
            database,
            "set former members aside",
            "UPDATE members SET is_current = 0 WHERE session_id = ?1 AND is_current = 1",
            values![id],
        )?;
    }
    let former = session.former.iter().map(|member| (member, false));
    let current = session.members.iter().map(|member| (member, true));
    former
        .chain(current)
        .try_for_each(|(member, is_current)| put_member(database, session.id, member, is_current))
}

fn put_member(
    database: &dyn Database,
    session: SessionId,
    member: &MemberRecord,
    is_current: bool,
) -> Result<(), StoreError> {
    let document = MemberDocument::of(member);
    run(
        database,
        "put a member",
        "INSERT INTO members (session_id, attempt, member_index, is_current, node_id, state,
             row_version, record)
         VALUES (?1, ?2, ?3, ?8, ?4, ?5, ?6, ?7)
         ON CONFLICT (session_id, attempt, member_index) DO UPDATE SET
             is_current = excluded.is_current, node_id = excluded.node_id,
             state = excluded.state, row_version = excluded.row_version,
             record = excluded.record",
        values![
            session.to_string(),
            member.id.attempt,
            member.id.index,
            member.node.to_string(),
            member.state.word(),
            ROW_VERSION,
            write_document(&document).map_err(unwritable("members", member.id))?,
            is_current,
        ],
    )
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

/// Deletes a session with its members (by reference) and its events; with the last element of an
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

fn add_event(database: &dyn Database, event: &SiteEvent) -> Result<(), StoreError> {
    let number = signed(event.number, "number").map_err(unwritable("events", event.number))?;
    run(
        database,
        "add an event",
        "INSERT INTO events (number, at, project, session_id, node_id, code, message, array_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        values![
            number,
            event.at.0,
            event.project,
            event.session.map(|session| session.to_string()),
            event.node.map(|node| node.to_string()),
            event.code,
            event.message,
            event.array.map(|array| array.to_string()),
        ],
    )
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
