//! Placing what waits, and saying why something still does.

use super::arrays::ArrayEntry;
use super::create::required_rows;
use super::restored::{next_attempt, unheard_nodes};
use super::site::Site;
use super::view::View;
use super::waiting::{placed_elements, waits};
use crate::planted::{Planted, planted};
use domain::{
    DependencyState, MemberId, MemberPause, MemberRecord, MemberState, NodeId, NodeRecord, Now,
    SessionId, SessionRecord, SessionSpec, SlotName, Span, Timestamp,
};
use node_api::MemberSpec;
use scheduler::{Holding, Node, NodeReasons, Placement, Request};
use std::collections::BTreeMap;

/// Most elements of one array that one pass looks at.
const ELEMENTS_OF_A_PASS: usize = 256;

impl Site {
    /// Places every session that can start now. What nodes have free is summed up from the members
    /// that live, here and now, so that it cannot drift.
    pub(super) fn place(&mut self, now: Now) {
        loop {
            let waiting = self.requests(now.wall);
            if waiting.is_empty() {
                return;
            }
            let sessions = self.held().map(|entry| &entry.record);
            let heard = self.nodes.values().filter(|entry| !entry.unheard);
            let heard = heard.map(|entry| &entry.record);
            let nodes = nodes_with_holdings(heard, sessions, self.foreign_holdings());
            let placements = scheduler::plan(&nodes, &waiting);
            // Where all that an array had in this pass were placed, the next of it may fit as well.
            let all = placements.len() >= ELEMENTS_OF_A_PASS;
            for placement in placements {
                self.place_session(placement);
            }
            if !all {
                return;
            }
        }
    }

    /// Members are given more of a node than it offers.
    pub(super) fn is_overcommitted(&self, node: NodeId) -> bool {
        let record = self.nodes.get(&node).map(|entry| &entry.record);
        let sessions = self.held().map(|entry| &entry.record);
        let nodes = nodes_with_holdings(record.into_iter(), sessions, self.foreign_holdings());
        nodes.iter().any(|node| {
            let mut used = used_of(node).into_iter();
            used.any(|(slot, amount)| amount > u128::from(node.record.offers.get(&slot)))
        })
    }

    /// Sessions that may be placed, oldest first. Elements of one array need the same, so where
    /// one does not fit none does: a pass looks at no more of each than [`ELEMENTS_OF_A_PASS`],
    /// and at no more than its throttle leaves.
    fn requests(&self, now: Timestamp) -> Vec<Request<'_>> {
        let all_heard = self.are_all_heard();
        let may = |record: &&SessionRecord| !self.is_in_doubt(record, all_heard);
        let alone = self.waiting.alone.iter();
        let alone = alone.map(|id| &self.sessions[id].record);
        let mut waiting: Vec<&SessionRecord> = alone.filter(may).collect();
        let placed = self.placed_elements();
        for (array, elements) in &self.waiting.elements {
            let entry = self.arrays.get(array);
            let throttle = entry.and_then(|entry| entry.record.throttle);
            let placed = placed.get(array).copied().unwrap_or(0);
            let room = room_below(throttle, placed).min(ELEMENTS_OF_A_PASS);
            let elements = elements.iter().map(|id| &self.sessions[id].record);
            waiting.extend(elements.filter(may).take(room));
        }
        waiting.sort_by_key(|record| (record.created_at, record.id));
        let requests = waiting.into_iter().map(|record| {
            let array = record.array.and_then(|(array, _)| self.arrays.get(&array));
            request(record, array.is_some_and(is_throttled), now)
        });
        requests.collect()
    }

    fn place_session(&mut self, placement: Placement) {
        let id = placement.session;
        let attempt = next_attempt(&self.row, &self.sessions[&id].record);
        let epoch = self.row.epoch;
        let record = self.record_mut(id);
        (record.attempt, record.epoch) = (attempt, epoch);
        record.members = (0..)
            .zip(placement.nodes)
            .map(|(index, node)| MemberRecord {
                id: MemberId {
                    session: id,
                    attempt,
                    index,
                },
                node,
                state: MemberState::Assigned,
                pause: MemberPause::Off,
            })
            .collect();
        self.out.touched.insert(id);
        self.index_life(id);
    }

    /// What unclaimed members and members of older attempts have of nodes.
    fn foreign_holdings(&self) -> impl Iterator<Item = (NodeId, Holding<'_>)> {
        self.nodes.iter().flat_map(|(node, entry)| {
            let living = entry.foreign.iter().filter(|(_, f)| f.state.occupies());
            living.filter_map(|(id, foreign)| {
                let known = self.sessions.get(&id.session);
                let holding = match (&foreign.spec, known) {
                    (Some(spec), _) => holding_of(id.session, spec),
                    (None, Some(entry)) => holding(&entry.record),
                    (None, None) => return None,
                };
                Some((*node, holding))
            })
        })
    }
}

/// Why `session` is not placed, by node; `None` if it does not wait.
pub fn explain(view: &View, session: SessionId, now: Timestamp) -> Option<Vec<NodeReasons>> {
    let waiting = view_requests(view, now);
    let nodes = view_nodes(view);
    scheduler::explain(&nodes, &waiting, session)
}

