//! The contract of a store, and what is asked of it.

use crate::error::{CommitError, StoreError};
use crate::postgres::LeaseClock;
use domain::{ArrayId, ArrayRecord, Owner, SessionId, SessionName, SessionRecord, Span, Timestamp};
use lifecycle::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent};

/// Most rows that one page holds, whatever the caller asked for.
pub const PAGE_LIMIT: u32 = 1_000;

/// Where a site's rows are kept.
///
/// Synchronous: it lives on a thread of its own, owned by the manager's leader. After
/// [`CommitError::Unknown`] every commit is refused until [`Store::load`] was called, because
/// only a fresh load tells what the store holds.
pub trait Store: Send + std::fmt::Debug {
    /// Everything that a leader keeps in memory: sessions that live, are being removed, or ended
    /// at or after `ended_since`; idempotency keys made at or after `keys_since`.
    /// [`Loaded::uploads`] is left empty: uploads are files, not rows.
    fn load(&mut self, ended_since: Timestamp, keys_since: Timestamp)
    -> Result<Loaded, StoreError>;

    /// Writes a batch in one transaction and returns the commit's number, counted from 1. When it
    /// returns, the batch is on the disk. An empty batch writes nothing and returns the last
    /// number. Whose a session is, its array, its kind and when it was asked for never change.
    fn commit(&mut self, batch: &[RowChange]) -> Result<u64, CommitError>;

    /// One page of sessions that have ended, newest first. A page shorter than its limit is the
    /// last one. Those that live are in the leader's memory, all of them.
    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<SessionRecord>, StoreError>;

    /// One session, however old.
    fn session(&mut self, id: SessionId) -> Result<Option<SessionRecord>, StoreError>;

    /// One page of arrays, newest first. A page shorter than its limit is the last one.
    fn arrays(&mut self, query: &ArrayHistoryQuery) -> Result<Vec<ArrayRecord>, StoreError>;

    /// One array, however old.
    fn array(&mut self, id: ArrayId) -> Result<Option<ArrayRecord>, StoreError>;

    /// Elements of an array, by their index; [`PAGE_LIMIT`] at most.
    fn elements(
        &mut self,
        array: ArrayId,
        scope: ElementScope,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError>;

    /// How many elements of an array there are, by state and outcome.
    fn count_elements(&mut self, array: ArrayId) -> Result<Vec<ElementCount>, StoreError>;

    /// The ended sessions of `owner` that had this name and are no elements, newest first.
    fn sessions_named(
        &mut self,
        owner: &Owner,
        name: &SessionName,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError>;

    /// What a request with this idempotency key of `user` has made, if that was at or after `since`.
    fn made_by(
        &mut self,
        user: &str,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<IdempotencyRow>, StoreError>;

    /// Events with a number above `after`, ascending.
    fn events(
        &mut self,
        of: EventScope,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SiteEvent>, StoreError>;

    /// The number of the first event, by time, at or after `at`.
    fn first_event_since(&mut self, at: Timestamp) -> Result<Option<u64>, StoreError>;

    /// Deletes rows that are older than their retention, at most `limits.rows_per_call` of each
    /// kind; [`PruneReport::more`] says that there is more to do.
    fn prune(&mut self, limits: &Retention, now: Timestamp) -> Result<PruneReport, StoreError>;

    /// The number of the last commit; 0 before the first.
    fn last_commit(&mut self) -> Result<u64, StoreError>;

    /// Whether there is room for new work. [`Room::Full`]: creations are to be refused; stops,
    /// ends and prunes still find the reserve.
    fn room(&mut self) -> Result<Room, StoreError>;

    /// Until when this process may take itself for the leader; `None` where there can be no other.
    fn lease(&self) -> Option<LeaseClock> {
        None
    }

    /// Renews the lease if that is due. After [`StoreError::NotLeading`] nothing is ever written
    /// again; after another error the store is to be loaded anew.
    fn keep_lease(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Lets another manager lead at once.
    fn give_up(&mut self) {}
}

/// Which of the ended sessions a page of history holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Whose.
    pub owner: HistoryOwner,
    /// Only those of this name.
    pub name: Option<SessionName>,
    /// With elements of arrays or without.
    pub elements: HistoryElements,
    /// Only those older than this one: the last of the page before.
    pub before: Option<HistoryCursor>,
    /// Most rows; [`PAGE_LIMIT`] at most.
    pub limit: u32,
}

/// Whose sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryOwner {
    /// Everybody's: for operators.
    Everyone,
    /// Those of one project.
    Project {
        /// The project's domain.
        domain: String,
        /// The project.
        project: String,
    },
    /// Those of one user in one project.
    Owner(Owner),
}

/// Whether elements of arrays belong to a history of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryElements {
    /// They do.
    Included,
    /// They do not: their arrays are told elsewhere.
    LeftOut,
}

/// Which arrays a page of history holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayHistoryQuery {
    /// Whose.
    pub owner: HistoryOwner,
    /// Only those of this name.
    pub name: Option<SessionName>,
    /// Only those that come after this place: older ones.
    pub before: Option<(Timestamp, ArrayId)>,
    /// Most rows; [`PAGE_LIMIT`] at most.
    pub limit: u32,
}

/// What events are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventScope {
    /// Anything.
    All,
    /// A session.
    Session(SessionId),
    /// An array, or an element of it.
    Array(ArrayId),
}

