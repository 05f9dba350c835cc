//! Which sessions could be placed, which have members on nodes, and which wait for something else:
//! indexes over what records say, so that no step walks thousands of sessions that merely wait.

use super::placement::shape_of;
use super::restored::{next_attempt, unheard_nodes};
use super::site::Site;
use super::view::View;
use crate::planted::{Planted, planted};
use domain::{
    ArrayId, DependencyState, DependencyTarget, Intention, MemberRecord, MemberState, Priority,
    SessionId, SessionRecord, SessionState, Timestamp,
};
use scheduler::Shape;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sessions that are not placed, by what they wait for; and of arrays those that are.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Those that wait for a place only and are no elements, in their order, by what they ask for:
    /// where one does not fit none of the same shape does.
    pub(super) alone: BTreeMap<Arc<Shape>, BTreeSet<Turn>>,
    /// Elements that wait for a place, or for their array's throttle. Those of an array have one
    /// priority and one time: they stand in the order of their ids.
    pub(super) elements: BTreeMap<ArrayId, BTreeSet<SessionId>>,
    /// Those whose next attempt may not begin before a time.
    pub(super) paused: BTreeSet<(Timestamp, SessionId)>,
    /// Those that wait for the end of something.
    pub(super) dependents: BTreeMap<DependencyTarget, BTreeSet<SessionId>>,
    /// Elements that are placed, run or stop.
    placed: BTreeMap<ArrayId, BTreeSet<SessionId>>,
}

/// Where a session comes among those that wait for a place: the least is looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    priority: Reverse<Priority>,
    created_at: Timestamp,
    pub(super) session: SessionId,
}

impl Turn {
    pub(super) fn of(record: &SessionRecord) -> Self {
        Self::with(record, record.priority)
    }

    fn with(record: &SessionRecord, priority: Priority) -> Self {
        let is_only_told = planted(Planted::PriorityIsOnlyTold);
        Self {
            priority: Reverse(if is_only_told {
                Priority::USUAL
            } else {
                priority
            }),
            created_at: record.created_at,
            session: record.id,
        }
    }

    /// Behind all of its priority.
    pub(super) fn last_of_its_priority(self) -> Self {
        Self {
            created_at: Timestamp(i64::MAX),
            session: SessionId(u64::MAX),
            ..self
        }
    }
}

/// Where a session stands among those that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Its next attempt may not begin before this.
    Paused(Timestamp),
    /// Something has to end first.
    HeldBack,
    /// It waits for a place, or for its array's throttle.
    Element(ArrayId),
    /// It waits for a place, with this priority.
    Alone(Arc<Shape>, Priority),
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
    fn remove(&mut self, record: &SessionRecord, stand: &Stand) {
        let id = record.id;
        match stand {
            Stand::Paused(at) => {
                self.paused.remove(&(*at, id));
            }
            Stand::HeldBack => {
                for dependency in &record.after {
                    remove_from(&mut self.dependents, &dependency.on, &id);
                }
            }
            Stand::Element(array) => remove_from(&mut self.elements, array, &id),
            Stand::Alone(shape, priority) => {
                let turn = Turn::with(record, *priority);
                remove_from(&mut self.alone, shape, &turn);
            }
        }
    }

    fn put(&mut self, record: &SessionRecord, stand: &Stand) {
        let id = record.id;
        match stand {
            Stand::Paused(at) => {
                self.paused.insert((*at, id));
            }
            Stand::HeldBack => {
                let undecided = record.after.iter();
                let undecided = undecided.filter(|other| other.state == DependencyState::Waiting);
                for dependency in undecided {
                    self.dependents.entry(dependency.on).or_default().insert(id);
                }
            }
            Stand::Element(array) => {
                self.elements.entry(*array).or_default().insert(id);
            }
            Stand::Alone(shape, priority) => {
                let alone = self.alone.entry(Arc::clone(shape)).or_default();
                alone.insert(Turn::with(record, *priority));
            }
        }
    }

    /// Where a session that waits stands; `known`: where it stood before.
    fn stand_of(&self, record: &SessionRecord, known: Option<&Stand>) -> Stand {
        if let Some(at) = record.retry.at {
            return Stand::Paused(at);
        }
        if record.is_held_back() {
            return Stand::HeldBack;
        }
        if let Some((array, _)) = record.array {
            return Stand::Element(array);
        }
        // What a session asks for never changes.
        let shape = match known {
            Some(Stand::Alone(shape, _)) => Arc::clone(shape),
            Some(Stand::Paused(_) | Stand::HeldBack | Stand::Element(_)) | None => {
                let shape = shape_of(&record.spec);
                let known = self.alone.get_key_value(&shape);
                known.map_or_else(|| Arc::new(shape), |(shape, _)| Arc::clone(shape))
            }
        };
        Stand::Alone(shape, record.priority)
    }
}

fn remove_from<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
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
        let Some(entry) = self.sessions.get_mut(&id) else {
            return;
        };
        let record = &entry.record;
        let stand = waits(record).then(|| self.waiting.stand_of(record, entry.stand.as_ref()));
        // Of what a session waits for one end after the other is decided.
        let moves = stand != entry.stand || stand == Some(Stand::HeldBack);
        if moves {
            if let Some(before) = &entry.stand {
                self.waiting.remove(record, before);
            }
            if let Some(stand) = &stand {
                self.waiting.put(record, stand);
            }
        }
        if let Some((array, _)) = record.array {
            if is_placed_element(record) {
                self.waiting.placed.entry(array).or_default().insert(id);
            } else {
                remove_from(&mut self.waiting.placed, &array, &id);
            }
        }
        let is_left = |member: &MemberRecord| member.state != MemberState::Gone;
        let is_held = entry.is_active && record.all_members().any(is_left);
        if is_held != entry.is_held {
            entry.is_held = is_held;
            if is_held {
                self.held.insert(id);
            } else {
                self.held.remove(&id);
            }
        }
        if moves {
            entry.stand = stand;
        }
        self.index_places(id);
    }

    /// Takes a session out of them.
    pub(super) fn unindex_life(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get(&id) else {
            return;
        };
        if let Some(stand) = &entry.stand {
            self.waiting.remove(&entry.record, stand);
        }
        if let Some((array, _)) = entry.record.array {
            remove_from(&mut self.waiting.placed, &array, &id);
        }
        self.held.remove(&id);
    }

    /// How many elements of an array are placed, run or stop.
    pub(super) fn placed_of(&self, array: ArrayId) -> u32 {
        let placed = self.waiting.placed.get(&array).map_or(0, BTreeSet::len);
        u32::try_from(placed).unwrap_or(u32::MAX)
    }
}

fn is_placed_element(record: &SessionRecord) -> bool {
    record.array.is_some() && record.state.is_living() && !record.members.is_empty()
}

pub(super) fn placed_elements<'a>(
    records: impl Iterator<Item = &'a SessionRecord>,
) -> BTreeMap<ArrayId, u32> {
    let mut placed: BTreeMap<ArrayId, u32> = BTreeMap::new();
    for record in records {
        if let Some((array, _)) = record.array
            && is_placed_element(record)
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
