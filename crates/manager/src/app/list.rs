//! Pages of sessions.

use crate::app::SiteService;
use crate::app::arrays::parse_index;
use crate::app::convert::{session_view, time_text};
use crate::app::problems::field;
use crate::app::resolve::{history_owner, may_see};
use database::{ElementScope, HistoryCursor, HistoryElements, HistoryQuery};
use domain::{ArrayId, ArrayRecord, SessionId, SessionName, SessionRecord, Timestamp};
use public_api::{Caller, ListQuery, PAGE_LIMIT, Problem, SessionPage, SiteView};
use std::sync::Arc;

/// Sessions on a page that does not say.
pub(crate) const DEFAULT_LIMIT: u32 = 100;

/// Which sessions a page holds.
struct Wanted {
    all: bool,
    name: Option<SessionName>,
    elements: HistoryElements,
    before: Option<HistoryCursor>,
    limit: u32,
}

impl SiteService {
    pub(crate) fn site_view(&self) -> SiteView {
        let settings = &self.manager.settings;
        let shared = &self.manager.shared;
        let (site, living) = shared.read(|view| (view.site.id, view.living()));
        SiteView {
            site: site.to_string(),
            build: settings.build.clone(),
            pid: std::process::id(),
            started_at: time_text(settings.started_at),
            home: settings.home.display().to_string(),
            log_file: settings.log_file.display().to_string(),
            commit: shared.committed(),
            living_sessions: living as u64,
            address: settings.address.clone(),
            refused_nodes: self.manager.refusals.all(),
        }
    }

    pub(crate) async fn list_sessions(
        &self,
        caller: &Caller,
        query: ListQuery,
    ) -> Result<SessionPage, Problem> {
        let limit = check_limit(query.limit, DEFAULT_LIMIT)?;
        if query.index.is_some() && query.array.is_none() {
            return Err(field("index", "it is given without `array`"));
        }
        if query.array.is_some() {
            return self.list_of_array(caller, query, limit).await;
        }
        let wanted = Wanted {
            all: query.all,
            name: check_name_filter(query.name.as_deref())?,
            elements: if query.grouped {
                HistoryElements::LeftOut
            } else {
                HistoryElements::Included
            },
            before: query.cursor.as_deref().map(parse_cursor).transpose()?,
            limit,
        };
        if query.grouped {
            return self.list_grouped(caller, wanted).await;
        }
        let records = self.page_of_sessions(caller, wanted).await?;
        let next_cursor = last_of_full(&records, limit).map(|record| cursor_text(record));
        Ok(self.page(&records, next_cursor))
    }

    fn page(&self, records: &[Arc<SessionRecord>], next_cursor: Option<String>) -> SessionPage {
        let sessions = self.manager.shared.read(|view| {
            let shown = records.iter();
            shown
                .map(|record| session_view(record, &view.nodes))
                .collect()
        });
        SessionPage {
            sessions,
            arrays: Vec::new(),
            next_cursor,
        }
    }

    async fn page_of_sessions(
        &self,
        caller: &Caller,
        wanted: Wanted,
    ) -> Result<Vec<Arc<SessionRecord>>, Problem> {
        // What lives is looked at first: what ends meanwhile is then found twice, and not missed.
        let living = self.living(caller, &wanted);
        if !wanted.all {
            return Ok(living);
        }
        let limit = usize::try_from(wanted.limit).expect("a small limit");
        let ended = self.ended(caller, wanted).await?;
        Ok(joined(living, ended, limit))
    }

    /// Sessions that are no elements, and between them arrays: both pages are read as if there
    /// were only the one kind, merged, and cut.
    async fn list_grouped(&self, caller: &Caller, wanted: Wanted) -> Result<SessionPage, Problem> {
        let limit = usize::try_from(wanted.limit).expect("a small limit");
        let before = wanted.before.map(|at| (at.created_at, ArrayId(at.id.0)));
        let arrays = self.page_of_arrays(
            caller,
            wanted.all,
            wanted.name.clone(),
            before,
            wanted.limit,
        );
        let mut arrays = arrays.await?;
        let mut sessions = self.page_of_sessions(caller, wanted).await?;
        let of_sessions = sessions
            .iter()
            .map(|record| (record.created_at, record.id.0));
        let of_arrays = arrays.iter().map(|array| (array.created_at, array.id.0));
        let mut places: Vec<(Timestamp, u64)> = of_sessions.chain(of_arrays).collect();
        places.sort_unstable_by_key(|place| std::cmp::Reverse(*place));
        let last = (places.len() >= limit).then(|| places[limit - 1]);
        if let Some(last) = last {
            sessions.retain(|record| (record.created_at, record.id.0) >= last);
            arrays.retain(|array| (array.created_at, array.id.0) >= last);
        }
        let next_cursor = last.map(|(at, id)| place_text(at, id));
        let arrays = self.show_arrays(&arrays).await?;
        Ok(SessionPage {
            arrays,
            ..self.page(&sessions, next_cursor)
        })
    }

    /// Elements of one array, the last first. Their cursor is an index.
    async fn list_of_array(
        &self,
        caller: &Caller,
        query: ListQuery,
        limit: u32,
    ) -> Result<SessionPage, Problem> {
        if query.grouped || query.name.is_some() {
            let detail = "it goes neither with `grouped` nor with `name`";
            return Err(field("array", detail));
        }
        let array = query.array.as_deref().unwrap_or_default();
        let array = self.resolve_array(caller, array).await?;
        let before = query.cursor.as_deref().map(parse_index).transpose()?;
        let scope = match query.index {
            Some(index) => ElementScope::One(index),
            None => ElementScope::Before(before),
        };
        let records = if query.all {
            self.elements_of(array.id, scope, limit).await?
        } else {
            self.living_elements(array.id, scope, limit)
        };
        let last = last_of_full(&records, limit).filter(|_| query.index.is_none());
        let next_cursor = last.and_then(|record| record.array);
        let next_cursor = next_cursor.map(|(_, index)| index.to_string());
        Ok(self.page(&records, next_cursor))
    }

