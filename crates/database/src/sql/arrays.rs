//! Arrays and their elements as records.

use super::read::{self, Rows, session_columns, text};
use crate::error::StoreError;
use crate::rows::{ArrayDocument, RowError, SpecDocument, read_document};
use crate::sql::{Columns, Database, Value, values};
use crate::store::{ArrayHistoryQuery, ElementCount, ElementScope, HistoryOwner, PAGE_LIMIT};
use domain::{ArrayId, ArrayRecord, Owner, SessionRecord, SessionSpec, Timestamp};

/// The columns that [`array_of`] reads, in its order.
macro_rules! array_columns {
    () => {
        "id, name, domain, project, user_name, size, throttle, digest, created_at, row_version, \
         spec, record"
    };
}

pub(crate) const ONE_ARRAY: &str =
    concat!("SELECT ", array_columns!(), " FROM arrays WHERE id = ?1");

pub(crate) const COUNTS: &str = "SELECT state, outcome, count(*), max(ended_at)
     FROM sessions INDEXED BY sessions_by_array WHERE array_id = ?1 GROUP BY state, outcome";

const NEWEST: (Timestamp, ArrayId) = (Timestamp(i64::MAX), ArrayId(u64::MAX));

/// The statement of a page; `?1`, `?2` are the cursor, `?3` the limit, the rest the filters.
pub(crate) fn statement(query: &ArrayHistoryQuery) -> String {
    let owner = match &query.owner {
        HistoryOwner::Everyone => "",
        HistoryOwner::Project { .. } => " AND domain = ?4 AND project = ?5",
        HistoryOwner::Owner(_) => " AND domain = ?4 AND project = ?5 AND user_name = ?6",
    };
    let name = match (&query.name, &query.owner) {
        (None, _) => "",
        (Some(_), HistoryOwner::Everyone) => " AND name = ?4",
        (Some(_), HistoryOwner::Project { .. }) => " AND name = ?6",
        (Some(_), HistoryOwner::Owner(_)) => " AND name = ?7",
    };
    let index = match (&query.name, &query.owner) {
        (Some(_), _) => "arrays_by_name",
        (None, HistoryOwner::Everyone) => "arrays_by_time",
        (None, HistoryOwner::Project { .. }) => "arrays_by_project",
        (None, HistoryOwner::Owner(_)) => "arrays_by_owner",
    };
    format!(
        "SELECT {} FROM arrays INDEXED BY {index}
         WHERE (created_at, id) < (?1, ?2){owner}{name}
         ORDER BY created_at DESC, id DESC LIMIT ?3",
        array_columns!()
    )
}

pub(crate) fn page(
    database: &dyn Database,
    query: &ArrayHistoryQuery,
) -> Result<Vec<ArrayRecord>, StoreError> {
    let sql = statement(query);
    let (created_at, id) = query.before.unwrap_or(NEWEST);
    let (created_at, id) = (created_at.0, id.to_string());
    let limit = query.limit.min(PAGE_LIMIT);
    let mut values = values![created_at, id, limit].to_vec();
    match &query.owner {
        HistoryOwner::Everyone => {}
        HistoryOwner::Project { domain, project } => {
            values.extend_from_slice(values![*domain, *project])
        }
        HistoryOwner::Owner(owner) => {
            values.extend_from_slice(values![owner.domain, owner.project, owner.user]);
        }
    }
    values.extend(
        query
            .name
            .as_ref()
            .map(|name| Value::Text(name.as_str().into())),
    );
    arrays(database, &sql, &values)
}

pub(crate) fn one(database: &dyn Database, id: ArrayId) -> Result<Option<ArrayRecord>, StoreError> {
    Ok(arrays(database, ONE_ARRAY, values![id.to_string()])?.pop())
}

/// The statement of some elements; `?1` is the array, `?2` the limit, `?3` an index.
pub(crate) fn elements_statement(scope: ElementScope) -> String {
    let (which, order) = match scope {
        ElementScope::After(None) => ("", "array_index"),
        ElementScope::After(Some(_)) => (" AND array_index > ?3", "array_index"),
        ElementScope::Before(None) => ("", "array_index DESC"),
        ElementScope::Before(Some(_)) => (" AND array_index < ?3", "array_index DESC"),
        ElementScope::One(_) => (" AND array_index = ?3", "array_index"),
        ElementScope::Unsuccessful => (
            " AND state = 'ended' AND outcome <> 'succeeded'",
            "array_index",
        ),
    };
    format!(
        "SELECT {} FROM sessions INDEXED BY sessions_by_array
         WHERE array_id = ?1{which} ORDER BY {order} LIMIT ?2",
        session_columns!()
    )
}

pub(crate) fn elements(
    database: &dyn Database,
    array: ArrayId,
    scope: ElementScope,
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let index = match scope {
        ElementScope::After(index) | ElementScope::Before(index) => index,
        ElementScope::One(index) => Some(index),
        ElementScope::Unsuccessful => None,
    };
    let (array, limit) = (array.to_string(), limit.min(PAGE_LIMIT));
    let values: &[Value<'_>] = values![array, limit, index];
    let count = if index.is_some() { 3 } else { 2 };
    read::sessions(database, &elements_statement(scope), &values[..count])
}

pub(crate) fn counts(
    database: &dyn Database,
    array: ArrayId,
) -> Result<Vec<ElementCount>, StoreError> {
    let rows = Rows {
        database,
        table: "sessions",
        act: "count the elements of an array",
    };
    rows.all(COUNTS, values![array.to_string()], |row| {
        Ok(ElementCount {
            state: text(row, 0)?,
            outcome: row.get(1)?,
            count: row.get(2)?,
            last_end: row.get::<Option<i64>>(3)?.map(Timestamp),
        })
    })
}

fn arrays(
    database: &dyn Database,
    sql: &str,
    values: &[Value<'_>],
) -> Result<Vec<ArrayRecord>, StoreError> {
    let rows = Rows {
        database,
        table: "arrays",
        act: "read arrays",
    };
    rows.all(sql, values, array_of)
}

fn array_of(row: &dyn Columns) -> Result<ArrayRecord, RowError> {
    let version: u32 = row.get(9)?;
    let spec: SpecDocument<'_> = read_document(version, &row.document(10)?)?;
    let ArrayDocument {
        first_index,
        last_index,
        retry,
        parameters,
        priority,
    } = read_document(version, &row.document(11)?)?;
    Ok(ArrayRecord {
        id: text(row, 0)?.parse()?,
        name: text(row, 1)?.parse()?,
        owner: Owner {
            domain: text(row, 2)?,
            project: text(row, 3)?,
            user: text(row, 4)?,
        },
        size: row.get(5)?,
        first_index,
        last_index,
        throttle: row.get(6)?,
        priority,
        retry,
        parameters,
        template: SessionSpec::from(spec),
        digest: text(row, 7)?,
        created_at: Timestamp(row.get(8)?),
    })
}