/// Which elements of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementScope {
    /// With an index above this one, or from the first; ascending.
    After(Option<u32>),
    /// With an index below this one, or from the last; descending.
    Before(Option<u32>),
    /// The one with this index.
    One(u32),
    /// Those that ended otherwise than with success; ascending.
    Unsuccessful,
}

/// How many elements of an array are in a state or have an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementCount {
    /// The state's word.
    pub state: String,
    /// The outcome's word, of those that ended.
    pub outcome: Option<String>,
    /// How many.
    pub count: u32,
    /// When the last of them ended.
    pub last_end: Option<Timestamp>,
}

/// A place in a history: the next page begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryCursor {
    /// When the session there was asked for.
    pub created_at: Timestamp,
    /// The session there.
    pub id: SessionId,
}

impl HistoryCursor {
    /// The place of `session`.
    pub fn of(session: &SessionRecord) -> Self {
        Self {
            created_at: session.created_at,
            id: session.id,
        }
    }
}

/// How long rows are kept after they stopped mattering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Sessions, from their end.
    pub ended_sessions: Span,
    /// Events, from when they happened.
    pub events: Span,
    /// Idempotency keys, from their making.
    pub idempotency_keys: Span,
    /// Most rows of each kind that one call deletes, so that a call stays short.
    pub rows_per_call: u32,
}

impl Default for Retention {
    /// 90 days of sessions, 30 of events, one of idempotency keys, 500 rows per call.
    fn default() -> Self {
        const DAY_MS: u64 = 86_400_000;
        Self {
            ended_sessions: Span(90 * DAY_MS),
            events: Span(30 * DAY_MS),
            idempotency_keys: Span(DAY_MS),
            rows_per_call: 500,
        }
    }
}

/// What one call of [`Store::prune`] deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The sessions whose rows are gone.
    pub sessions: Vec<SessionId>,
    /// How many events.
    pub events: u64,
    /// How many idempotency keys.
    pub idempotency_keys: u64,
    /// A limit was reached: call again.
    pub more: bool,
}

/// Whether there is room for new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It is a server's: nothing is known of its disk until a commit is refused.
    Elsewhere,
    /// There is.
    Enough {
        /// Bytes free for an ordinary user on the store's file system.
        free_bytes: u64,
    },
    /// New work is to be refused.
    Full {
        /// Bytes free for an ordinary user on the store's file system.
        free_bytes: u64,
        /// Bytes that must be free before new work is taken.
        needed_bytes: u64,
    },
}
