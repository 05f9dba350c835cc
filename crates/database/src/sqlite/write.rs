//! Row changes as statements.

use super::{database, images};
use crate::error::StoreError;
use crate::rows::{
    ArrayDocument, MemberDocument, NodeDocument, ROW_VERSION, RecordDocument, RowError,
    SpecDocument, kind_word, status_word, write_document,
};
use domain::{
    ArrayRecord, Intention, MemberRecord, NodeRecord, SessionId, SessionRecord, SessionState,
};
use lifecycle::rows::{IdempotencyRow, RowChange, SiteEvent, SiteRow};
use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

/// Writes one change. Only inside a transaction: a change is several statements.
pub(super) fn change(connection: &Connection, change: &RowChange) -> Result<(), StoreError> {
    match change {
        RowChange::PutArray { array } => put_array(connection, array),
        RowChange::PutSession { session } => put_session(connection, session),
        RowChange::DeleteSession { session } => delete_session(connection, *session),
        RowChange::PutNode { node } => put_node(connection, node),
        RowChange::DeleteNode { node } => run(
            connection,
            "delete a node",
            "DELETE FROM nodes WHERE id = ?1",
            params![node.to_string()],
        ),
        RowChange::AddEvent { event } => add_event(connection, event),
        RowChange::PutIdempotencyKey { key } => put_key(connection, key),
        RowChange::PutSite { site } => put_site(connection, site),
        RowChange::PutImage { image } => images::put_image(connection, image),
        RowChange::DeleteImage { owner, image } => images::delete_image(connection, owner, *image),
        RowChange::PutImageName { name } => images::put_name(connection, name),
        RowChange::DeleteImageName { owner, name } => images::delete_name(connection, owner, name),
    }
}

pub(super) fn run(
    connection: &Connection,
    act: &'static str,
    sql: &str,
    values: &[&dyn ToSql],
) -> Result<(), StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(values))
        .map(|_| ())
        .map_err(database(act))
}

/// Names the row in an error of conversion.
pub(super) fn unwritable(
    table: &'static str,
    key: impl ToString,
) -> impl FnOnce(RowError) -> StoreError {
    let key = key.to_string();
    move |source| StoreError::Change { table, key, source }
}

pub(super) fn signed(number: u64, column: &'static str) -> Result<i64, RowError> {
    i64::try_from(number).map_err(|_| RowError::Number { column })
}

fn put_session(connection: &Connection, session: &SessionRecord) -> Result<(), StoreError> {
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
        connection,
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
        params![
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
    run(
        connection,
        "set former members aside",
        "UPDATE members SET is_current = 0 WHERE session_id = ?1 AND is_current = 1",
        params![id],
    )?;
    let former = session.former.iter().map(|member| (member, false));
    let current = session.members.iter().map(|member| (member, true));
    former
        .chain(current)
        .try_for_each(|(member, is_current)| put_member(connection, session.id, member, is_current))
}

fn put_member(
    connection: &Connection,
    session: SessionId,
    member: &MemberRecord,
    is_current: bool,
) -> Result<(), StoreError> {
    let document = MemberDocument::of(member);
    run(
        connection,
        "put a member",
        "INSERT INTO members (session_id, attempt, member_index, is_current, node_id, state,
             row_version, record)
         VALUES (?1, ?2, ?3, ?8, ?4, ?5, ?6, ?7)
         ON CONFLICT (session_id, attempt, member_index) DO UPDATE SET
             is_current = excluded.is_current, node_id = excluded.node_id,
             state = excluded.state, row_version = excluded.row_version,
             record = excluded.record",
        params![
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

fn put_array(connection: &Connection, array: &ArrayRecord) -> Result<(), StoreError> {
    let error = || unwritable("arrays", array.id);
    run(
        connection,
        "put an array",
        "INSERT INTO arrays (id, name, domain, project, user_name, size, throttle, digest,
             created_at, row_version, spec, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, domain = excluded.domain,
             project = excluded.project, user_name = excluded.user_name, size = excluded.size,
             throttle = excluded.throttle, digest = excluded.digest,
             created_at = excluded.created_at, row_version = excluded.row_version,
             spec = excluded.spec, record = excluded.record",
        params![
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
pub(super) fn delete_session(connection: &Connection, id: SessionId) -> Result<(), StoreError> {
    let id = id.to_string();
    let array = connection
        .prepare_cached("SELECT array_id FROM sessions WHERE id = ?1")
        .and_then(|mut statement| {
            let found = statement.query_row(params![id], |row| row.get::<_, Option<String>>(0));
            found.optional()
        })
        .map_err(database("look for a session's array"))?
        .flatten();
    run(
        connection,
        "delete a session's events",
        "DELETE FROM events WHERE session_id = ?1",
        params![id],
    )?;
    run(
        connection,
        "delete a session",
        "DELETE FROM sessions WHERE id = ?1",
        params![id],
    )?;
    let Some(array) = array else {
        return Ok(());
    };
    let gone = connection
        .prepare_cached(
            "DELETE FROM arrays WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM sessions WHERE array_id = ?1)",
        )
        .and_then(|mut statement| statement.execute(params![array]))
        .map_err(database("delete an array"))?;
    if gone > 0 {
        run(
            connection,
            "delete an array's events",
            "DELETE FROM events WHERE array_id = ?1 AND session_id IS NULL",
            params![array],
        )?;
    }
    Ok(())
}

fn put_node(connection: &Connection, node: &NodeRecord) -> Result<(), StoreError> {
    let error = || unwritable("nodes", node.id);
    run(
        connection,
        "put a node",
        "INSERT INTO nodes (id, name, pool, status, generation, row_version, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, pool = excluded.pool,
             status = excluded.status, generation = excluded.generation,
             row_version = excluded.row_version, record = excluded.record",
        params![
            node.id.to_string(),
            node.name,
            node.pool,
            status_word(node.status),
            signed(node.generation, "generation").map_err(error())?,
            ROW_VERSION,
            write_document(&NodeDocument::of(node)).map_err(error())?,
        ],
    )
}

fn add_event(connection: &Connection, event: &SiteEvent) -> Result<(), StoreError> {
    let number = signed(event.number, "number").map_err(unwritable("events", event.number))?;
    run(
        connection,
        "add an event",
        "INSERT INTO events (number, at, project, session_id, node_id, code, message, array_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
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

fn put_key(connection: &Connection, row: &IdempotencyRow) -> Result<(), StoreError> {
    run(
        connection,
        "put an idempotency key",
        "INSERT INTO idempotency_keys (user_name, key, digest, session_id, at, array_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (user_name, key) DO UPDATE SET digest = excluded.digest,
             session_id = excluded.session_id, at = excluded.at, array_id = excluded.array_id",
        params![
            row.user,
            row.key,
            row.digest,
            row.session.to_string(),
            row.at.0,
            row.array.map(|array| array.to_string()),
        ],
    )
}

fn put_site(connection: &Connection, site: &SiteRow) -> Result<(), StoreError> {
    let number = |number, column| signed(number, column).map_err(unwritable("site", site.id));
    run(
        connection,
        "put the site",
        "UPDATE site SET id = ?1, incarnation = ?2, epoch = ?3, next_event = ?4,
         restored_epoch = ?5",
        params![
            site.id.to_string(),
            number(site.incarnation, "incarnation")?,
            number(site.epoch, "epoch")?,
            number(site.next_event, "next_event")?,
            number(site.restored_epoch, "restored_epoch")?,
        ],
    )
}
