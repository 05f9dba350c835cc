//! With what is kept between decisions the same is decided as by looking at everything.

use domain::{
    Capability, DrainOrder, NodeId, NodeRecord, NodeStatus, Priority, SessionId, SlotName, Slots,
    Span, Timestamp,
};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq, proptest};
use scheduler::{
    Holding, Index, Node, Placement, Request, STARVATION_MS, Shape, Verdict, largest, most_members,
    plan,
};
use std::collections::{BTreeMap, BTreeSet};

const SLOTS: [&str; 3] = ["cpu", "memory", "cuda.shares"];
const ROWS: [&str; 3] = ["limit.cpu", "mount.user", "network.none"];

/// A node as drawn: pool, amounts, rows, connected, drained, heard.
#[derive(Clone, Debug)]
struct DrawnNode {
    pool: u8,
    name: u8,
    amounts: [u64; 3],
    rows: [bool; 3],
    connected: bool,
    drained: bool,
    heard: bool,
}

#[derive(Clone, Debug)]
struct DrawnSession {
    amounts: [u64; 3],
    rows: [bool; 3],
    members: u32,
    /// Since when it has waited, in the time of steps.
    since: u64,
}

#[derive(Clone, Debug)]
enum Move {
    /// A node comes, or is another one than before.
    Put(u64, DrawnNode),
    Gone(u64),
    Ask(DrawnSession),
    /// Somebody asks for the same as one of those, and has waited as long as is said.
    Again(usize, u64),
    /// One of those that are placed ends.
    End(usize),
    /// One of those that wait is taken back.
    Cancel(usize),
    /// A pass.
    Pass,
}

fn amounts() -> impl Strategy<Value = [u64; 3]> {
    // Shares of several devices in ten-thousandths, in halves and thirds of one.
    let shares = prop_oneof![
        Just(0),
        Just(3_333),
        Just(5_000),
        Just(10_000),
        Just(25_000)
    ];
    (0_u64..5, 0_u64..8, shares).prop_map(|(cpu, memory, shares)| [cpu, memory, shares])
}

fn drawn_node() -> impl Strategy<Value = DrawnNode> {
    let facts = (any::<[bool; 3]>(), prop::bool::weighted(0.85));
    let standing = (prop::bool::weighted(0.15), prop::bool::weighted(0.9));
    let amounts = (0_u64..12, 0_u64..20, 0_u64..5);
    (0_u8..3, 0_u8..9, amounts, facts, standing).prop_map(
        |(pool, name, (cpu, memory, devices), (rows, connected), (drained, heard))| DrawnNode {
            pool,
            name,
            amounts: [cpu, memory, devices * 10_000],
            // Most have the first one, which others are numbered after.
            rows: [rows[0] || name > 0, rows[1], rows[2]],
            connected,
            drained,
            heard,
        },
    )
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let rows = any::<[bool; 3]>();
    let ask = (amounts(), rows, 1_u32..5, 0_u64..2).prop_map(|(amounts, rows, members, since)| {
        Move::Ask(DrawnSession {
            amounts,
            rows,
            members,
            since,
        })
    });
    let one = prop_oneof![
        3 => (0_u64..9, drawn_node()).prop_map(|(id, node)| Move::Put(id, node)),
        1 => (0_u64..9).prop_map(Move::Gone),
        6 => ask,
        3 => (any::<usize>(), 0_u64..2).prop_map(|(which, since)| Move::Again(which, since)),
        3 => any::<usize>().prop_map(Move::End),
        1 => any::<usize>().prop_map(Move::Cancel),
        4 => Just(Move::Pass),
    ];
    prop::collection::vec(one, 1..60)
}

fn slots(amounts: [u64; 3]) -> Slots {
    // A slot of which nothing is offered or asked is sometimes named all the same.
    let named = SLOTS.into_iter().zip(amounts);
    let named = named.filter(|(slot, amount)| *amount > 0 || *slot == "memory");
    Slots(
        named
            .map(|(slot, amount)| (SlotName(slot.to_owned()), amount))
            .collect(),
    )
}

fn record(id: u64, node: &DrawnNode) -> NodeRecord {
    let capability = |has| match has {
        true => Capability::Yes,
        false => Capability::No {
            reason: "drawn".to_owned(),
        },
    };
    let rows = ROWS.into_iter().zip(node.rows);
    NodeRecord {
        id: NodeId(id),
        name: format!("n{}", node.name),
        pool: format!("p{}", node.pool),
        offers: slots(node.amounts),
        capabilities: rows
            .map(|(row, has)| (row.to_owned(), capability(has)))
            .collect(),
        status: match node.connected {
            true => NodeStatus::Connected,
            false => NodeStatus::Disconnected,
        },
        generation: 0,
        heard_in: 0,
        drain: node.drained.then(|| DrainOrder {
            by: "an operator".to_owned(),
            at: Timestamp(0),
            reason: String::new(),
        }),
        removal: None,
    }
}

