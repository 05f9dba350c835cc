//! Saying why a session still waits, by what is committed.

use super::placement::{request, room_below, view_nodes};
use super::restored::unheard_nodes;
use super::view::View;
use super::waiting::{Turn, placed_elements, waits};
use domain::{Priority, SessionId, SessionRecord, Timestamp};
use scheduler::{NodeReasons, Reason, Request};

/// Most names of those that go first.
const NAMES_LIMIT: usize = 3;

/// Why a session is not placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Why not there, by node in the order of pool and name.
    pub nodes: Vec<NodeReasons>,
    /// Who waits for a place too and goes before it, if somebody of a higher priority does.
    pub ahead: Option<Ahead>,
    /// It would fit but for one that has waited too long: the least priority with which it would go
    /// before that one.
    pub past: Option<Priority>,
}

/// Those of a higher priority that wait for a place, as a session does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// How many.
    pub count: usize,
    /// What the first three are called, in their order.
    pub names: Vec<String>,
    /// The least priority with which the session would go before all of them, if there is one.
    pub enough: Option<Priority>,
}

/// Why `session` is not placed; `None` if it does not wait for a place.
pub fn explain(view: &View, session: SessionId, now: Timestamp) -> Option<Explanation> {
    let waiting = waiting(view);
    let requests = waiting.iter().copied();
    let requests = requests.map(|(record, throttled)| request(record, throttled, now));
    let requests: Vec<Request<'_>> = requests.collect();
    let nodes = scheduler::explain(&view_nodes(view), &requests, session)?;
    let own = view.sessions.get(&session)?;
    let ahead = Ahead::of(own, waiting.iter().map(|(record, _)| *record));
    let reasons = nodes.iter().flat_map(|node| &node.reasons);
    let first = reasons.filter_map(|reason| match reason {
        Reason::BehindOthers { session, .. } => view.sessions.get(session),
        Reason::Disconnected
        | Reason::Drained { .. }
        | Reason::NotEnforceable { .. }
        | Reason::SlotShort { .. }
        | Reason::MembersShort { .. } => None,
    });
    let past = first.filter_map(|first| enough(own, first)).min();
    Some(Explanation { nodes, ahead, past })
}

impl Ahead {
    /// Of all that wait, in their order, those that go before `own` by their priority.
    fn of<'a>(
        own: &SessionRecord,
        waiting: impl Iterator<Item = &'a SessionRecord>,
    ) -> Option<Self> {
        let ahead = waiting.filter(|record| record.priority > own.priority);
        let ahead: Vec<&SessionRecord> = ahead.collect();
        let first = ahead.iter().take(NAMES_LIMIT);
        let all = ahead.iter().map(|first| enough(own, first));
        let all: Option<Vec<Priority>> = all.collect();
        (!ahead.is_empty()).then(|| Self {
            count: ahead.len(),
            names: first.map(|record| record.shown_name()).collect(),
            enough: all.and_then(|all| all.into_iter().max()),
        })
    }
}

/// The least priority with which `own` would go before `first`, if there is one: of equal ones the
/// older goes first.
fn enough(own: &SessionRecord, first: &SessionRecord) -> Option<Priority> {
    if (first.created_at, first.id) < (own.created_at, own.id) {
        first.priority.next()
    } else {
        Some(first.priority)
    }
}

/// Who waits for a place, in their order, all elements included that their throttle lets; and
/// whether each has one.
fn waiting(view: &View) -> Vec<(&SessionRecord, bool)> {
    let mut placed = placed_elements(view.sessions.values().map(AsRef::as_ref));
    let mut all: Vec<&SessionRecord> = view
        .sessions
        .values()
        .map(AsRef::as_ref)
        .filter(|record| waits(record) && !record.is_held_back() && record.retry.at.is_none())
        .filter(|record| unheard_nodes(view, record).is_empty())
        .collect();
    all.sort_by_key(|record| Turn::of(record));
    let mut waiting = Vec::new();
    for record in all {
        let array = record.array.and_then(|(array, _)| view.array(array));
        let throttle = array.and_then(|array| array.throttle);
        if let Some((array, _)) = record.array {
            let placed = placed.entry(array).or_default();
            if room_below(throttle, *placed) == 0 {
                continue;
            }
            *placed += 1;
        }
        waiting.push((record, throttle.is_some()));
    }
    waiting
}
