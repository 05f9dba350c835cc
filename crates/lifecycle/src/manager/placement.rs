//! Placing what waits.

use super::arrays::ArrayEntry;
use super::create::required_rows;
use super::restored::next_attempt;
use super::site::Site;
use super::view::View;
use super::waiting::Turn;
use crate::planted::{Planted, planted};
use domain::{
    DependencyState, MemberId, MemberPause, MemberRecord, MemberState, NodeId, NodeRecord, Now,
    Priority, SessionId, SessionRecord, SessionSpec, SlotName, Span, Timestamp,
};
use node_api::MemberSpec;
use scheduler::{Holding, Index, Node, Placement, Request, STARVATION_MS, Shape, Verdict};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound::{Excluded, Unbounded};

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
            let (placements, extent) = self.decide(&mut index, now.wall);
            self.occupancy.index = index;
            debug_assert_eq!((placements.clone(), extent), self.decide_by_walk(now.wall));
            for placement in placements {
                self.place_session(placement);
            }
            if extent == Extent::Whole {
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

    /// One look at those that wait, in their order. Those that ask for the same wait in a queue, and
    /// of a queue in which one did not fit nobody does: what is left of it is only looked at for one
    /// who starves, and so may close pools to those of other queues that come after it.
    fn decide(&self, index: &mut Index, now: Timestamp) -> (Vec<Placement>, Extent) {
        let mut queues = self.queues();
        let mut heads = BinaryHeap::new();
        for (number, queue) in queues.iter_mut().enumerate() {
            let first = queue.next();
            heads.extend(first.map(|record| Reverse(Head::of(record, number))));
        }
        let mut pass = index.pass();
        let mut placements = Vec::new();
        while let Some(Reverse(head)) = heads.pop() {
            let record = &self.sessions[&head.turn.session].record;
            let queue = &mut queues[head.queue];
            let next = match pass.consider(&self.request(record, now)) {
                Verdict::Placed(nodes) => {
                    let session = record.id;
                    placements.push(Placement { session, nodes });
                    let next = queue.next();
                    if next.is_none() && queue.is_cut() {
                        return (placements, Extent::Cut);
                    }
                    next
                }
                Verdict::Failed { closed: true } => None,
                Verdict::Failed { closed: false } => self.next_starving(queue, now),
            };
            heads.extend(next.map(|record| Reverse(Head::of(record, head.queue))));
        }
        (placements, Extent::Whole)
    }

    /// The same by a look at all nodes and all that wait, which says what is right: only debug builds
    /// ask.
    fn decide_by_walk(&self, now: Timestamp) -> (Vec<Placement>, Extent) {
        let mut waiting: Vec<&SessionRecord> = Vec::new();
        let mut cuts = BTreeSet::new();
        for mut queue in self.queues() {
            let records: Vec<&SessionRecord> = std::iter::from_fn(|| queue.next()).collect();
            let last = records.last().filter(|_| queue.is_cut());
            cuts.extend(last.map(|record| record.id));
            waiting.extend(records);
        }
        waiting.sort_by_key(|record| Turn::of(record));
        let requests = waiting.into_iter().map(|record| self.request(record, now));
        let requests: Vec<Request<'_>> = requests.collect();
        let mut placements = scheduler::plan(&self.all_holdings(), &requests);
        let mut ends = placements.iter();
        if let Some(end) = ends.position(|one| cuts.contains(&one.session)) {
            placements.truncate(end + 1);
            return (placements, Extent::Cut);
        }
        (placements, Extent::Whole)
    }

    /// Those that may be placed, in queues that are in order. Elements of one array need the same: a
    /// pass looks at no more of each than [`ELEMENTS_OF_A_PASS`], and at no more than its throttle
    /// leaves.
    fn queues(&self) -> Vec<Queue<'_>> {
        let all_heard = self.are_all_heard();
        let record = |id: &SessionId| self.sessions[id].record.as_ref();
        let may = move |record: &&SessionRecord| !self.is_in_doubt(record, all_heard);
        let alone = self.waiting.alone.values().map(|waiting| {
            let records = waiting.iter().map(move |turn| record(&turn.session));
            Queue {
                rest: Box::new(records.filter(may)),
                turns: Some(waiting),
                left: usize::MAX,
            }
        });
        let elements = self.waiting.elements.iter().map(|(array, waiting)| {
            let throttle = self
                .arrays
                .get(array)
                .and_then(|entry| entry.record.throttle);
            let room = room_below(throttle, self.placed_of(*array));
            Queue {
                rest: Box::new(waiting.iter().map(record).filter(may).take(room)),
                turns: None,
                left: ELEMENTS_OF_A_PASS,
            }
        });
        alone.chain(elements).collect()
    }

    /// The next of a queue that has waited for too long.
    fn next_starving<'a>(
        &'a self,
        queue: &mut Queue<'a>,
        now: Timestamp,
    ) -> Option<&'a SessionRecord> {
        loop {
            let record = queue.next()?;
            // Nobody waits for a place since before they asked.
            if !starves(span(record.created_at, now)) {
                // Nor does any that comes after it and has its priority.
                queue.rest = self.after(queue.turns?, Turn::of(record).last_of_its_priority());
            } else if starves(self.request(record, now).waited) {
                return Some(record);
            }
        }
    }

    /// Those of a queue that come after a turn.
    fn after<'a>(&'a self, turns: &'a BTreeSet<Turn>, turn: Turn) -> Records<'a> {
        let all_heard = self.are_all_heard();
        let rest = turns.range((Excluded(turn), Unbounded));
        let records = rest.map(|turn| self.sessions[&turn.session].record.as_ref());
        Box::new(records.filter(move |record| !self.is_in_doubt(record, all_heard)))
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

/// How far a pass went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// To the end.
    Whole,
    /// Behind the last that it looks at of an array: more of that may fit, and those that come after
    /// them are not looked at before.
    Cut,
}

