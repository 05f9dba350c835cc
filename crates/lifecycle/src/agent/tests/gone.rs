//! What a node remembers of members that are gone, and how it removes what they left.

use super::super::{
    AgentEffect, AgentEvent, AgentEventKind, GONE_LIMIT, NodeCore, RETRY_MICROS, Recovered,
};
use super::fake_node::{FakeNode, id};
use super::{desired, state, words};
use domain::{MemberId, NodeId};
use node_api::Want;

/// Members whose directories are made for a set that names these.
fn begun(core: &NodeCore, generation: u64, numbers: &[u64]) -> Vec<MemberId> {
    let mut core = core.clone();
    let now = FakeNode::new().now();
    let runs: Vec<_> = numbers.iter().map(|number| (*number, Want::Run)).collect();
    let mut effects = core.step(AgentEvent {
        now,
        kind: desired(generation, &runs),
    });
    let kind = AgentEventKind::ObeyedSaved;
    effects.extend(core.step(AgentEvent { now, kind }));
    let made = effects.into_iter().filter_map(|effect| match effect {
        AgentEffect::MakeDirectory { member, .. } => Some(member),
        _ => None,
    });
    made.collect()
}

#[test]
fn of_those_that_are_gone_the_oldest_that_no_set_names_is_forgotten_first() {
    let now = FakeNode::new().now();
    let mut core = NodeCore::new(NodeId(1));
    let full = u64::try_from(GONE_LIMIT).expect("a small number");
    let found = Recovered {
        gone: (1..=full).map(id).collect(),
        ..Recovered::default()
    };
    let kind = AgentEventKind::Recovered {
        found: Box::new(found),
    };
    core.step(AgentEvent { now, kind });
    assert_eq!(begun(&core, 1, &[1, 2, 3, full]), [], "as many as it keeps");
    for kind in [
        desired(1, &[(1, Want::Run)]),
        AgentEventKind::ObeyedSaved,
        AgentEventKind::Purged {
            member: id(full + 1),
        },
    ] {
        core.step(AgentEvent { now, kind });
    }
    // The first is named still; of the others the second is the longest gone.
    assert_eq!(begun(&core, 2, &[1, 2, 3, full, full + 1]), [id(2)]);
}

#[test]
fn what_is_left_of_one_that_is_gone_is_removed_by_one_act_at_a_time() {
    let mut node = FakeNode::new();
    node.disk.leftovers.insert(id(1), 0);
    node.disk.gone.push(id(1));
    node.crash();
    let purge = AgentEffect::Purge {
        member: id(1),
        slot: Some(0),
    };
    assert_eq!(node.running.pop_front().map(|one| one.0), Some(purge));
    node.clock += 100 * RETRY_MICROS;
    node.tell(AgentEventKind::Tick);
    assert!(node.running.is_empty(), "it has not answered");
    node.tell(AgentEventKind::ActFailed { member: id(1) });
    node.clock += RETRY_MICROS - 2;
    node.tell(AgentEventKind::Tick);
    assert!(node.running.is_empty(), "a moment too early");
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["purge"]);
    node.settle();
    assert!(node.disk.leftovers.is_empty());
    assert_eq!(state(&node, 1), "not reported");
}
