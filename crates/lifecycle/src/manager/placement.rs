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
use scheduler::{
    Holding, Index, Node, NodeReasons, Placement, Request, STARVATION_MS, Shape, Verdict,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Most elements of one array that one pass looks at.
const ELEMENTS_OF_A_PASS: usize = 256;

impl Site {
    /// Places every session that can start now, by what the index says is free.
    pub(super) fn place(&mut self, now: Now) {
        loop {
            if self.waiting.alone.is_empty() && self.waiting.elements.is_empty() {
                return;
            }
            self.refresh_index();
            let mut index = std::mem::take(&mut self.occupancy.index);
            let placements = self.decide(&mut index, now.wall);
            self.occupancy.index = index;
            debug_assert_eq!(placements, self.decide_by_walk(now.wall));
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
        record.is_some_and(|record| {
            let holdings = self.holdings_on(node).collect();
            let mut used = used_of(&Node { record, holdings }).into_iter();
            used.any(|(slot, amount)| amount > u128::from(record.offers.get(&slot)))
        })
    }

    /// One look at those that wait, oldest first. Those that ask for the same wait in a queue, and
    /// of a queue in which one did not fit nobody does: what is left of it is only looked at for one
    /// who starves, and so may close pools to younger ones of other queues.
    fn decide(&self, index: &mut Index, now: Timestamp) -> Vec<Placement> {
        let mut queues = self.queues();
        let mut heads = BinaryHeap::new();
        for (number, queue) in queues.iter_mut().enumerate() {
            heads.extend(queue.next().map(|record| Reverse(Head::of(record, number))));
        }
        let mut pass = index.pass();
        let mut placements = Vec::new();
        while let Some(Reverse(head)) = heads.pop() {
            let record = &self.sessions[&head.session].record;
            let queue = &mut queues[head.queue];
            let next = match pass.consider(&self.request(record, now)) {
                Verdict::Placed(nodes) => {
                    let session = record.id;
                    placements.push(Placement { session, nodes });
                    queue.next()
                }
                Verdict::Failed { closed: true } => None,
                Verdict::Failed { closed: false } => self.next_starving(queue, now),
            };
            heads.extend(next.map(|record| Reverse(Head::of(record, head.queue))));
        }
        placements
    }

    /// The same by a look at all nodes and all that wait, which says what is right: only debug builds
    /// ask.
    fn decide_by_walk(&self, now: Timestamp) -> Vec<Placement> {
        let mut waiting: Vec<&SessionRecord> = self.queues().into_iter().flatten().collect();
        waiting.sort_by_key(|record| (record.created_at, record.id));
        let requests = waiting.into_iter().map(|record| self.request(record, now));
        let requests: Vec<Request<'_>> = requests.collect();
        scheduler::plan(&self.all_holdings(), &requests)
    }

    /// Those that may be placed, in queues that are in order. Elements of one array need the same: a
    /// pass looks at no more of each than [`ELEMENTS_OF_A_PASS`], and at no more than its throttle
    /// leaves.
    fn queues(&self) -> Vec<Queue<'_>> {
        let all_heard = self.are_all_heard();
        let record = |id: &SessionId| self.sessions[id].record.as_ref();
        let may = move |record: &&SessionRecord| !self.is_in_doubt(record, all_heard);
        let alone = self.waiting.alone.values().map(|waiting| {
            let records = waiting.iter().map(move |(_, id)| record(id));
            Box::new(records.filter(may)) as Queue<'_>
        });
        let elements = self.waiting.elements.iter().map(|(array, waiting)| {
            let throttle = self
                .arrays
                .get(array)
                .and_then(|entry| entry.record.throttle);
            let room = room_below(throttle, self.placed_of(*array)).min(ELEMENTS_OF_A_PASS);
            Box::new(waiting.iter().map(record).filter(may).take(room)) as Queue<'_>
        });
        alone.chain(elements).collect()
    }

    /// The next of a queue that has waited for too long.
    fn next_starving<'a>(
        &'a self,
        queue: &mut Queue<'a>,
        now: Timestamp,
    ) -> Option<&'a SessionRecord> {
        // Nobody waits for a place since before they asked.
        let is_old = |record: &&SessionRecord| starves(span(record.created_at, now));
        let mut old = queue.take_while(is_old);
        old.find(|record| starves(self.request(record, now).waited))
    }

    fn request<'a>(&'a self, record: &'a SessionRecord, now: Timestamp) -> Request<'a> {
        let array = record.array.and_then(|(array, _)| self.arrays.get(&array));
        request(record, array.is_some_and(is_throttled), now)
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
}

/// Sessions in the order in which they are looked at.
type Queue<'a> = Box<dyn Iterator<Item = &'a SessionRecord> + 'a>;

/// The next of a queue. They are ordered by what comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    created_at: Timestamp,
    session: SessionId,
    queue: usize,
}

impl Head {
    fn of(record: &SessionRecord, queue: usize) -> Self {
        Self {
            created_at: record.created_at,
            session: record.id,
            queue,
        }
    }
}

fn starves(waited: Span) -> bool {
    waited.0 >= STARVATION_MS
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

pub(super) fn nodes_with_holdings<'a>(
    nodes: impl Iterator<Item = &'a NodeRecord>,
    sessions: impl Iterator<Item = &'a SessionRecord>,
    further: impl Iterator<Item = (NodeId, Holding<'a>)>,
) -> Vec<Node<'a>> {
    let mut holdings: BTreeMap<NodeId, Vec<Holding<'a>>> = BTreeMap::new();
    for record in sessions {
        for member in record.members.iter().filter(|member| holds(member)) {
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

/// A member has what it was given of its node.
pub(super) fn holds(member: &MemberRecord) -> bool {
    let stops = matches!(member.state, MemberState::Stopping { .. });
    member.state.occupies() && !(stops && planted(Planted::StoppingHoldsNothing))
}

/// Who waits for a place, oldest first, by what is committed, all elements included.
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
        span(waits_since(record), now)
    };
    Request {
        index: record.array.map(|(_, index)| index),
        ..request_of(record.id, record.name.as_str(), &record.spec, waited)
    }
}

fn span(since: Timestamp, now: Timestamp) -> Span {
    Span(now.micros_since(since) / 1_000)
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

pub(super) fn holding(record: &SessionRecord) -> Holding<'_> {
    Holding {
        session: record.id,
        name: record.name.as_str(),
        index: record.array.map(|(_, index)| index),
        slots: &record.spec.slots,
    }
}

pub(super) fn holding_of(session: SessionId, spec: &MemberSpec) -> Holding<'_> {
    Holding {
        session,
        name: spec.name.as_str(),
        index: spec.array_index,
        slots: &spec.session.slots,
    }
}

/// What a session asks for.
pub(super) fn shape_of(spec: &SessionSpec) -> Shape {
    Shape::of(&request_of(SessionId(0), "", spec, Span(0)))
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
