//! Pages of what has ended: one statement for each combination of filters, so that each finds its
//! index.

use super::read::{self, session_columns};
use crate::error::StoreError;
use crate::sql::{Database, Value, values};
use crate::store::{HistoryElements, HistoryOwner, HistoryQuery, PAGE_LIMIT};
use domain::{Owner, SessionId, SessionName, SessionRecord, Timestamp};

/// Newer than every session: where a history without a cursor begins.
const NEWEST: (Timestamp, SessionId) = (Timestamp(i64::MAX), SessionId(u64::MAX));

/// The statement of a page; `?1`, `?2` are the cursor, `?3` the limit, the rest the filters. With
/// elements of arrays it is made of two pages that are in order: an index has either the ones or
/// the others.
pub(crate) fn statement(query: &HistoryQuery) -> String {
    let alone = part(query, ("ended_alone", "array_id IS NULL"));
    let pages = match query.elements {
        HistoryElements::LeftOut => alone,
        HistoryElements::Included => {
            let elements = part(query, ("ended_elements", "array_id IS NOT NULL"));
            format!("{alone} UNION ALL {elements}")
        }
    };
    format!("{pages} ORDER BY created_at DESC, id DESC LIMIT ?3")
}

fn part(query: &HistoryQuery, (indexes, which): (&str, &str)) -> String {
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
    // A name is the narrowest filter; next to it, the owner's index would be the wrong one.
    let index = match (&query.name, &query.owner) {
        (Some(_), _) => "by_name",
        (None, HistoryOwner::Everyone) => "by_time",
        (None, HistoryOwner::Project { .. }) => "by_project",
        (None, HistoryOwner::Owner(_)) => "by_owner",
    };
    format!(
        "SELECT {} FROM sessions INDEXED BY {indexes}_{index}
         WHERE (created_at, id) < (?1, ?2){owner}{name} AND outcome IS NOT NULL AND {which}",
        session_columns!()
    )
}

pub(crate) fn page(
    database: &dyn Database,
    query: &HistoryQuery,
) -> Result<Vec<SessionRecord>, StoreError> {
    let sql = statement(query);
    let (created_at, id) = query
        .before
        .map_or(NEWEST, |cursor| (cursor.created_at, cursor.id));
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
    read::sessions(database, &sql, &values)
}

pub(crate) fn named(
    database: &dyn Database,
    owner: &Owner,
    name: &SessionName,
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let query = HistoryQuery {
        owner: HistoryOwner::Owner(owner.clone()),
        name: Some(name.clone()),
        elements: HistoryElements::LeftOut,
        before: None,
        limit,
    };
    page(database, &query)
}
