//! Rows as records.

use super::{arrays, images};
use crate::error::StoreError;
use crate::rows::{
    MemberDocument, NodeDocument, RecordDocument, RecordParts, RowError, SpecDocument, parse_kind,
    parse_status, read_document,
};
use crate::sql::{AsValue, Columns, Database, Value, values};
use crate::store::{EventScope, PAGE_LIMIT};
use domain::{
    ArrayId, DrainOrder, MemberId, MemberRecord, NodeRecord, Owner, ParseIdError, RemovalOrder,
    SessionId, SessionRecord, SessionSpec, Timestamp,
};
use lifecycle::rows::{IdempotencyRow, Loaded, SiteEvent, SiteRow};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// The columns that [`session_of`] reads, in its order.
macro_rules! session_columns {
    () => {
        "id, name, domain, project, user_name, kind, array_id, array_index, attempt, created_at, \
         started_at, ended_at, row_version, spec, record"
    };
}
pub(crate) use session_columns;

/// What a leader keeps in memory. Three disjoint parts, each from an index of its own; the plus
/// keeps the second from scanning all that ended.
pub(crate) const LOAD_SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions WHERE outcome IS NULL
      UNION ALL SELECT ",
    session_columns!(),
    " FROM sessions WHERE removing = 1 AND +outcome IS NOT NULL
      UNION ALL SELECT ",
    session_columns!(),
    " FROM sessions WHERE outcome IS NOT NULL AND ended_at >= ?1 AND removing = 0"
);

pub(crate) const ONE_SESSION: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions WHERE id = ?1"
);

/// Sessions whose members are read at a time: a query for each would be a way to the server and
/// back for each.
const MEMBERS_OF: usize = 64;

/// The members of [`MEMBERS_OF`] sessions.
pub(crate) fn members_statement() -> String {
    let places: Vec<String> = (1..=MEMBERS_OF).map(|place| format!("?{place}")).collect();
    format!(
        "SELECT session_id, attempt, member_index, node_id, row_version, record, is_current
         FROM members WHERE session_id IN ({}) ORDER BY session_id, attempt, member_index",
        places.join(", ")
    )
}

pub(crate) const EVENTS_AFTER: &str =
    "SELECT number, at, project, session_id, node_id, code, message, array_id FROM events
     WHERE number > ?1 ORDER BY number LIMIT ?2";

pub(crate) const SESSION_EVENTS_AFTER: &str =
    "SELECT number, at, project, session_id, node_id, code, message, array_id FROM events
     WHERE session_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3";

pub(crate) const ARRAY_EVENTS_AFTER: &str =
    "SELECT number, at, project, session_id, node_id, code, message, array_id FROM events
     WHERE array_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3";

pub(crate) const FIRST_EVENT_SINCE: &str =
    "SELECT number FROM events WHERE at >= ?1 ORDER BY at, number LIMIT 1";

pub(crate) const KEYS_SINCE: &str = "SELECT user_name, key, digest, session_id, at, array_id
     FROM idempotency_keys WHERE at >= ?1 ORDER BY at";

pub(crate) const ONE_KEY: &str = "SELECT user_name, key, digest, session_id, at, array_id
     FROM idempotency_keys WHERE user_name = ?1 AND key = ?2 AND at >= ?3";

/// Everything that a leader keeps in memory. Only inside a transaction that shows one moment.
pub(crate) fn load(
    database: &dyn Database,
    ended_since: Timestamp,
    keys_since: Timestamp,
) -> Result<Loaded, StoreError> {
    let mut sessions = sessions(database, LOAD_SESSIONS, values![ended_since.0])?;
    sessions.sort_by_key(|session| session.id);
    let elements = sessions.iter().filter_map(|session| session.array);
    let of_these: BTreeSet<ArrayId> = elements.map(|(array, _)| array).collect();
    let mut arrays = Vec::new();
    for id in of_these {
        arrays.extend(arrays::one(database, id)?);
    }
    Ok(Loaded {
        site: site(database)?,
        // The store knows.
        restored: None,
        sessions,
        arrays,
        nodes: nodes(database)?,
        idempotency: keys(database, KEYS_SINCE, values![keys_since.0])?,
        images: images::images(database)?,
        image_names: images::names(database)?,
        uploads: Vec::new(),
    })
}

pub(crate) fn session(
    database: &dyn Database,
    id: SessionId,
) -> Result<Option<SessionRecord>, StoreError> {
    Ok(sessions(database, ONE_SESSION, values![id.to_string()])?.pop())
}

pub(crate) fn last_commit(database: &dyn Database) -> Result<u64, StoreError> {
    let rows = Rows {
        database,
        table: "commits",
        act: "read the last commit's number",
    };
    let sql = "SELECT number FROM commits";
    let found = rows.all(sql, values![], |row| unsigned(row, 0, "number"))?;
    Ok(found.last().copied().unwrap_or(0))
}