struct Session {
    id: u64,
    drawn: DrawnSession,
    slots: Slots,
    /// Empty while it waits.
    nodes: Vec<NodeId>,
}

/// What a site knows, and the index over it.
#[derive(Default)]
struct World {
    index: Index,
    nodes: BTreeMap<NodeId, (NodeRecord, bool)>,
    sessions: Vec<Session>,
    next: u64,
}

impl World {
    fn on(&self, node: NodeId) -> impl Iterator<Item = &Session> {
        let sessions = self.sessions.iter();
        sessions.flat_map(move |session| {
            let here = session.nodes.iter().filter(move |other| **other == node);
            here.map(move |_| session)
        })
    }

    fn tell(&mut self, node: NodeId) {
        if let Some((record, heard)) = self.nodes.get(&node) {
            self.index.put(record, *heard);
        }
        let mut index = std::mem::take(&mut self.index);
        index.set_used(node, self.on(node).map(|session| &session.slots));
        self.index = index;
    }

    fn seen(&self) -> Vec<Node<'_>> {
        let heard = self.nodes.values().filter(|(_, heard)| *heard);
        heard
            .map(|(record, _)| Node {
                record,
                holdings: self
                    .on(record.id)
                    .map(|session| Holding {
                        session: SessionId(session.id),
                        name: "other",
                        index: None,
                        slots: &session.slots,
                    })
                    .collect(),
            })
            .collect()
    }

    fn waiting(&self) -> Vec<Request<'_>> {
        let waiting = self.sessions.iter().filter(|one| one.nodes.is_empty());
        waiting.map(request).collect()
    }

    fn pass(&mut self) -> Result<(), TestCaseError> {
        let reference = plan(&self.seen(), &self.waiting());
        let mut index = std::mem::take(&mut self.index);
        let requests = self.waiting();
        let mut pass = index.pass();
        let mut placed = Vec::new();
        let mut hopeless = BTreeSet::new();
        for request in &requests {
            let shape = Shape::of(request);
            if hopeless.contains(&shape) {
                continue;
            }
            match pass.consider(request) {
                Verdict::Placed(nodes) => {
                    let session = request.session;
                    placed.push(Placement { session, nodes });
                }
                Verdict::Failed { closed: true } => {
                    hopeless.insert(shape);
                }
                Verdict::Failed { closed: false } => {}
            }
        }
        prop_assert_eq!(&placed, &reference);
        self.index = index;
        for placement in placed {
            let mut sessions = self.sessions.iter_mut();
            let placed = sessions.find(|one| one.id == placement.session.0);
            placed.expect("it waits").nodes.clone_from(&placement.nodes);
            for node in placement.nodes {
                self.tell(node);
            }
        }
        Ok(())
    }

    fn ask(&mut self, drawn: DrawnSession) {
        self.next += 1;
        let slots = slots(drawn.amounts);
        let (id, nodes) = (self.next, Vec::new());
        self.sessions.push(Session {
            id,
            drawn,
            slots,
            nodes,
        });
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert!(self.index.agrees_with(&self.seen()));
        let all: Vec<Node<'_>> = self
            .nodes
            .values()
            .map(|(record, _)| bare(record))
            .collect();
        let mut index = self.index.clone();
        for session in &self.sessions {
            let request = request(session);
            let fits = most_members(&all, &request).0 >= request.members;
            let has = |node: &Node<'_>, row: &str| {
                node.record.capabilities.get(row) == Some(&Capability::Yes)
            };
            let one = Request {
                members: 1,
                ..request.clone()
            };
            let enforces = all.iter().any(|node| {
                most_members(std::slice::from_ref(node), &one).0 == 1
                    && request.required.iter().all(|row| has(node, row))
            });
            prop_assert_eq!(index.could_ever(&request), fits && enforces);
            for (slot, asked) in &request.slots.0 {
                prop_assert!(!fits || largest(&all, &request, slot) >= *asked);
            }
        }
        Ok(())
    }
}

fn bare(record: &NodeRecord) -> Node<'_> {
    Node {
        record,
        holdings: Vec::new(),
    }
}

fn request(session: &Session) -> Request<'_> {
    let rows = ROWS.into_iter().zip(session.drawn.rows);
    Request {
        session: SessionId(session.id),
        name: "wanted",
        index: None,
        slots: &session.slots,
        members: session.drawn.members,
        required: rows
            .filter(|(_, asked)| *asked)
            .map(|(row, _)| row)
            .collect(),
        priority: Priority::USUAL,
        waited: Span(session.drawn.since * STARVATION_MS),
    }
}

