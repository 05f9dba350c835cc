//! What everybody reads: the committed view, the number of its commit, and events as they are
//! committed. Only the leader writes.

use database::{CommitError, LeaseClock};
use domain::{Timestamp, UploadId};
use lifecycle::manager::{Effects, View};
use lifecycle::rows::{RowChange, SiteEvent};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Events that a slow watcher may lag behind before it has to read them from the store.
const EVENT_BUFFER: usize = 1_024;

/// The committed state of a site. Locks are held for a look only, never across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    view: RwLock<View>,
    committed: watch::Sender<u64>,
    events: broadcast::Sender<Arc<SiteEvent>>,
    /// Until when the view may be shown; `None` where there can be no other leader.
    lease: Option<LeaseClock>,
    /// Who leads instead, once somebody does.
    overtaken: watch::Sender<Option<String>>,
}

impl Shared {
    pub(crate) fn new(view: View, commit: u64, lease: Option<LeaseClock>) -> Self {
        Self {
            view: RwLock::new(view),
            committed: watch::Sender::new(commit),
            events: broadcast::Sender::new(EVENT_BUFFER),
            lease,
            overtaken: watch::Sender::new(None),
        }
    }

    /// Whether what this manager knows may be told as the truth.
    pub(crate) fn leads(&self) -> bool {
        self.lease.as_ref().is_none_or(LeaseClock::holds)
    }

    /// Another manager leads: `reason` says which.
    pub(crate) fn overtake(&self, reason: String) {
        tracing::error!("{reason}: this manager ends, sessions go on");
        self.overtaken.send_replace(Some(reason));
    }

    /// Changes once when another manager leads.
    pub(crate) fn overtaken(&self) -> watch::Receiver<Option<String>> {
        self.overtaken.subscribe()
    }

    /// Looks at the view.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The uploads that living sessions name.
    pub(crate) fn named_uploads(&self) -> BTreeSet<UploadId> {
        self.read(|view| {
            let sessions = view.sessions.values();
            let living = sessions.filter(|record| record.state.is_living());
            living.filter_map(|record| record.spec.upload).collect()
        })
    }

    /// The number of the last commit that the view shows.
    pub(crate) fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Events from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<SiteEvent>> {
        self.events.subscribe()
    }

    /// Changes whenever something was committed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Waits until `look` finds what it wants, and returns it; `None` after `limit`. Cancellation
    /// safe.
    pub(crate) async fn wait_for<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&View) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changes();
        let found = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = self.read(&mut look) {
                    return Some(found);
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(limit, found).await.ok().flatten()
    }

    /// Shows effects whose rows were committed, all at once. `commit` is `None` where there were no
    /// rows.
    pub(crate) fn apply<'a>(
        &self,
        effects: impl Iterator<Item = &'a Effects> + Clone,
        commit: Option<u64>,
    ) {
        {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            effects.clone().for_each(|effects| view.apply(effects));
        }
        self.announce(effects, commit);
    }

    /// Shows a view that was loaded anew.
    pub(crate) fn replace(&self, view: View, effects: &Effects, commit: u64) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        self.announce([effects].into_iter(), Some(commit));
    }

    fn announce<'a>(&self, effects: impl Iterator<Item = &'a Effects>, commit: Option<u64>) {
        if let Some(commit) = commit {
            self.committed.send_replace(commit);
        }
        for row in effects.flat_map(|effects| &effects.rows) {
            if let RowChange::AddEvent { event } = row {
                // Nobody may be watching.
                let _receivers = self.events.send(Arc::new(event.clone()));
            }
        }
    }
}

/// Why the leader did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaderError {
    /// It is not there: starting or going down.
    #[error("the site is going down")]
    Closed,
    /// A node said goodbye while its hello waited.
    #[error("the node went away before it was taken in")]
    NodeLeft,
    /// Too much waits for it.
    #[error("too many requests wait for the site's leader")]
    Busy,
    /// The commit failed, or nobody knows whether it did.
    #[error("the change could not be recorded: {reason}")]
    Commit {
        /// The whole chain.
        reason: String,
        /// The disk is full.
        full: bool,
    },
    /// The store cannot be read.
    #[error("the site's store cannot be read: {reason}")]
    Store {
        /// The whole chain.
        reason: String,
    },
    /// There is no room for new work.
    #[error("the site's disk has {free_bytes} bytes free, new work needs {needed_bytes}")]
    NoRoom {
        /// Free for an ordinary user.
        free_bytes: u64,
        /// Needed.
        needed_bytes: u64,
    },
}

impl LeaderError {
    pub(crate) fn of_commit(error: &CommitError) -> Self {
        Self::Commit {
            reason: chain(error),
            full: error.is_full(),
        }
    }

    pub(crate) fn of_store(error: &database::StoreError) -> Self {
        Self::Store {
            reason: chain(error),
        }
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// `now` less a retention, for loads.
pub(crate) fn before(now: Timestamp, retention_ms: u64) -> Timestamp {
    let micros = i64::try_from(retention_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(micros))
}