pub(crate) fn events(
    database: &dyn Database,
    of: EventScope,
    after: u64,
    limit: u32,
) -> Result<Vec<SiteEvent>, StoreError> {
    // No event has a number above what the column holds.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = limit.min(PAGE_LIMIT);
    let rows = Rows {
        database,
        table: "events",
        act: "read events",
    };
    match of {
        EventScope::All => rows.all(EVENTS_AFTER, values![after, limit], event_of),
        EventScope::Session(session) => {
            let session = session.to_string();
            rows.all(
                SESSION_EVENTS_AFTER,
                values![session, after, limit],
                event_of,
            )
        }
        EventScope::Array(array) => {
            let array = array.to_string();
            rows.all(ARRAY_EVENTS_AFTER, values![array, after, limit], event_of)
        }
    }
}

pub(crate) fn first_event_since(
    database: &dyn Database,
    at: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let rows = Rows {
        database,
        table: "events",
        act: "find the first event since a time",
    };
    let found = rows.all(FIRST_EVENT_SINCE, values![at.0], |row| {
        unsigned(row, 0, "number")
    })?;
    Ok(found.first().copied())
}

/// Runs a query whose columns are [`session_columns`] and adds each session's members.
pub(crate) fn sessions(
    database: &dyn Database,
    sql: &str,
    values: &[Value<'_>],
) -> Result<Vec<SessionRecord>, StoreError> {
    let rows = Rows {
        database,
        table: "sessions",
        act: "read sessions",
    };
    let mut sessions = rows.all(sql, values, session_of)?;
    for some in sessions.chunks_mut(MEMBERS_OF) {
        add_members(database, some)?;
    }
    Ok(sessions)
}

fn add_members(database: &dyn Database, sessions: &mut [SessionRecord]) -> Result<(), StoreError> {
    let rows = Rows {
        database,
        table: "members",
        act: "read members",
    };
    let mut ids: Vec<String> = sessions.iter().map(|one| one.id.to_string()).collect();
    // One statement for any number: the last is asked for again.
    let last = ids.last().cloned().unwrap_or_default();
    ids.resize(MEMBERS_OF, last);
    let values: Vec<Value<'_>> = ids.iter().map(AsValue::as_value).collect();
    let members = rows.all(&members_statement(), &values, |row| {
        Ok((member_of(row)?, row.get::<bool>(6)?))
    })?;
    let places: BTreeMap<SessionId, usize> = (0..)
        .zip(&*sessions)
        .map(|(place, one)| (one.id, place))
        .collect();
    for (member, is_current) in members {
        let session = &mut sessions[places[&member.id.session]];
        if is_current {
            session.members.push(member);
        } else {
            session.former.push(member);
        }
    }
    Ok(())
}

/// The site's own row.
pub(crate) fn site(database: &dyn Database) -> Result<SiteRow, StoreError> {
    let rows = Rows {
        database,
        table: "site",
        act: "read the site",
    };
    let sql = "SELECT id, incarnation, epoch, next_event, restored_epoch FROM site";
    let mut found = rows.all(sql, values![], |row| {
        Ok(SiteRow {
            id: text(row, 0)?.parse()?,
            incarnation: unsigned(row, 1, "incarnation")?,
            epoch: unsigned(row, 2, "epoch")?,
            next_event: unsigned(row, 3, "next_event")?,
            restored_epoch: unsigned(row, 4, "restored_epoch")?,
        })
    })?;
    found.pop().ok_or(StoreError::NoSite)
}

fn nodes(database: &dyn Database) -> Result<Vec<NodeRecord>, StoreError> {
    let rows = Rows {
        database,
        table: "nodes",
        act: "read nodes",
    };
    let sql = "SELECT id, name, pool, status, generation, row_version, record, drained_by,
                      drained_at, drain_reason, removed_by, removed_at, removed_lost
               FROM nodes ORDER BY id";
    rows.all(sql, values![], node_of)
}

pub(crate) fn made_by(
    database: &dyn Database,
    user: &str,
    key: &str,
    since: Timestamp,
) -> Result<Option<IdempotencyRow>, StoreError> {
    Ok(keys(database, ONE_KEY, values![user, key, since.0])?.pop())
}

fn keys(
    database: &dyn Database,
    sql: &str,
    values: &[Value<'_>],
) -> Result<Vec<IdempotencyRow>, StoreError> {
    let rows = Rows {
        database,
        table: "idempotency_keys",
        act: "read idempotency keys",
    };
    rows.all(sql, values, |row| {
        Ok(IdempotencyRow {
            user: text(row, 0)?,
            key: text(row, 1)?,
            digest: text(row, 2)?,
            session: text(row, 3)?.parse()?,
            at: Timestamp(row.get(4)?),
            array: id_or_none(row, 5)?,
        })
    })
}

/// A query of one table: what it is called when it fails.
pub(crate) struct Rows<'a> {
    pub(crate) database: &'a dyn Database,
    pub(crate) table: &'static str,
    pub(crate) act: &'static str,
}

impl Rows<'_> {
    pub(crate) fn all<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        convert: impl Fn(&dyn Columns) -> Result<T, RowError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        self.database.each(self.act, sql, values, &mut |row| {
            all.push(convert(row).map_err(|error| self.error(row, error))?);
            Ok(())
        })?;
        Ok(all)
    }

    fn error(&self, row: &dyn Columns, source: RowError) -> StoreError {
        let key = row
            .get::<String>(0)
            .or_else(|_| row.get(0).map(|key: i64| key.to_string()));
        StoreError::Row {
            table: self.table,
            key: key.unwrap_or_default(),
            source,
        }
    }
}

