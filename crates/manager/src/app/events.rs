//! What happened and happens, without a gap between the two.

use crate::app::convert::{EventNames, public_event};
use crate::app::logs::parse_since;
use crate::app::problems::field;
use crate::app::{SiteService, stream_of};
use crate::leader::LeaderHandle;
use crate::shared::LeaderError;
use database::EventScope;
use domain::{ArrayId, SessionId, Timestamp};
use lifecycle::rows::SiteEvent;
use public_api::{
    Caller, EventPage, EventPageQuery, EventQuery, EventStream, PAGE_LIMIT, Problem, PublicEvent,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Events that wait for a slow reader.
const QUEUE_LIMIT: usize = 64;
/// Events that are read from the store at a time.
const PAGE: u32 = 500;
/// Events on a page that does not say.
const DEFAULT_LIMIT: u32 = 100;

/// One watcher.
struct Watcher {
    service: SiteService,
    caller: Caller,
    session: Option<SessionId>,
    array: Option<ArrayId>,
    /// The last event that was looked at.
    after: u64,
    out: mpsc::Sender<Result<PublicEvent, Problem>>,
}

impl SiteService {
    pub(crate) async fn watch_events(
        &self,
        caller: &Caller,
        query: EventQuery,
    ) -> Result<EventStream, Problem> {
        let session = match &query.session {
            Some(session) => Some(self.resolve(caller, session).await?.id),
            None => None,
        };
        let array = match &query.array {
            Some(array) => Some(self.resolve_array(caller, array).await?.id),
            None => None,
        };
        // From here on nothing is missed: what comes between this line and the first read of the
        // store is in both, and told once because numbers ascend.
        let live = self.manager.shared.events();
        let newest = self.newest_event();
        let (out, events) = mpsc::channel(QUEUE_LIMIT);
        let watcher = Watcher {
            service: self.clone(),
            caller: caller.clone(),
            session,
            array,
            after: query.after.unwrap_or(newest),
            out,
        };
        let replay = query.after.is_some();
        self.manager
            .tasks
            .spawn_cancellable("watch events", watcher.watch(live, replay));
        Ok(stream_of(events))
    }
}

impl SiteService {
    pub(crate) async fn page_of_events(
        &self,
        caller: &Caller,
        query: EventPageQuery,
    ) -> Result<EventPage, Problem> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=PAGE_LIMIT).contains(&limit) {
            let detail = format!("{limit} is not between 1 and {PAGE_LIMIT}");
            return Err(field("limit", detail));
        }
        let of = match (&query.session, &query.array) {
            (None, None) => EventScope::All,
            (Some(session), None) => EventScope::Session(self.resolve(caller, session).await?.id),
            (None, Some(array)) => EventScope::Array(self.resolve_array(caller, array).await?.id),
            (Some(_), Some(_)) => {
                return Err(field("array", "not beside `session`: ask for one of them"));
            }
        };
        // Read before the store is: up to here nothing can be missing on the page.
        let newest = self.newest_event();
        let since = query.since.as_deref().map(since).transpose()?;
        let leader = &self.manager.leader;
        let after = query.after.unwrap_or(0);
        let found = read_page(leader, of, after, since, limit).await?;
        let more = found.len() == usize::try_from(limit).expect("a small limit");
        let last = found.last().map(|event| event.number);
        let looked_until = match last {
            Some(last) if more => last,
            _ => newest.max(last.unwrap_or(0)),
        };
        let seen: Vec<SiteEvent> = found
            .into_iter()
            .filter(|event| may_see(caller, event))
            .collect();
        let named = self.with_names(seen).await?;
        let events = named.into_iter();
        let events = events.map(|(event, names)| public_event(&event, names));
        Ok(EventPage {
            events: events.collect(),
            looked_until,
            more,
        })
    }

    fn newest_event(&self) -> u64 {
        let shared = &self.manager.shared;
        shared.read(|view| view.site.next_event).saturating_sub(1)
    }

    /// Events with the names that what they are about has now. Of sessions that memory has
    /// forgotten these come from the store; those that were removed have none.
    async fn with_names(
        &self,
        events: Vec<SiteEvent>,
    ) -> Result<Vec<(SiteEvent, EventNames)>, Problem> {
        let mut named: Vec<(SiteEvent, EventNames)> = self.manager.shared.read(|view| {
            let events = events.into_iter();
            events
                .map(|event| {
                    let names = EventNames::of(&event, view);
                    (event, names)
                })
                .collect()
        });
        let unnamed = named.iter().filter(|(_, names)| names.session.is_none());
        let sessions: BTreeSet<SessionId> =
            unnamed.filter_map(|(event, _)| event.session).collect();
        let unnamed = named.iter().filter(|(_, names)| names.array.is_none());
        let arrays: BTreeSet<ArrayId> = unnamed.filter_map(|(event, _)| event.array).collect();
        if sessions.is_empty() && arrays.is_empty() {
            return Ok(named);
        }
        let read = move |store: &mut dyn database::Store| {
            let mut found = (BTreeMap::new(), BTreeMap::new());
            for id in sessions {
                let record = store.session(id)?;
                found
                    .0
                    .extend(record.map(|record| (id, record.shown_name())));
            }
            for id in arrays {
                let record = store.array(id)?;
                found
                    .1
                    .extend(record.map(|record| (id, record.name.to_string())));
            }
            Ok(found)
        };
        let (sessions, arrays) = self.manager.leader.read(read).await?;
        for (event, names) in &mut named {
            let session = event.session.and_then(|id| sessions.get(&id).cloned());
            names.session = names.session.take().or(session);
            let array = event.array.and_then(|id| arrays.get(&id).cloned());
            names.array = names.array.take().or(array);
        }
        Ok(named)
    }
}

