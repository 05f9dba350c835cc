//! A store in memory that fails on order.

use database::{
    ArrayHistoryQuery, CommitError, ElementCount, ElementScope, EventScope, HistoryQuery,
    LeaderPlace, PruneReport, Retention, Room, Store, StoreError,
};
use domain::{
    ArrayId, ArrayRecord, NodeId, NodeRecord, Owner, SessionId, SessionName, SessionRecord, SiteId,
    Timestamp,
};
use lifecycle::manager::Catalogue;
use lifecycle::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent, SiteRow};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

/// How the next commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing is written.
    Refused,
    /// It is written, and nobody knows.
    UnknownWritten,
    /// It is not written, and nobody knows.
    UnknownLost,
    /// Another manager leads.
    Overtaken,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    site: Option<SiteRow>,
    sessions: BTreeMap<SessionId, SessionRecord>,
    arrays: BTreeMap<ArrayId, ArrayRecord>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    keys: Vec<IdempotencyRow>,
    events: Vec<SiteEvent>,
    catalogue: Catalogue,
    commits: u64,
    pub(crate) fail: Option<Failure>,
    pub(crate) fail_loads: usize,
    pub(crate) full: bool,
    /// Commits wait as long as it is set.
    pub(crate) holds: bool,
    /// A commit waits.
    is_waiting: bool,
    /// How often rows were to be written.
    tries: usize,
    /// How often the site was loaded.
    loads: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeStore(pub(crate) Arc<Mutex<Rows>>, Arc<Condvar>);

impl FakeStore {
    pub(crate) fn order(&self, change: impl FnOnce(&mut Rows)) {
        change(&mut self.0.lock().expect("not poisoned"));
        self.1.notify_all();
    }

    /// A commit is held up.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.lock().expect("not poisoned").is_waiting
    }

    pub(crate) fn tries(&self) -> usize {
        self.0.lock().expect("not poisoned").tries
    }

    pub(crate) fn loads(&self) -> usize {
        self.0.lock().expect("not poisoned").loads
    }

    pub(crate) fn events(&self) -> Vec<SiteEvent> {
        self.0.lock().expect("not poisoned").events.clone()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.0.lock().expect("not poisoned").sessions.len()
    }
}

impl Rows {
    fn write(&mut self, batch: &[RowChange]) {
        self.commits += 1;
        for change in batch.iter().cloned() {
            match change {
                RowChange::PutArray { array } => {
                    self.arrays.insert(array.id, *array);
                }
                RowChange::PutSession { session } => {
                    self.sessions.insert(session.id, session.as_ref().clone());
                }
                RowChange::DeleteSession { session } => {
                    self.sessions.remove(&session);
                }
                RowChange::PutNode { node } => {
                    self.nodes.insert(node.id, *node);
                }
                RowChange::DeleteNode { node } => {
                    self.nodes.remove(&node);
                }
                RowChange::AddEvent { event } => self.events.push(event),
                RowChange::PutIdempotencyKey { key } => self.keys.push(key),
                RowChange::PutSite { site } => self.site = Some(site),
                row @ (RowChange::PutImage { .. }
                | RowChange::DeleteImage { .. }
                | RowChange::PutImageName { .. }
                | RowChange::DeleteImageName { .. }) => self.catalogue.apply(&row),
            }
        }
    }
}

impl Store for FakeStore {
    fn load(&mut self, _: Timestamp, _: Timestamp) -> Result<Loaded, StoreError> {
        let mut rows = self.0.lock().expect("not poisoned");
        rows.loads += 1;
        if rows.fail_loads > 0 {
            rows.fail_loads -= 1;
            return Err(StoreError::NoSite);
        }
        let new = SiteRow {
            id: SiteId(7),
            incarnation: 1,
            epoch: 0,
            next_event: 1,
            restored_epoch: 0,
        };
        let (images, image_names) = rows.catalogue.rows();
        Ok(Loaded {
            site: rows.site.clone().unwrap_or(new),
            restored: None,
            sessions: rows.sessions.values().cloned().collect(),
            arrays: rows.arrays.values().cloned().collect(),
            nodes: rows.nodes.values().cloned().collect(),
            idempotency: rows.keys.clone(),
            images,
            image_names,
            uploads: vec![],
        })
    }