    fn living_elements(
        &self,
        array: ArrayId,
        scope: ElementScope,
        limit: u32,
    ) -> Vec<Arc<SessionRecord>> {
        let is_wanted = |record: &SessionRecord| {
            let index = record.array.map_or(0, |(_, index)| index);
            record.state.is_living()
                && match scope {
                    ElementScope::One(only) => index == only,
                    ElementScope::Before(before) => before.is_none_or(|before| index < before),
                    ElementScope::After(after) => after.is_none_or(|after| index > after),
                    ElementScope::Unsuccessful => false,
                }
        };
        let mut records: Vec<Arc<SessionRecord>> = self.manager.shared.read(|view| {
            let elements = view.elements_from(array, 0);
            elements
                .filter(|record| is_wanted(record))
                .cloned()
                .collect()
        });
        records.reverse();
        records.truncate(usize::try_from(limit).expect("a small limit"));
        records
    }

    /// A page of those that have ended and are still kept.
    async fn ended(
        &self,
        caller: &Caller,
        wanted: Wanted,
    ) -> Result<Vec<Arc<SessionRecord>>, Problem> {
        let query = HistoryQuery {
            owner: history_owner(caller),
            name: wanted.name,
            elements: wanted.elements,
            before: wanted.before,
            limit: wanted.limit,
        };
        let records = self
            .manager
            .leader
            .read(move |store| store.history(&query))
            .await?;
        Ok(records.into_iter().map(Arc::new).collect())
    }

    /// A page of those that live.
    fn living(&self, caller: &Caller, wanted: &Wanted) -> Vec<Arc<SessionRecord>> {
        let Wanted { name, before, .. } = wanted;
        let left_out = wanted.elements == HistoryElements::LeftOut;
        let mut records: Vec<Arc<SessionRecord>> = self.manager.shared.read(|view| {
            let living = view.living_sessions();
            living
                .filter(|record| may_see(caller, &record.owner))
                .filter(|record| !left_out || record.array.is_none())
                .filter(|record| name.as_ref().is_none_or(|name| record.name == *name))
                .filter(|record| before.is_none_or(|before| place(record) < place_of(before)))
                .cloned()
                .collect()
        });
        records.sort_by_key(|record| std::cmp::Reverse(place(record)));
        records.truncate(usize::try_from(wanted.limit).expect("a small limit"));
        records
    }
}

/// One page of two that are in order, each made as if there were only the one kind. What is in both
/// has ended between the two looks.
fn joined(
    living: Vec<Arc<SessionRecord>>,
    ended: Vec<Arc<SessionRecord>>,
    limit: usize,
) -> Vec<Arc<SessionRecord>> {
    let mut all = ended;
    all.extend(living);
    // It is stable: of one and the same, that which has ended stays in front.
    all.sort_by_key(|record| std::cmp::Reverse(place(record)));
    all.dedup_by_key(|record| record.id);
    all.truncate(limit);
    all
}

/// The last of a page after which there may be another.
fn last_of_full(records: &[Arc<SessionRecord>], limit: u32) -> Option<&Arc<SessionRecord>> {
    let full = records.len() == usize::try_from(limit).expect("a small limit");
    records.last().filter(|_| full)
}

/// The limit of a page, or `usual`.
pub(crate) fn check_limit(limit: Option<u32>, usual: u32) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(usual);
    if (1..=PAGE_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("{limit} is not between 1 and {PAGE_LIMIT}");
    Err(field("limit", detail))
}

pub(crate) fn check_name_filter(name: Option<&str>) -> Result<Option<SessionName>, Problem> {
    let name = name.map(str::parse::<SessionName>).transpose();
    name.map_err(|error| field("name", error))
}

fn place(record: &SessionRecord) -> (Timestamp, SessionId) {
    (record.created_at, record.id)
}

fn place_of(cursor: HistoryCursor) -> (Timestamp, SessionId) {
    (cursor.created_at, cursor.id)
}

fn cursor_text(record: &SessionRecord) -> String {
    place_text(record.created_at, record.id.0)
}

/// The cursor of a page that ends with `array`.
pub(crate) fn array_cursor_text(array: &ArrayRecord) -> String {
    place_text(array.created_at, array.id.0)
}

fn place_text(at: Timestamp, id: u64) -> String {
    format!("{}-{}", at.0, SessionId(id))
}

/// When what a page ended with was made, and the number of its id.
pub(crate) fn parse_place(text: &str) -> Result<(Timestamp, u64), Problem> {
    let parts = text.rsplit_once('-').and_then(|(micros, id)| {
        let created_at = Timestamp(micros.parse().ok()?);
        let id: SessionId = id.parse().ok()?;
        Some((created_at, id.0))
    });
    parts.ok_or_else(|| field("cursor", "it is not one that a page ended with"))
}

fn parse_cursor(text: &str) -> Result<HistoryCursor, Problem> {
    let (created_at, id) = parse_place(text)?;
    let id = SessionId(id);
    Ok(HistoryCursor { created_at, id })
}
