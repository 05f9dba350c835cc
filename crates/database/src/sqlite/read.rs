//! Rows as records.

use super::{arrays, database, images};
use crate::error::StoreError;
use crate::rows::{
    MemberDocument, NodeDocument, RecordDocument, RecordParts, RowError, SpecDocument, parse_kind,
    parse_status, read_document,
};
use crate::store::{EventScope, PAGE_LIMIT};
use domain::{
    ArrayId, MemberId, MemberRecord, NodeRecord, Owner, ParseIdError, SessionId, SessionRecord,
    SessionSpec, Timestamp,
};
use lifecycle::rows::{IdempotencyRow, Loaded, SiteEvent, SiteRow};
use rusqlite::{Connection, Row, ToSql, TransactionBehavior, params};
use std::collections::BTreeSet;
use std::str::FromStr;

/// The columns that [`session_of`] reads, in its order.
macro_rules! session_columns {
    () => {
        "id, name, domain, project, user_name, kind, array_id, array_index, attempt, created_at, \
         started_at, ended_at, row_version, spec, record"
    };
}
pub(super) use session_columns;

/// What a leader keeps in memory. Three disjoint parts, each from an index of its own; the plus
/// keeps the second from scanning all that ended.
pub(super) const LOAD_SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions WHERE state <> 'ended'
      UNION ALL SELECT ",
    session_columns!(),
    " FROM sessions WHERE removing = 1 AND +state = 'ended'
      UNION ALL SELECT ",
    session_columns!(),
    " FROM sessions WHERE state = 'ended' AND ended_at >= ?1 AND removing = 0"
);

pub(super) const ONE_SESSION: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions WHERE id = ?1"
);

pub(super) const MEMBERS: &str =
    "SELECT attempt, member_index, node_id, row_version, record, is_current FROM members
     WHERE session_id = ?1 ORDER BY attempt, member_index";

pub(super) const EVENTS_AFTER: &str =
    "SELECT number, at, project, session_id, node_id, code, message, array_id FROM events
     WHERE number > ?1 ORDER BY number LIMIT ?2";

pub(super) const SESSION_EVENTS_AFTER: &str =
    "SELECT number, at, project, session_id, node_id, code, message, array_id FROM events
     WHERE session_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3";

pub(super) const ARRAY_EVENTS_AFTER: &str =
    "SELECT number, at, project, session_id, node_id, code, message, array_id FROM events
     WHERE array_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3";

pub(super) const FIRST_EVENT_SINCE: &str =
    "SELECT number FROM events WHERE at >= ?1 ORDER BY at, number LIMIT 1";

pub(super) const KEYS_SINCE: &str = "SELECT user_name, key, digest, session_id, at, array_id
     FROM idempotency_keys WHERE at >= ?1 ORDER BY at";

pub(super) const ONE_KEY: &str = "SELECT user_name, key, digest, session_id, at, array_id
     FROM idempotency_keys WHERE user_name = ?1 AND key = ?2 AND at >= ?3";

/// Everything that a leader keeps in memory, as of one moment.
pub(super) fn load(
    connection: &mut Connection,
    ended_since: Timestamp,
    keys_since: Timestamp,
) -> Result<Loaded, StoreError> {
    let act = "load the site";
    let moment = connection
        .transaction_with_behavior(TransactionBehavior::Deferred)
        .map_err(database(act))?;
    let mut sessions = sessions(&moment, LOAD_SESSIONS, params![ended_since.0])?;
    sessions.sort_by_key(|session| session.id);
    let elements = sessions.iter().filter_map(|session| session.array);
    let of_these: BTreeSet<ArrayId> = elements.map(|(array, _)| array).collect();
    let mut arrays = Vec::new();
    for id in of_these {
        arrays.extend(arrays::one(&moment, id)?);
    }
    let loaded = Loaded {
        site: site(&moment)?,
        // Its mark tells.
        restored: None,
        sessions,
        arrays,
        nodes: nodes(&moment)?,
        idempotency: keys(&moment, KEYS_SINCE, params![keys_since.0])?,
        images: images::images(&moment)?,
        image_names: images::names(&moment)?,
        uploads: Vec::new(),
    };
    moment.finish().map_err(database(act))?;
    Ok(loaded)
}

pub(super) fn session(
    connection: &Connection,
    id: SessionId,
) -> Result<Option<SessionRecord>, StoreError> {
    Ok(sessions(connection, ONE_SESSION, params![id.to_string()])?.pop())
}

pub(super) fn last_commit(connection: &Connection) -> Result<u64, StoreError> {
    let rows = Rows {
        connection,
        table: "commits",
        act: "read the last commit's number",
    };
    let sql = "SELECT number FROM commits";
    let found = rows.all(sql, params![], |row| unsigned(row, 0, "number"))?;
    Ok(found.last().copied().unwrap_or(0))
}

pub(super) fn events(
    connection: &Connection,
    of: EventScope,
    after: u64,
    limit: u32,
) -> Result<Vec<SiteEvent>, StoreError> {
    // No event has a number above what the column holds.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = limit.min(PAGE_LIMIT);
    let rows = Rows {
        connection,
        table: "events",
        act: "read events",
    };
    match of {
        EventScope::All => rows.all(EVENTS_AFTER, params![after, limit], event_of),
        EventScope::Session(session) => {
            let values = params![session.to_string(), after, limit];
            rows.all(SESSION_EVENTS_AFTER, values, event_of)
        }
        EventScope::Array(array) => {
            let values = params![array.to_string(), after, limit];
            rows.all(ARRAY_EVENTS_AFTER, values, event_of)
        }
    }
}

