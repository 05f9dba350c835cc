//! What a plan keeps to, whatever the nodes and the sessions.

use domain::{
    Capability, NodeId, NodeRecord, NodeStatus, Priority, SessionId, SlotName, Slots, Span,
};
use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use scheduler::{
    Holding, Node, Reason, Request, STARVATION_MS, explain, largest, most_members, plan,
};
use std::collections::{BTreeMap, BTreeSet};

const MIB: u64 = 1 << 20;

fn node(id: u64, cpu: u64, memory: u64) -> NodeRecord {
    NodeRecord {
        id: NodeId(id),
        name: format!("n{id}"),
        pool: "default".to_owned(),
        offers: Slots::of(cpu * 10_000, memory * MIB),
        capabilities: BTreeMap::from([("limit.cpu".to_owned(), Capability::Yes)]),
        status: NodeStatus::Connected,
        generation: 0,
        heard_in: 0,
        drain: None,
        removal: None,
    }
}

fn empty(records: &[NodeRecord]) -> Vec<Node<'_>> {
    records
        .iter()
        .map(|record| Node {
            record,
            holdings: vec![],
        })
        .collect()
}

fn request(session: u64, slots: &Slots, members: u32, waited_ms: u64) -> Request<'_> {
    Request {
        session: SessionId(session),
        name: "wanted",
        index: None,
        slots,
        members,
        required: vec!["limit.cpu"],
        priority: Priority::USUAL,
        waited: Span(waited_ms),
    }
}

#[test]
fn a_small_session_passes_a_large_one_until_that_starves() {
    let records = [node(1, 4, 1_000)];
    let (held, large, small) = (
        Slots::of(20_000, 10 * MIB),
        Slots::of(30_000, 10 * MIB),
        Slots::of(10_000, 10 * MIB),
    );
    let mut nodes = empty(&records);
    nodes[0].holdings.push(Holding {
        session: SessionId(9),
        name: "busy",
        index: None,
        slots: &held,
    });
    // After ten minutes.
    for (waited, starts) in [(599_999, vec![2]), (600_000, vec![])] {
        let requests = [request(1, &large, 1, waited), request(2, &small, 1, 0)];
        let placed: Vec<u64> = plan(&nodes, &requests)
            .iter()
            .map(|p| p.session.0)
            .collect();
        assert_eq!(placed, starts, "the large one has waited {waited} ms");
        let reasons = explain(&nodes, &requests, SessionId(2)).expect("it waits");
        let behind = reasons[0]
            .reasons
            .iter()
            .any(|r| r.code() == "behind-others");
        assert_eq!(behind, starts.is_empty());
    }
}

#[test]
fn a_starving_session_that_could_start_nowhere_blocks_nobody() {
    let records = [node(1, 4, 1_000)];
    let (huge, small) = (Slots::of(90_000, MIB), Slots::of(10_000, MIB));
    let requests = [
        request(1, &huge, 1, STARVATION_MS),
        request(2, &small, 1, 0),
    ];
    let nodes = empty(&records);
    assert_eq!(plan(&nodes, &requests).len(), 1);
}

/// An older one may have waited for a place for less long: what it waited for ended late. Found by the
/// simulation.
#[test]
fn a_starving_session_closes_the_pool_also_behind_one_that_asks_for_the_same_and_does_not_starve() {
    let records = [node(1, 4, 1_000)];
    let (held, large, small) = (
        Slots::of(20_000, 10 * MIB),
        Slots::of(30_000, 10 * MIB),
        Slots::of(10_000, 10 * MIB),
    );
    let mut nodes = empty(&records);
    nodes[0].holdings.push(Holding {
        session: SessionId(9),
        name: "busy",
        index: None,
        slots: &held,
    });
    for (waited, starts) in [(STARVATION_MS - 1, vec![3]), (STARVATION_MS, vec![])] {
        let requests = [
            request(1, &large, 1, 0),
            request(2, &large, 1, waited),
            request(3, &small, 1, 0),
        ];
        let placed = plan(&nodes, &requests).into_iter();
        let placed: Vec<u64> = placed.map(|one| one.session.0).collect();
        assert_eq!(placed, starts, "the second has waited {waited} ms");
    }
}

#[test]
fn reasons_name_amounts_and_holders() {
    let mut records = vec![node(1, 4, 100), node(2, 8, 100), node(3, 8, 100)];
    records[1].status = NodeStatus::Disconnected;
    let no = Capability::No {
        reason: "no cpu controller".to_owned(),
    };
    records[2].capabilities.insert("limit.cpu".to_owned(), no);
    // All the memory that is left: that is enough.
    let (held, wanted) = (Slots::of(30_000, 10 * MIB), Slots::of(20_000, 89 * MIB));
    let memory_only = Slots::of(0, MIB);
    let mut nodes = empty(&records);
    for (session, name, slots) in [(9, "busy", &held), (8, "idle", &memory_only)] {
        nodes[0].holdings.push(Holding {
            session: SessionId(session),
            name,
            index: None,
            slots,
        });
    }
    let requests = [request(1, &wanted, 1, 0)];
    assert_eq!(plan(&nodes, &requests), []);
    let reasons = explain(&nodes, &requests, SessionId(1)).expect("it waits");
    assert_eq!(
        reasons[0].reasons,
        [Reason::SlotShort {
            slot: SlotName::cpu(),
            asked: 20_000,
            free: 10_000,
            offered: 40_000,
            holders: vec![("busy".to_owned(), 30_000)],
        }]
    );
    assert_eq!(reasons[1].reasons, [Reason::Disconnected]);
    assert_eq!(reasons[2].reasons[0].code(), "not-enforceable");
    assert_eq!(explain(&nodes, &requests, SessionId(7)), None);
}