    fn commit(&mut self, batch: &[RowChange]) -> Result<u64, CommitError> {
        let mut rows = self.0.lock().expect("not poisoned");
        rows.tries += 1;
        while rows.holds {
            rows.is_waiting = true;
            rows = self.1.wait(rows).expect("not poisoned");
        }
        rows.is_waiting = false;
        let source = StoreError::NoSite;
        match rows.fail.take() {
            None => rows.write(batch),
            Some(Failure::Refused) => return Err(CommitError::Refused { source }),
            Some(Failure::UnknownLost) => return Err(CommitError::Unknown { source }),
            Some(Failure::Overtaken) => {
                let leader = LeaderPlace::default();
                let source = StoreError::NotLeading { leader };
                return Err(CommitError::Refused { source });
            }
            Some(Failure::UnknownWritten) => {
                rows.write(batch);
                return Err(CommitError::Unknown { source });
            }
        }
        Ok(rows.commits)
    }

    fn history(&mut self, _: &HistoryQuery) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(self
            .0
            .lock()
            .expect("not poisoned")
            .sessions
            .values()
            .rev()
            .filter(|session| !session.state.is_living())
            .cloned()
            .collect())
    }

    fn session(&mut self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Ok(self
            .0
            .lock()
            .expect("not poisoned")
            .sessions
            .get(&id)
            .cloned())
    }

    fn arrays(&mut self, _: &ArrayHistoryQuery) -> Result<Vec<ArrayRecord>, StoreError> {
        let rows = self.0.lock().expect("not poisoned");
        Ok(rows.arrays.values().rev().cloned().collect())
    }

    fn array(&mut self, id: ArrayId) -> Result<Option<ArrayRecord>, StoreError> {
        let rows = self.0.lock().expect("not poisoned");
        Ok(rows.arrays.get(&id).cloned())
    }

    fn elements(
        &mut self,
        _: ArrayId,
        _: ElementScope,
        _: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn count_elements(&mut self, _: ArrayId) -> Result<Vec<ElementCount>, StoreError> {
        Ok(Vec::new())
    }

    fn sessions_named(
        &mut self,
        owner: &Owner,
        name: &SessionName,
        _: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let rows = self.0.lock().expect("not poisoned");
        let found = rows.sessions.values().rev();
        Ok(found
            .filter(|s| s.owner == *owner && s.name == *name && !s.state.is_living())
            .cloned()
            .collect())
    }

    fn made_by(
        &mut self,
        user: &str,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        let rows = self.0.lock().expect("not poisoned");
        let mut keys = rows.keys.iter().rev();
        let found = keys.find(|row| row.user == user && row.key == key && row.at >= since);
        Ok(found.cloned())
    }

    fn events(&mut self, of: EventScope, after: u64, _: u32) -> Result<Vec<SiteEvent>, StoreError> {
        let rows = self.0.lock().expect("not poisoned");
        let concerns = |event: &SiteEvent| match of {
            EventScope::All => true,
            EventScope::Session(session) => event.session == Some(session),
            EventScope::Array(array) => event.array == Some(array),
        };
        let events = rows.events.iter();
        Ok(events
            .filter(|event| event.number > after && concerns(event))
            .cloned()
            .collect())
    }

    fn first_event_since(&mut self, at: Timestamp) -> Result<Option<u64>, StoreError> {
        let events = self.events(EventScope::All, 0, 0)?;
        let found = events.iter().find(|event| event.at >= at);
        Ok(found.map(|event| event.number))
    }

    fn prune(&mut self, _: &Retention, _: Timestamp) -> Result<PruneReport, StoreError> {
        Ok(PruneReport::default())
    }

    fn last_commit(&mut self) -> Result<u64, StoreError> {
        Ok(self.0.lock().expect("not poisoned").commits)
    }

    fn room(&mut self) -> Result<Room, StoreError> {
        if self.0.lock().expect("not poisoned").full {
            return Ok(Room::Full {
                free_bytes: 1 << 20,
                needed_bytes: 64 << 20,
            });
        }
        Ok(Room::Enough {
            free_bytes: 1 << 40,
        })
    }
}
