//! Pages of sessions.

use crate::app::SiteService;
use crate::app::convert::{session_view, time_text};
use crate::app::problems::field;
use crate::app::resolve::{may_see, owner_of};
use database::{HistoryCursor, HistoryOwner, HistoryQuery, HistoryScope};
use domain::{SessionName, SessionRecord, Timestamp};
use public_api::{Caller, ListQuery, PAGE_LIMIT, Problem, SessionPage, SiteView};
use std::sync::Arc;

/// Sessions on a page that does not say.
const DEFAULT_LIMIT: u32 = 100;

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
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=PAGE_LIMIT).contains(&limit) {
            return Err(field(
                "limit",
                format!("{limit} is not between 1 and {PAGE_LIMIT}"),
            ));
        }
        let name = query
            .name
            .as_deref()
            .map(str::parse::<SessionName>)
            .transpose();
        let name = name.map_err(|error| field("name", error))?;
        let before = query.cursor.as_deref().map(parse_cursor).transpose()?;
        let records = if query.all {
            self.stored(caller, name, before, limit).await?
        } else {
            self.living(caller, name.as_ref(), before, limit)
        };
        let full = records.len() == usize::try_from(limit).expect("a small limit");
        let next_cursor = records
            .last()
            .filter(|_| full)
            .map(|record| cursor_text(record));
        let sessions = self.manager.shared.read(|view| {
            let shown = records.iter();
            shown
                .map(|record| session_view(record, &view.nodes))
                .collect()
        });
        Ok(SessionPage {
            sessions,
            arrays: Vec::new(),
            next_cursor,
        })
    }

    /// A page of everything that was ever made and is still kept.
    async fn stored(
        &self,
        caller: &Caller,
        name: Option<SessionName>,
        before: Option<HistoryCursor>,
        limit: u32,
    ) -> Result<Vec<Arc<SessionRecord>>, Problem> {
        let owner = if caller.operator {
            HistoryOwner::Everyone
        } else {
            HistoryOwner::Owner(owner_of(caller))
        };
        let query = HistoryQuery {
            owner,
            name,
            scope: HistoryScope::All,
            before,
            limit,
        };
        let records = self
            .manager
            .leader
            .read(move |store| store.history(&query))
            .await?;
        Ok(records.into_iter().map(Arc::new).collect())
    }

    /// A page of those that live.
    fn living(
        &self,
        caller: &Caller,
        name: Option<&SessionName>,
        before: Option<HistoryCursor>,
        limit: u32,
    ) -> Vec<Arc<SessionRecord>> {
        let mut records: Vec<Arc<SessionRecord>> = self.manager.shared.read(|view| {
            let living = view
                .sessions
                .values()
                .filter(|record| record.state.is_living());
            living
                .filter(|record| may_see(caller, &record.owner))
                .filter(|record| name.is_none_or(|name| record.name == *name))
                .filter(|record| before.is_none_or(|before| place(record) < place_of(before)))
                .cloned()
                .collect()
        });
        records.sort_by_key(|record| std::cmp::Reverse(place(record)));
        records.truncate(usize::try_from(limit).expect("a small limit"));
        records
    }
}

fn place(record: &SessionRecord) -> (Timestamp, domain::SessionId) {
    (record.created_at, record.id)
}

fn place_of(cursor: HistoryCursor) -> (Timestamp, domain::SessionId) {
    (cursor.created_at, cursor.id)
}

fn cursor_text(record: &SessionRecord) -> String {
    format!("{}-{}", record.created_at.0, record.id)
}

fn parse_cursor(text: &str) -> Result<HistoryCursor, Problem> {
    let parts = text.rsplit_once('-').and_then(|(micros, id)| {
        let created_at = Timestamp(micros.parse().ok()?);
        let id = id.parse().ok()?;
        Some(HistoryCursor { created_at, id })
    });
    parts.ok_or_else(|| field("cursor", "it is not one that a page ended with"))
}