/// Every node of a view with what living members have of it.
pub(super) fn view_nodes(view: &View) -> Vec<Node<'_>> {
    let unclaimed = view.unclaimed.iter().flat_map(|(node, members)| {
        let living = members.iter().filter(|member| member.state.occupies());
        living.filter_map(|member| {
            let spec = member.spec.as_ref()?;
            Some((*node, holding_of(member.id.session, spec)))
        })
    });
    let sessions = view.sessions.values().map(AsRef::as_ref);
    nodes_with_holdings(view.present_nodes(), sessions, unclaimed)
}

/// What members have of a node, by slot.
pub(super) fn used_of(node: &Node<'_>) -> BTreeMap<SlotName, u128> {
    let mut used: BTreeMap<SlotName, u128> = BTreeMap::new();
    for (slot, amount) in node.holdings.iter().flat_map(|h| &h.slots.0) {
        *used.entry(slot.clone()).or_default() += u128::from(*amount);
    }
    used
}

fn nodes_with_holdings<'a>(
    nodes: impl Iterator<Item = &'a NodeRecord>,
    sessions: impl Iterator<Item = &'a SessionRecord>,
    further: impl Iterator<Item = (NodeId, Holding<'a>)>,
) -> Vec<Node<'a>> {
    let mut holdings: BTreeMap<NodeId, Vec<Holding<'a>>> = BTreeMap::new();
    for record in sessions {
        for member in record.members.iter().filter(|m| m.state.occupies()) {
            let stops = matches!(member.state, MemberState::Stopping { .. });
            if stops && planted(Planted::StoppingHoldsNothing) {
                continue;
            }
            let of_node = holdings.entry(member.node).or_default();
            of_node.push(holding(record));
        }
    }
    for (node, holding) in further {
        holdings.entry(node).or_default().push(holding);
    }
    nodes
        .map(|record| Node {
            record,
            holdings: holdings.remove(&record.id).unwrap_or_default(),
        })
        .collect()
}

/// The same as [`Site::requests`] by what is committed, all elements included.
fn view_requests(view: &View, now: Timestamp) -> Vec<Request<'_>> {
    let mut placed = placed_elements(view.sessions.values().map(AsRef::as_ref));
    let mut waiting: Vec<&SessionRecord> = view
        .sessions
        .values()
        .map(AsRef::as_ref)
        .filter(|record| waits(record) && !record.is_held_back() && record.retry.at.is_none())
        .filter(|record| unheard_nodes(view, record).is_empty())
        .collect();
    waiting.sort_by_key(|record| (record.created_at, record.id));
    let mut requests = Vec::new();
    for record in waiting {
        let array = record.array.and_then(|(array, _)| view.array(array));
        let throttle = array.and_then(|array| array.throttle);
        if let Some((array, _)) = record.array {
            let placed = placed.entry(array).or_default();
            if room_below(throttle, *placed) == 0 {
                continue;
            }
            *placed += 1;
        }
        requests.push(request(record, throttle.is_some(), now));
    }
    requests
}

/// How many more elements of an array may be placed.
fn room_below(throttle: Option<u32>, placed: u32) -> usize {
    let room = throttle.map(|limit| limit.saturating_sub(placed));
    room.map_or(usize::MAX, |room| {
        usize::try_from(room).unwrap_or(usize::MAX)
    })
}

fn is_throttled(array: &ArrayEntry) -> bool {
    array.record.throttle.is_some()
}

fn request(record: &SessionRecord, throttled: bool, now: Timestamp) -> Request<'_> {
    // By the wall clock: it only decides who goes first, and has to survive a restart. An element
    // of a throttled array was not passed over, it was asked to wait.
    let waited = if throttled {
        Span(0)
    } else {
        Span(now.micros_since(waits_since(record)) / 1_000)
    };
    Request {
        index: record.array.map(|(_, index)| index),
        ..request_of(record.id, record.name.as_str(), &record.spec, waited)
    }
}

/// Since when only a place has been missing.
fn waits_since(record: &SessionRecord) -> Timestamp {
    let met = record.after.iter().filter_map(|other| match other.state {
        DependencyState::Met { at } => Some(at),
        DependencyState::Waiting | DependencyState::Failed { .. } => None,
    });
    let ended = record
        .former
        .iter()
        .filter_map(|member| match &member.state {
            MemberState::Exited { record } => Some(record.ended_at),
            MemberState::Assigned
            | MemberState::Preparing
            | MemberState::Starting
            | MemberState::Running { .. }
            | MemberState::Stopping { .. }
            | MemberState::Gone => None,
        });
    met.chain(ended).fold(record.created_at, Timestamp::max)
}

fn holding(record: &SessionRecord) -> Holding<'_> {
    Holding {
        session: record.id,
        name: record.name.as_str(),
        index: record.array.map(|(_, index)| index),
        slots: &record.spec.slots,
    }
}

fn holding_of(session: SessionId, spec: &MemberSpec) -> Holding<'_> {
    Holding {
        session,
        name: spec.name.as_str(),
        index: spec.array_index,
        slots: &spec.session.slots,
    }
}

pub(super) fn request_of<'a>(
    session: SessionId,
    name: &'a str,
    spec: &'a SessionSpec,
    waited: Span,
) -> Request<'a> {
    Request {
        session,
        name,
        index: None,
        slots: &spec.slots,
        members: spec.members,
        required: required_rows(spec),
        waited,
    }
}
