//! What memory has dropped, read from the store because a request is about it.

use crate::clock;
use crate::leader::{Command, Leader, Request};
use database::ElementScope;
use domain::{ArrayId, Intention, SessionId, SessionRecord};
use lifecycle::manager::{Event, EventKind};

/// Elements that are read at a time.
const PAGE: u32 = 500;

/// What a request is about that memory may have dropped.
#[derive(Clone, Copy, Debug)]
enum Recalled {
    Session(SessionId),
    Elements(ArrayId),
}

impl Recalled {
    fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Remove(session, _) | Request::Rename(session, _) => {
                Some(Self::Session(*session))
            }
            Request::RemoveArray(array, _) => Some(Self::Elements(*array)),
            Request::Create(_)
            | Request::Stop(..)
            | Request::EndRetries(_)
            | Request::Pause(..)
            | Request::Resume(..)
            | Request::PauseArray(..)
            | Request::ResumeArray(..)
            | Request::EndUnclaimed(_)
            | Request::CreateArray(_)
            | Request::StopArray(..)
            | Request::Throttle(..)
            | Request::Prioritize(_)
            | Request::AddImage(..)
            | Request::RemoveImage(..)
            | Request::PruneImages(_)
            | Request::OrderNode(..) => None,
        }
    }
}

impl Leader {
    /// It may be about what memory has dropped. The store is asked only when everything that was
    /// stepped is in it: what has just been deleted there must not come back.
    pub(super) fn needs_store(&self, command: &Command) -> bool {
        let Command::Request { request, .. } = command else {
            return false;
        };
        match Recalled::of(request) {
            Some(Recalled::Session(session)) => {
                let site = self.site.as_ref();
                site.is_none_or(|site| site.session(session).is_none())
            }
            Some(Recalled::Elements(_)) => true,
            None => false,
        }
    }

    /// What the request is about, read from the store where memory has dropped it.
    pub(super) fn recall_for(&mut self, request: &Request) -> Vec<Event> {
        match Recalled::of(request) {
            Some(Recalled::Session(session)) => self.recall(session).into_iter().collect(),
            Some(Recalled::Elements(array)) => self.recall_array(array).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// A session that is to be removed.
    fn recall(&mut self, session: SessionId) -> Option<Event> {
        let site = self.site.as_ref()?;
        if site.session(session).is_some() {
            return None;
        }
        let record = self.line.store()?.session(session).ok().flatten()?;
        self.recalled(record)
    }

    /// All elements of an array that is to be removed which memory does not hold.
    fn recall_array(&mut self, array: ArrayId) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(site) = &self.site else {
            return events;
        };
        let size = site.array(array).map(|record| record.size);
        let held = u32::try_from(site.elements(array).count());
        if size.is_some() && size == held.ok() {
            return events;
        }
        let mut after = None;
        loop {
            let scope = ElementScope::After(after);
            let store = self.line.store();
            let page = store.map(|store| store.elements(array, scope, PAGE));
            let page = page.and_then(Result::ok).unwrap_or_default();
            let last = page.last().and_then(|record| record.array);
            let Some((_, index)) = last else {
                return events;
            };
            after = Some(index);
            for record in page {
                let known = self.site.as_ref();
                let known = known.is_some_and(|site| site.session(record.id).is_some());
                if !known {
                    events.extend(self.recalled(record));
                }
            }
        }
    }

    fn recalled(&mut self, mut record: SessionRecord) -> Option<Event> {
        if record.state.is_living() {
            return None;
        }
        record.intention = match record.intention {
            // It is asked for anew; a removal that was under way would be in memory.
            Intention::Remove { .. } | Intention::Run => Intention::Run,
            other @ (Intention::Stop { .. } | Intention::Fail { .. }) => other,
        };
        let store = self.line.store();
        let array = record.array.zip(store);
        let array = array.and_then(|((array, _), store)| store.array(array).ok().flatten());
        Some(Event {
            now: clock::now(),
            kind: EventKind::Recalled {
                session: Box::new(record),
                array: array.map(Box::new),
            },
        })
    }
}