fn session_of(row: &dyn Columns) -> Result<SessionRecord, RowError> {
    let array: Option<ArrayId> = id_or_none(row, 6)?;
    let array_index: Option<u32> = row.get(7)?;
    let version: u32 = row.get(12)?;
    let spec: SpecDocument<'_> = read_document(version, &row.document(13)?)?;
    let record: RecordDocument = read_document(version, &row.document(14)?)?;
    let RecordParts {
        intention,
        state,
        past,
        retry,
        after,
        pause,
        epoch,
        priority,
    } = record.into_parts();
    Ok(SessionRecord {
        id: text(row, 0)?.parse()?,
        name: text(row, 1)?.parse()?,
        owner: Owner {
            domain: text(row, 2)?,
            project: text(row, 3)?,
            user: text(row, 4)?,
        },
        kind: parse_kind(&text(row, 5)?).ok_or(RowError::Word { column: "kind" })?,
        array: array.zip(array_index),
        spec: SessionSpec::from(spec).into(),
        intention,
        state,
        priority,
        pause,
        attempt: row.get(8)?,
        members: Vec::new(),
        former: Vec::new(),
        past,
        retry,
        after,
        epoch,
        created_at: Timestamp(row.get(9)?),
        started_at: row.get::<Option<i64>>(10)?.map(Timestamp),
        ended_at: row.get::<Option<i64>>(11)?.map(Timestamp),
    })
}

fn member_of(row: &dyn Columns) -> Result<MemberRecord, RowError> {
    let document: MemberDocument = read_document(row.get(4)?, &row.document(5)?)?;
    Ok(MemberRecord {
        id: MemberId {
            session: text(row, 0)?.parse()?,
            attempt: row.get(1)?,
            index: row.get(2)?,
        },
        node: text(row, 3)?.parse()?,
        pause: document.pause(),
        state: document.into(),
    })
}

fn node_of(row: &dyn Columns) -> Result<NodeRecord, RowError> {
    let document: NodeDocument<'_> = read_document(row.get(5)?, &row.document(6)?)?;
    let heard_in = document.heard_in();
    let (offers, capabilities) = document.into_parts();
    Ok(NodeRecord {
        id: text(row, 0)?.parse()?,
        name: text(row, 1)?,
        pool: text(row, 2)?,
        offers,
        capabilities,
        status: parse_status(&text(row, 3)?).ok_or(RowError::Word { column: "status" })?,
        generation: unsigned(row, 4, "generation")?,
        heard_in,
        drain: drain_of(row)?,
        removal: removal_of(row)?,
    })
}

fn drain_of(row: &dyn Columns) -> Result<Option<DrainOrder>, RowError> {
    let Some(by) = row.get(7)? else {
        return Ok(None);
    };
    let at = Timestamp(row.get(8)?);
    let reason = row.get(9)?;
    Ok(Some(DrainOrder { by, at, reason }))
}

fn removal_of(row: &dyn Columns) -> Result<Option<RemovalOrder>, RowError> {
    let Some(by) = row.get(10)? else {
        return Ok(None);
    };
    let at = Timestamp(row.get(11)?);
    let lost = row.get(12)?;
    Ok(Some(RemovalOrder { by, at, lost }))
}

fn event_of(row: &dyn Columns) -> Result<SiteEvent, RowError> {
    Ok(SiteEvent {
        number: unsigned(row, 0, "number")?,
        at: Timestamp(row.get(1)?),
        project: row.get(2)?,
        session: id_or_none(row, 3)?,
        array: id_or_none(row, 7)?,
        node: id_or_none(row, 4)?,
        code: text(row, 5)?,
        message: text(row, 6)?,
    })
}

fn id_or_none<T>(row: &dyn Columns, place: usize) -> Result<Option<T>, RowError>
where
    T: FromStr<Err = ParseIdError>,
{
    let text: Option<String> = row.get(place)?;
    Ok(text.map(|text| text.parse()).transpose()?)
}

pub(crate) fn text(row: &dyn Columns, place: usize) -> Result<String, RowError> {
    row.get(place)
}

pub(crate) fn unsigned(
    row: &dyn Columns,
    place: usize,
    column: &'static str,
) -> Result<u64, RowError> {
    let number: i64 = row.get(place)?;
    u64::try_from(number).map_err(|_| RowError::Number { column })
}