/// Sessions in the order in which they are looked at.
type Records<'a> = Box<dyn Iterator<Item = &'a SessionRecord> + 'a>;

/// Sessions that ask for the same.
struct Queue<'a> {
    /// Those that have not been looked at.
    rest: Records<'a>,
    /// All of them; `None` of elements, which all have the same priority and time.
    turns: Option<&'a BTreeSet<Turn>>,
    /// How many more of them this pass looks at, at most.
    left: usize,
}

impl<'a> Queue<'a> {
    fn next(&mut self) -> Option<&'a SessionRecord> {
        self.left = self.left.checked_sub(1)?;
        self.rest.next()
    }

    /// There are more that may be placed than one pass looks at. Asked when all of those were looked
    /// at, so that no pass counts those that wait.
    fn is_cut(&mut self) -> bool {
        self.left == 0 && self.rest.next().is_some()
    }
}

/// The next of a queue. They are ordered by what comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    turn: Turn,
    queue: usize,
}

impl Head {
    fn of(record: &SessionRecord, queue: usize) -> Self {
        let turn = Turn::of(record);
        Self { turn, queue }
    }
}

fn starves(waited: Span) -> bool {
    waited.0 >= STARVATION_MS
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

/// How many more elements of an array may be placed.
pub(super) fn room_below(throttle: Option<u32>, placed: u32) -> usize {
    let room = throttle.map(|limit| limit.saturating_sub(placed));
    room.map_or(usize::MAX, |room| {
        usize::try_from(room).unwrap_or(usize::MAX)
    })
}

fn is_throttled(array: &ArrayEntry) -> bool {
    array.record.throttle.is_some()
}

pub(super) fn request(record: &SessionRecord, throttled: bool, now: Timestamp) -> Request<'_> {
    // By the wall clock: it only decides who goes first, and has to survive a restart. An element
    // of a throttled array was not passed over, it was asked to wait.
    let waited = if throttled {
        Span(0)
    } else {
        span(waits_since(record), now)
    };
    Request {
        index: record.array.map(|(_, index)| index),
        priority: record.priority,
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
        priority: Priority::USUAL,
        waited,
    }
}