proptest! {
    #[test]
    fn a_pass_decides_what_a_plan_decides(moves in moves()) {
        let mut world = World::default();
        for one in moves {
            match one {
                Move::Put(id, node) => {
                    let record = record(id, &node);
                    world.nodes.insert(NodeId(id), (record, node.heard));
                    world.tell(NodeId(id));
                }
                Move::Gone(id) => {
                    world.nodes.remove(&NodeId(id));
                    world.index.remove(NodeId(id));
                }
                Move::Ask(drawn) => world.ask(drawn),
                Move::Again(which, since) => {
                    if let Some(at) = which.checked_rem(world.sessions.len()) {
                        let drawn = world.sessions[at].drawn.clone();
                        world.ask(DrawnSession { since, ..drawn });
                    }
                }
                Move::End(which) | Move::Cancel(which) => {
                    let ends = matches!(one, Move::End(_));
                    let places = 0..world.sessions.len();
                    let of_kind: Vec<usize> = places
                        .filter(|at| world.sessions[*at].nodes.is_empty() != ends)
                        .collect();
                    if !of_kind.is_empty() {
                        let at = of_kind[which % of_kind.len()];
                        let ended = world.sessions.remove(at);
                        for node in ended.nodes {
                            world.tell(node);
                        }
                    }
                }
                Move::Pass => world.pass()?,
            }
            world.check()?;
        }
        world.pass()?;
        world.check()?;
    }
}

/// One amount of a slot that no node ever had, and a row that none has.
#[test]
fn what_no_node_ever_had_is_found_nowhere() {
    let mut world = World::default();
    let drawn = DrawnNode {
        pool: 0,
        name: 0,
        amounts: [4, 4, 0],
        rows: [true, false, false],
        connected: true,
        drained: false,
        heard: true,
    };
    world.nodes.insert(NodeId(1), (record(1, &drawn), true));
    world.tell(NodeId(1));
    let asked = |amounts, rows| Session {
        id: 1,
        drawn: DrawnSession {
            amounts,
            rows,
            members: 1,
            since: 1,
        },
        slots: slots(amounts),
        nodes: Vec::new(),
    };
    let none = [false; 3];
    let cases = [
        (asked([4, 4, 0], none), true),
        (asked([5, 4, 0], none), false),
        (asked([1, 1, 1], none), false),
        (asked([1, 1, 0], [true, false, false]), true),
        (asked([1, 1, 0], [true, true, false]), false),
    ];
    for (session, fits) in &cases {
        let request = request(session);
        assert_eq!(world.index.could_ever(&request), *fits);
        let verdict = world.index.clone().pass().consider(&request);
        let placed = Verdict::Placed(vec![NodeId(1)]);
        assert_eq!(verdict == placed, *fits, "{verdict:?}");
    }
}

/// A connected node of the pool `p0`, named after its id, with so much of `cpu` and these rows.
fn node(id: u64, cpu: u64, rows: &[String]) -> NodeRecord {
    let drawn = DrawnNode {
        pool: 0,
        name: u8::try_from(id).expect("small"),
        amounts: [cpu, 0, 0],
        rows: [false; 3],
        connected: true,
        drained: false,
        heard: true,
    };
    let rows = rows.iter().map(|row| (row.clone(), Capability::Yes));
    NodeRecord {
        capabilities: rows.collect(),
        ..record(id, &drawn)
    }
}

