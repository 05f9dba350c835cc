//! Which sessions could be placed, which have members on nodes, and which wait for something else:
//! indexes over what records say, so that no step walks thousands of sessions that merely wait.

use super::restored::{next_attempt, unheard_nodes};
use super::site::Site;
use super::view::View;
use domain::{
    ArrayId, DependencyState, DependencyTarget, Intention, MemberRecord, MemberState, SessionId,
    SessionRecord, SessionState, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// Sessions that are not placed, by what they wait for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Those that wait for a place only and are no elements.
    pub(super) alone: BTreeSet<SessionId>,
    /// Elements that wait for a place, or for their array's throttle.
    pub(super) elements: BTreeMap<ArrayId, BTreeSet<SessionId>>,
    /// Those whose next attempt may not begin before a time.
    pub(super) paused: BTreeSet<(Timestamp, SessionId)>,
    /// Those that wait for the end of something.
    pub(super) dependents: BTreeMap<DependencyTarget, BTreeSet<SessionId>>,
}

/// What holds a session back before any node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Something has to end first: each one's name, and how it has to end.
    After {
        /// All that have not.
        names: Vec<(String, domain::Need)>,
    },
    /// Its next attempt waits.
    Pause {
        /// Until when.
        until: Timestamp,
        /// Which attempt it will be.
        attempt: u32,
    },
    /// The store was restored from an older copy, and it may have been placed since.
    Restored {
        /// The names of the nodes that have not told yet what they have.
        nodes: Vec<String>,
    },
    /// As many elements of its array live as may.
    Throttle {
        /// The array's name.
        array: String,
        /// How many may.
        limit: u32,
        /// How many do.
        living: u32,
    },
}

impl Waiting {
    /// `paused_at` is the place that it had among those that pause.
    fn remove(&mut self, record: &SessionRecord, paused_at: Option<Timestamp>) {
        let id = record.id;
        if let Some(at) = paused_at {
            self.paused.remove(&(at, id));
        }
        self.alone.remove(&id);
        if let Some((array, _)) = record.array {
            remove_from(&mut self.elements, array, id);
        }
        for dependency in &record.after {
            remove_from(&mut self.dependents, dependency.on, id);
        }
    }

    fn put(&mut self, record: &SessionRecord) {
        let id = record.id;
        if let Some(at) = record.retry.at {
            self.paused.insert((at, id));
        } else if record.is_held_back() {
            let undecided = record.after.iter();
            let undecided = undecided.filter(|other| other.state == DependencyState::Waiting);
            for dependency in undecided {
                self.dependents.entry(dependency.on).or_default().insert(id);
            }
        } else if let Some((array, _)) = record.array {
            self.elements.entry(array).or_default().insert(id);
        } else {
            self.alone.insert(id);
        }
    }
}

fn remove_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<SessionId>>, key: K, id: SessionId) {
    if let Some(set) = map.get_mut(&key) {
        set.remove(&id);
        if set.is_empty() {
            map.remove(&key);
        }
    }
}

/// It is not placed and nobody asked for its end.
pub(super) fn waits(record: &SessionRecord) -> bool {
    record.state == SessionState::Pending
        && record.intention == Intention::Run
        && record.members.is_empty()
}

impl Site {
    /// Puts a session into the indexes of waiting and of placed ones where it belongs.
    pub(super) fn index_life(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get(&id) else {
            return;
        };
        let record = &entry.record;
        self.waiting.remove(record, entry.paused_at);
        let waits = waits(record);
        if waits {
            self.waiting.put(record);
        }
        let is_left = |member: &MemberRecord| member.state != MemberState::Gone;
        if self.active.contains(&id) && record.all_members().any(is_left) {
            self.held.insert(id);
        } else {
            self.held.remove(&id);
        }
        let paused_at = record.retry.at.filter(|_| waits);
        if paused_at != entry.paused_at {
            self.entry_mut(id).paused_at = paused_at;
        }
    }

    /// Takes a session out of them.
    pub(super) fn unindex_life(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get(&id) else {
            return;
        };
        self.waiting.remove(&entry.record, entry.paused_at);
        self.held.remove(&id);
    }

    /// Elements of each array that are placed, run or stop: derived from those that have members.
    pub(super) fn placed_elements(&self) -> BTreeMap<ArrayId, u32> {
        placed_elements(self.held().map(|entry| &entry.record))
    }
}

pub(super) fn placed_elements<'a>(
    records: impl Iterator<Item = &'a SessionRecord>,
) -> BTreeMap<ArrayId, u32> {
    let mut placed: BTreeMap<ArrayId, u32> = BTreeMap::new();
    for record in records {
        if let Some((array, _)) = record.array
            && record.state.is_living()
            && !record.members.is_empty()
        {
            *placed.entry(array).or_default() += 1;
        }
    }
    placed
}

/// What holds a session back that waits; `None` if only a place is missing.
pub fn hold(view: &View, session: &SessionRecord) -> Option<Hold> {
    if !waits(session) {
        return None;
    }
    if session.is_held_back() {
        let undecided = session.after.iter();
        let undecided = undecided.filter(|other| other.state == DependencyState::Waiting);
        let names = undecided
            .map(|other| (other.name.clone(), other.need))
            .collect();
        return Some(Hold::After { names });
    }
    if let Some(until) = session.retry.at {
        let attempt = next_attempt(&view.site, session);
        return Some(Hold::Pause { until, attempt });
    }
    let unheard = unheard_nodes(view, session);
    if !unheard.is_empty() {
        let nodes = unheard.into_iter().map(|node| node.name.clone()).collect();
        return Some(Hold::Restored { nodes });
    }
    let (array, _) = session.array?;
    let record = view.array(array)?;
    let limit = record.throttle?;
    let records = view.elements(array);
    let living = placed_elements(records).get(&array).copied().unwrap_or(0);
    (living >= limit).then(|| Hold::Throttle {
        array: record.name.to_string(),
        limit,
        living,
    })
}
