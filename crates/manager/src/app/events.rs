//! What happened and happens, without a gap between the two.

use crate::app::convert::public_event;
use crate::app::{SiteService, stream_of};
use domain::SessionId;
use lifecycle::rows::SiteEvent;
use public_api::{Caller, EventQuery, EventStream, Problem, PublicEvent};
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Events that wait for a slow reader.
const QUEUE_LIMIT: usize = 64;
/// Events that are read from the store at a time.
const PAGE: u32 = 500;

/// One watcher.
struct Watcher {
    service: SiteService,
    caller: Caller,
    session: Option<SessionId>,
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
        // From here on nothing is missed: what comes between this line and the first read of the
        // store is in both, and told once because numbers ascend.
        let live = self.manager.shared.events();
        let newest = self
            .manager
            .shared
            .read(|view| view.site.next_event)
            .saturating_sub(1);
        let (out, events) = mpsc::channel(QUEUE_LIMIT);
        let watcher = Watcher {
            service: self.clone(),
            caller: caller.clone(),
            session,
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
            let page = match leader.read(move |store| store.events(after, PAGE)).await {
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
            .is_none_or(|session| event.session == Some(session));
        if !concerns || !self.may_see(event) {
            return true;
        }
        self.out.send(Ok(public_event(event))).await.is_ok()
    }

    /// Events about sessions are for their project; those without one are for operators.
    fn may_see(&self, event: &SiteEvent) -> bool {
        self.caller.operator || event.project.as_ref() == Some(&self.caller.project)
    }
}