pub(super) fn first_event_since(
    connection: &Connection,
    at: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let rows = Rows {
        connection,
        table: "events",
        act: "find the first event since a time",
    };
    let found = rows.all(FIRST_EVENT_SINCE, params![at.0], |row| {
        unsigned(row, 0, "number")
    })?;
    Ok(found.first().copied())
}

/// Runs a query whose columns are [`session_columns`] and adds each session's members.
pub(super) fn sessions(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<SessionRecord>, StoreError> {
    let rows = Rows {
        connection,
        table: "sessions",
        act: "read sessions",
    };
    let mut sessions = rows.all(sql, values, session_of)?;
    let rows = Rows {
        connection,
        table: "members",
        act: "read members",
    };
    for session in &mut sessions {
        let id = session.id;
        let members = rows.all(MEMBERS, params![id.to_string()], |row| {
            Ok((member_of(id, row)?, row.get::<_, bool>(5)?))
        })?;
        for (member, is_current) in members {
            if is_current {
                session.members.push(member);
            } else {
                session.former.push(member);
            }
        }
    }
    Ok(sessions)
}

fn site(connection: &Connection) -> Result<SiteRow, StoreError> {
    let rows = Rows {
        connection,
        table: "site",
        act: "read the site",
    };
    let sql = "SELECT id, incarnation, epoch, next_event, restored_epoch FROM site";
    let mut found = rows.all(sql, params![], |row| {
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

fn nodes(connection: &Connection) -> Result<Vec<NodeRecord>, StoreError> {
    let rows = Rows {
        connection,
        table: "nodes",
        act: "read nodes",
    };
    let sql = "SELECT id, name, pool, status, generation, row_version, record FROM nodes
               ORDER BY id";
    rows.all(sql, params![], node_of)
}

pub(super) fn made_by(
    connection: &Connection,
    user: &str,
    key: &str,
    since: Timestamp,
) -> Result<Option<IdempotencyRow>, StoreError> {
    Ok(keys(connection, ONE_KEY, params![user, key, since.0])?.pop())
}

fn keys(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<IdempotencyRow>, StoreError> {
    let rows = Rows {
        connection,
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
pub(super) struct Rows<'a> {
    pub(super) connection: &'a Connection,
    pub(super) table: &'static str,
    pub(super) act: &'static str,
}

impl Rows<'_> {
    pub(super) fn all<T>(
        &self,
        sql: &str,
        values: &[&dyn ToSql],
        convert: impl Fn(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(database(self.act))?;
        let mut rows = statement.query(values).map_err(database(self.act))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(database(self.act))? {
            all.push(convert(row).map_err(|error| self.error(row, error))?);
        }
        Ok(all)
    }

    fn error(&self, row: &Row<'_>, source: RowError) -> StoreError {
        let key = row
            .get::<_, String>(0)
            .or_else(|_| row.get(0).map(|key: i64| key.to_string()));
        StoreError::Row {
            table: self.table,
            key: key.unwrap_or_default(),
            source,
        }
    }
}

fn session_of(row: &Row<'_>) -> Result<SessionRecord, RowError> {
    let array: Option<ArrayId> = id_or_none(row, 6)?;
    let array_index: Option<u32> = row.get(7)?;
    let version: u32 = row.get(12)?;
    let spec: SpecDocument = read_document(version, row.get_ref(13)?)?;
    let record: RecordDocument = read_document(version, row.get_ref(14)?)?;
    let RecordParts {
        intention,
        state,
        past,
        retry,
        after,
        pause,
        epoch,
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
        spec: SessionSpec::from(spec),
        intention,
        state,
        pause,
        attempt: row.get(8)?,
        members: Vec::new(),
        former: Vec::new(),
        past,
        retry,
        after,
        epoch,
        created_at: Timestamp(row.get(9)?),
        started_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        ended_at: row.get::<_, Option<i64>>(11)?.map(Timestamp),
    })
}

fn member_of(session: SessionId, row: &Row<'_>) -> Result<MemberRecord, RowError> {
    let document: MemberDocument = read_document(row.get(3)?, row.get_ref(4)?)?;
    Ok(MemberRecord {
        id: MemberId {
            session,
            attempt: row.get(0)?,
            index: row.get(1)?,
        },
        node: text(row, 2)?.parse()?,
        pause: document.pause(),
        state: document.into(),
    })
}

fn node_of(row: &Row<'_>) -> Result<NodeRecord, RowError> {
    let document: NodeDocument = read_document(row.get(5)?, row.get_ref(6)?)?;
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
    })
}

fn event_of(row: &Row<'_>) -> Result<SiteEvent, RowError> {
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

fn id_or_none<T>(row: &Row<'_>, place: usize) -> Result<Option<T>, RowError>
where
    T: FromStr<Err = ParseIdError>,
{
    let text: Option<String> = row.get(place)?;
    Ok(text.map(|text| text.parse()).transpose()?)
}

pub(super) fn text(row: &Row<'_>, place: usize) -> Result<String, RowError> {
    Ok(row.get(place)?)
}

pub(super) fn unsigned(row: &Row<'_>, place: usize, column: &'static str) -> Result<u64, RowError> {
    let number: i64 = row.get(place)?;
    u64::try_from(number).map_err(|_| RowError::Number { column })
}