fn wants<'a>(slots: &'a Slots, required: &[&'static str], waited: u64) -> Request<'a> {
    Request {
        session: SessionId(1),
        name: "wanted",
        index: None,
        slots,
        members: 1,
        required: required.to_vec(),
        priority: Priority::USUAL,
        waited: Span(waited),
    }
}

/// Where it goes in a pass of its own.
fn goes(index: &Index, request: &Request<'_>) -> Option<NodeId> {
    match index.clone().pass().consider(request) {
        Verdict::Placed(nodes) => Some(nodes[0]),
        Verdict::Failed { .. } => None,
    }
}

#[test]
fn one_that_asks_for_the_same_closes_pools_once_it_starves_and_not_before() {
    let mut index = Index::default();
    index.put(&node(1, 4, &[]), true);
    let (large, small) = (slots([5, 0, 0]), slots([1, 0, 0]));
    // Larger than all there is: it closes nothing, for it would wait for nothing.
    let failed = |closed| Verdict::Failed { closed };
    let mut pass = index.pass();
    assert_eq!(
        pass.consider(&wants(&large, &[], STARVATION_MS)),
        failed(true)
    );
    let placed = Verdict::Placed(vec![NodeId(1)]);
    assert_eq!(pass.consider(&wants(&small, &[], 0)), placed);
    let large = slots([4, 0, 0]);
    for _ in 0..2 {
        assert_eq!(pass.consider(&wants(&large, &[], 0)), failed(false));
        assert_eq!(pass.consider(&wants(&small, &[], 0)), placed);
    }
    for (waited, closed) in [(STARVATION_MS, true), (0, true), (STARVATION_MS, true)] {
        assert_eq!(pass.consider(&wants(&large, &[], waited)), failed(closed));
        assert_eq!(pass.consider(&wants(&small, &[], 0)), failed(false));
    }
}

#[test]
fn what_a_nodes_members_have_stays_known_when_the_node_changes() {
    let mut index = Index::default();
    index.put(&node(1, 4, &[]), true);
    let (all, one) = (slots([4, 0, 0]), slots([1, 0, 0]));
    index.set_used(NodeId(1), std::iter::once(&all));
    for (cpu, place) in [(4, None), (5, Some(NodeId(1))), (4, None)] {
        index.put(&node(1, cpu, &[]), true);
        assert_eq!(goes(&index, &wants(&one, &[], 0)), place, "of {cpu}");
    }
}

/// Each row alone, the first that was heard of and those beside the border of two words of bits.
#[test]
fn a_node_has_the_rows_that_it_tells_and_no_others() {
    let rows: Vec<String> = (0..130).map(|number| format!("row.{number:03}")).collect();
    let one = slots([1, 0, 0]);
    // As many rows are known as fill words of bits, with the one that says that there is a node, or
    // one more or less.
    for known in [1, 62, 63, 64, 65, 126, 127, 128, 129] {
        let mut index = Index::default();
        for id in 1..=5 {
            let missing = usize::try_from(id).expect("small") - 1;
            let mut rows = rows[..known].to_vec();
            // The first four lack the first, or the last, or both, or all.
            match missing {
                0 => drop(rows.remove(0)),
                1 => drop(rows.pop()),
                2 => rows = rows[1..known.max(2) - 1].to_vec(),
                3 => rows.clear(),
                _ => {}
            }
            index.put(&node(id, 1, &rows), true);
        }
        let last: &'static str = Box::leak(rows[known - 1].clone().into_boxed_str());
        let place = |required: &[&'static str]| goes(&index, &wants(&one, required, 0));
        assert_eq!(place(&[]), Some(NodeId(1)));
        let first = if known == 1 { 5 } else { 2 };
        assert_eq!(place(&["row.000"]), Some(NodeId(first)), "of {known}");
        let first = if known == 1 { 5 } else { 1 };
        assert_eq!(place(&[last]), Some(NodeId(first)), "of {known}");
        assert_eq!(place(&["row.000", last]), Some(NodeId(5)), "of {known}");
        assert_eq!(place(&["row.129"]), None, "of {known}");
    }
}

#[test]
fn a_node_that_comes_back_among_many_that_are_away_is_found() {
    let one = slots([1, 0, 0]);
    let away = |id| NodeRecord {
        status: NodeStatus::Disconnected,
        ..node(id, 1, &[])
    };
    let mut index = Index::default();
    for id in 1..=8 {
        index.put(&away(id), true);
    }
    // Puts the trees in order; from here on they are changed at one leaf.
    drop(index.pass());
    assert_eq!(goes(&index, &wants(&one, &[], 0)), None);
    index.put(&node(6, 1, &[]), true);
    assert_eq!(goes(&index, &wants(&one, &[], 0)), Some(NodeId(6)));
    index.put(&away(6), true);
    assert_eq!(goes(&index, &wants(&one, &[], 0)), None);
}

/// More rows than one word of bits holds, and more slots than a tree was made for.
#[test]
fn names_that_come_later_make_the_trees_wider() {
    let mut index = Index::default();
    for id in 1..=4 {
        index.put(&node(id, 4, &[]), true);
    }
    drop(index.pass());
    let rows: Vec<String> = (0..130).map(|number| format!("row.{number}")).collect();
    let mut changed = node(3, 4, &rows);
    for number in 0..130 {
        let slot = SlotName(format!("slot.{number}"));
        changed.offers.0.insert(slot, 1);
    }
    index.put(&changed, true);
    let all = [node(1, 4, &[]), node(2, 4, &[]), changed, node(4, 4, &[])];
    let all: Vec<Node<'_>> = all.iter().map(bare).collect();
    assert!(index.agrees_with(&all), "before the trees are made anew");
    let slots = Slots(BTreeMap::from([(SlotName("slot.129".to_owned()), 1)]));
    let some = Some(NodeId(3));
    for (row, place) in [("row.0", some), ("row.129", some), ("row.130", None)] {
        assert_eq!(goes(&index, &wants(&slots, &[row], 0)), place);
    }
    drop(index.pass());
    assert!(index.agrees_with(&all));
}