#[test]
fn all_members_or_none_and_in_one_pool() {
    let mut records = vec![node(1, 2, 100), node(2, 2, 100), node(3, 8, 100)];
    records[2].pool = "other".to_owned();
    let wanted = Slots::of(10_000, MIB);
    let nodes = empty(&records);
    let placed = plan(&nodes, &[request(1, &wanted, 4, 0)]);
    assert_eq!(
        placed[0].nodes,
        [NodeId(1), NodeId(1), NodeId(2), NodeId(2)]
    );
    let placed = plan(&nodes, &[request(1, &wanted, 5, 0)]);
    assert_eq!(placed[0].nodes, [NodeId(3); 5]);
    let requests = [request(1, &wanted, 9, 0)];
    assert!(plan(&nodes, &requests).is_empty());
    let reasons = explain(&nodes, &requests, SessionId(1)).expect("it waits");
    assert_eq!(
        reasons[2].reasons,
        [Reason::MembersShort { fits: 8, asked: 9 }]
    );
    assert_eq!(most_members(&nodes, &requests[0]), (8, Some(NodeId(1))));
    let large = Slots::of(90_000, MIB);
    let nowhere = request(1, &large, 1, 0);
    assert_eq!(most_members(&nodes, &nowhere), (0, None));
}

#[test]
fn the_largest_that_fits_is_on_a_node_that_has_the_rest() {
    let records = [node(1, 2, 900), node(2, 8, 100)];
    let nodes = empty(&records);
    let wanted = Slots::of(40_000, 500 * MIB);
    let asked = request(1, &wanted, 1, 0);
    assert_eq!(largest(&nodes, &asked, &SlotName::memory()), 100 * MIB);
    assert_eq!(largest(&nodes, &asked, &SlotName::cpu()), 20_000);
    assert_eq!(largest(&[], &asked, &SlotName::cpu()), 0);
}

#[test]
fn amounts_at_the_edge_of_64_bits_do_not_overflow() {
    let mut record = node(1, 1, 1);
    record.offers = Slots::of(u64::MAX, u64::MAX);
    let records = [record];
    let wanted = Slots::of(u64::MAX, 1);
    let mut nodes = empty(&records);
    for session in 0..3 {
        nodes[0].holdings.push(Holding {
            session: SessionId(session),
            name: "huge",
            index: None,
            slots: &wanted,
        });
    }
    assert!(plan(&nodes, &[request(9, &wanted, 1, 0)]).is_empty());
}

/// Nodes as (cpu, memory, connected, pool) and requests as (cpu, memory, members, waited).
type Drawn = (Vec<(u64, u64, bool, bool)>, Vec<(u64, u64, u32, u64)>);

fn drawn() -> impl Strategy<Value = Drawn> {
    let nodes = prop::collection::vec((0_u64..9, 0_u64..64, any::<bool>(), any::<bool>()), 0..6);
    let waited = 0..2 * STARVATION_MS;
    let requests = prop::collection::vec((0_u64..5, 0_u64..32, 1_u32..4, waited), 0..20);
    (nodes, requests)
}

proptest! {
    #[test]
    fn a_plan_gives_no_more_than_there_is((drawn_nodes, drawn_requests) in drawn()) {
        let records: Vec<NodeRecord> = (1..)
            .zip(&drawn_nodes)
            .map(|(id, (cpu, memory, connected, other))| {
                let mut record = node(id, *cpu, *memory);
                if !connected { record.status = NodeStatus::Disconnected; }
                if *other { record.pool = "other".to_owned(); }
                record
            })
            .collect();
        let slots: Vec<Slots> = drawn_requests
            .iter()
            .map(|(cpu, memory, ..)| Slots::of(cpu * 10_000, memory * MIB))
            .collect();
        let requests: Vec<Request<'_>> = (1..)
            .zip(drawn_requests.iter().zip(&slots))
            .map(|(id, ((_, _, members, waited), slots))| request(id, slots, *members, *waited))
            .collect();
        let nodes = empty(&records);
        let placements = plan(&nodes, &requests);
        prop_assert_eq!(&placements, &plan(&nodes, &requests), "the same input, the same plan");
        let mut turned = nodes.clone();
        turned.reverse();
        prop_assert_eq!(&placements, &plan(&turned, &requests), "the order of nodes is no input");

        let mut used: BTreeMap<(NodeId, &SlotName), u128> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for placement in &placements {
            prop_assert!(seen.insert(placement.session), "placed once");
            let request = requests.iter().find(|r| r.session == placement.session)
                .expect("only what was asked for");
            prop_assert_eq!(placement.nodes.len(), request.members as usize, "all or none");
            let mut pools = BTreeSet::new();
            for id in &placement.nodes {
                let record = records.iter().find(|r| r.id == *id).expect("a known node");
                prop_assert_eq!(record.status, NodeStatus::Connected);
                pools.insert(&record.pool);
                for (slot, amount) in &request.slots.0 {
                    *used.entry((*id, slot)).or_default() += u128::from(*amount);
                }
            }
            prop_assert_eq!(pools.len(), 1, "one pool");
        }
        for ((id, slot), amount) in used {
            let record = records.iter().find(|r| r.id == id).expect("a known node");
            prop_assert!(amount <= u128::from(record.offers.get(slot)), "{slot} of {id}");
        }
        for request in requests.iter().filter(|r| !seen.contains(&r.session)) {
            let reasons = explain(&nodes, &requests, request.session).expect("it waits");
            prop_assert!(reasons.iter().all(|node| !node.reasons.is_empty()), "a reason each");
        }
    }
}