/// Events from the store.
async fn read_page(
    leader: &LeaderHandle,
    of: EventScope,
    after: u64,
    since: Option<Timestamp>,
    limit: u32,
) -> Result<Vec<SiteEvent>, LeaderError> {
    let read = move |store: &mut dyn database::Store| {
        let mut after = after;
        if let Some(since) = since {
            match store.first_event_since(since)? {
                Some(first) => after = after.max(first.saturating_sub(1)),
                None => return Ok(Vec::new()),
            }
        }
        store.events(of, after, limit)
    };
    leader.read(read).await
}

/// An instant, or a length of time before now.
fn since(text: &str) -> Result<Timestamp, Problem> {
    match text.parse::<jiff::Timestamp>() {
        Ok(instant) => Ok(Timestamp(instant.as_microsecond())),
        Err(_) => parse_since(text),
    }
}

/// Events about sessions are for their project; those without one are for operators.
fn may_see(caller: &Caller, event: &SiteEvent) -> bool {
    caller.operator || event.project.as_ref() == Some(&caller.project)
}

impl Watcher {
    async fn watch(mut self, mut live: Receiver<Arc<SiteEvent>>, replay: bool) {
        if replay && !self.catch_up().await {
            return;
        }
        loop {
            let out = self.out.clone();
            let event = tokio::select! {
                event = live.recv() => event,
                () = out.closed() => return,
            };
            let told = match event {
                Ok(event) => self.tell(&event).await,
                // Too slow for the buffer: the store has what was dropped.
                Err(RecvError::Lagged(_)) => self.catch_up().await,
                Err(RecvError::Closed) => return,
            };
            if !told {
                return;
            }
        }
    }

    /// Tells what the store has; false if nobody listens any more.
    async fn catch_up(&mut self) -> bool {
        loop {
            let after = self.after;
            let leader = &self.service.manager.leader;
            let read =
                move |store: &mut dyn database::Store| store.events(EventScope::All, after, PAGE);
            let page = match leader.read(read).await {
                Ok(page) => page,
                Err(error) => {
                    let _sent = self.out.send(Err(error.into())).await;
                    return false;
                }
            };
            let last = page.len() < usize::try_from(PAGE).expect("a small limit");
            for event in page {
                if !self.tell(&event).await {
                    return false;
                }
            }
            if last {
                return true;
            }
        }
    }

    async fn tell(&mut self, event: &SiteEvent) -> bool {
        if event.number <= self.after {
            return true;
        }
        self.after = event.number;
        let concerns = self
            .session
            .is_none_or(|session| event.session == Some(session))
            && self.array.is_none_or(|array| event.array == Some(array));
        if !concerns || !may_see(&self.caller, event) {
            return true;
        }
        let shared = &self.service.manager.shared;
        let names = shared.read(|view| EventNames::of(event, view));
        self.out.send(Ok(public_event(event, names))).await.is_ok()
    }
}
