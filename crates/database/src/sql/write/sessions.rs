//! Sessions and their members.

use super::{text_or_null, unwritable};
use crate::error::StoreError;
use crate::rows::{
    MemberDocument, ROW_VERSION, RecordDocument, SpecDocument, kind_word, write_document,
};
use crate::sql::many::{AT_ONCE, Insertion};
use crate::sql::{AsValue, Database, Value, values};
use domain::{Intention, MemberRecord, SessionRecord, SessionState};
use lifecycle::rows::RowChange;

macro_rules! columns {
    () => {
        "INSERT INTO sessions (id, name, domain, project, user_name, kind, array_id, array_index,
             state, outcome, attempt, created_at, started_at, ended_at, removing, row_version,
             spec, record)"
    };
}

macro_rules! changes {
    () => {
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state,
             attempt = excluded.attempt, started_at = excluded.started_at,
             removing = excluded.removing, row_version = excluded.row_version,
             spec = excluded.spec, record = excluded.record"
    };
}

/// Sessions that live. They stay out of the indexes of those that have ended, which are bound to
/// `outcome`: without that column, and those that never change, none of them is written.
static LIVING: Insertion = Insertion::new("put sessions", columns!(), 18, changes!());

/// Sessions that have ended.
static ENDED: Insertion = Insertion::new(
    "put ended sessions",
    columns!(),
    18,
    concat!(
        changes!(),
        ", outcome = excluded.outcome, ended_at = excluded.ended_at"
    ),
);

static MEMBERS: Insertion = Insertion::new(
    "put members",
    "INSERT INTO members (session_id, attempt, member_index, is_current, node_id, state,
         row_version, record)",
    8,
    "ON CONFLICT (session_id, attempt, member_index) DO UPDATE SET
         is_current = excluded.is_current, node_id = excluded.node_id, state = excluded.state,
         row_version = excluded.row_version, record = excluded.record",
);

/// Writes the sessions of `run`.
pub(super) fn put(database: &dyn Database, run: &[RowChange]) -> Result<(), StoreError> {
    let sessions = run.iter().filter_map(|change| match change {
        RowChange::PutSession { session } => Some(session.as_ref()),
        _ => None,
    });
    let sessions: Vec<&SessionRecord> = sessions.collect();
    sessions.chunks(AT_ONCE).try_for_each(|some| {
        if has_twins(some) {
            // One statement changes a row only once.
            return some.chunks(1).try_for_each(|one| put_some(database, one));
        }
        put_some(database, some)
    })
}

/// A session is put twice: two batches of the core go to the disk together.
fn has_twins(some: &[&SessionRecord]) -> bool {
    let mut places = (1..).zip(some);
    places.any(|(next, one)| some[next..].iter().any(|other| other.id == one.id))
}

fn put_some(database: &dyn Database, some: &[&SessionRecord]) -> Result<(), StoreError> {
    let (mut living, mut ended) = (LIVING.rows(database), ENDED.rows(database));
    for session in some {
        if session.state.is_living() {
            living.add(row(session)?)?;
        } else {
            ended.add(row(session)?)?;
        }
    }
    living.finish()?;
    ended.finish()?;
    for session in some {
        set_former_aside(database, session)?;
    }
    let mut members = MEMBERS.rows(database);
    for session in some {
        for member in &session.former {
            members.add(member_row(member, false)?)?;
        }
        for member in &session.members {
            members.add(member_row(member, true)?)?;
        }
    }
    members.finish()
}

fn row(session: &SessionRecord) -> Result<[Value<'_>; 18], StoreError> {
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
    let is_removing = matches!(session.intention, Intention::Remove { .. });
    let spec = write_document(&SpecDocument::from(session.spec.as_ref())).map_err(error())?;
    let record = write_document(&RecordDocument::of(session)).map_err(error())?;
    let number_or_null = |number: Option<i64>| number.map_or(Value::Null, Value::Number);
    Ok([
        session.id.to_string().into(),
        Value::Text(session.name.as_str().into()),
        session.owner.domain.as_value(),
        session.owner.project.as_value(),
        session.owner.user.as_value(),
        Value::Text(kind_word(session.kind).into()),
        text_or_null(session.array.map(|(array, _)| array)),
        number_or_null(session.array.map(|(_, index)| index.into())),
        Value::Text(session.state.word().into()),
        outcome.map_or(Value::Null, |word| Value::Text(word.into())),
        Value::Number(session.attempt.into()),
        Value::Number(session.created_at.0),
        number_or_null(session.started_at.map(|at| at.0)),
        number_or_null(session.ended_at.map(|at| at.0)),
        Value::Number(is_removing.into()),
        Value::Number(ROW_VERSION.into()),
        spec.into(),
        record.into(),
    ])
}

fn set_former_aside(database: &dyn Database, session: &SessionRecord) -> Result<(), StoreError> {
    // A first attempt that has its members has no others: most sessions have no more than that.
    if session.attempt == 1 && !session.members.is_empty() {
        return Ok(());
    }
    database.run(
        "set former members aside",
        "UPDATE members SET is_current = 0 WHERE session_id = ?1 AND is_current = 1",
        values![session.id.to_string()],
    )
}

fn member_row<'a>(member: &MemberRecord, is_current: bool) -> Result<[Value<'a>; 8], StoreError> {
    let document = MemberDocument::of(member);
    let record = write_document(&document).map_err(unwritable("members", member.id))?;
    Ok([
        member.id.session.to_string().into(),
        Value::Number(member.id.attempt.into()),
        Value::Number(member.id.index.into()),
        Value::Number(is_current.into()),
        member.node.to_string().into(),
        Value::Text(member.state.word().into()),
        Value::Number(ROW_VERSION.into()),
        record.into(),
    ])
}
