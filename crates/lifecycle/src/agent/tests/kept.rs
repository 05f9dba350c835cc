//! Members that the manager only keeps: it has their records.

use super::super::{
    AgentEffect, AgentEventKind, MEMBERS_LIMIT, NotObeyed, UNCLAIMED_STOP_GRACE_MS,
};
use super::fake_node::{FakeNode, id};
use super::{PURGE, desired, node_with, state, words};
use domain::{ExitCause, MemberId};
use node_api::Want;

fn keeping(generation: u64, members: &[(u64, Want)], kept: &[u64]) -> AgentEventKind {
    let AgentEventKind::Desired { mut desired } = desired(generation, members) else {
        panic!("it is one")
    };
    desired.kept = kept.iter().copied().map(id).collect();
    AgentEventKind::Desired { desired }
}

/// Members that are told of, and those of which there is no more to tell.
fn told(node: &FakeNode) -> (Vec<MemberId>, Vec<MemberId>) {
    let report = node.core.report(1);
    let members = report.members.iter().map(|member| member.id);
    (members.collect(), report.settled)
}

#[test]
fn of_one_that_ended_and_is_kept_there_is_no_more_to_tell() {
    let mut node = FakeNode::new();
    let run = [1, 2, 3, 4].map(|number| (number, Want::Run));
    node.tell(desired(1, &run));
    node.settle();
    for number in [1, 2, 4] {
        node.guest_ends(id(number), ExitCause::Own);
    }
    node.settle();
    let all = [1, 2, 3, 4].map(id).to_vec();
    assert_eq!(told(&node), (all.clone(), vec![]), "the control");
    // In no order, and with some that the node does not have.
    let set = |generation, kept: &[u64]| keeping(generation, &[(3, Want::Run)], kept);
    node.tell(set(2, &[9, 4, 0, 2, 1]));
    let others = [1, 2, 4].map(id).to_vec();
    assert_eq!(told(&node), (vec![id(3)], others.clone()));
    node.crash();
    assert_eq!(told(&node), (all, vec![]), "until a set says so again");
    node.tell(set(2, &[1, 2, 4]));
    assert_eq!(told(&node), (vec![id(3)], others));
    node.tell(set(3, &[2]));
    assert_eq!(told(&node), ([1, 3, 4].map(id).to_vec(), vec![id(2)]));
    let report = node.core.report(1);
    let unclaimed = report.members.iter().map(|member| member.unclaimed);
    assert_eq!(unclaimed.collect::<Vec<_>>(), [true, false, true]);
    assert!(node.disk.hurt.is_empty());
}

#[test]
fn one_that_is_kept_and_lives_is_ended_and_told_of_until_then() {
    let mut node = node_with(1);
    node.tell(keeping(2, &[], &[1]));
    let order = AgentEffect::OrderStop {
        member: id(1),
        signal: 15,
        grace_ms: UNCLAIMED_STOP_GRACE_MS,
        disk_bytes: None,
    };
    assert_eq!(node.running.front().map(|one| &one.0), Some(&order));
    assert_eq!((told(&node).1, state(&node, 1)), (vec![], "stopping"));
    node.settle();
    assert_eq!(told(&node), (vec![], vec![id(1)]));
}

#[test]
fn one_that_was_never_begun_and_is_kept_leaves_a_record() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, PURGE)]));
    assert_eq!(words(&node), ["purge"]);
    node.running.clear();
    node.tell(AgentEventKind::ActFailed { member: id(1) });
    node.tell(keeping(2, &[], &[1]));
    node.settle();
    assert!(node.disk.directories[&id(1)].final_record.is_some());
    assert_eq!(told(&node), (vec![], vec![id(1)]));
}

#[test]
fn a_set_names_and_keeps_no_more_than_a_node_may_have() {
    let limit = u64::try_from(MEMBERS_LIMIT).expect("a small number");
    let mut node = FakeNode::new();
    let kept: Vec<u64> = (1..limit).collect();
    node.tell(keeping(1, &[(0, PURGE)], &kept));
    assert_eq!((node.refused, words(&node)), (0, vec!["purge"]));
    node.tell(keeping(2, &[(0, PURGE), (limit, PURGE)], &kept));
    assert_eq!((node.refused, words(&node)), (1, vec!["purge"]));
    let why = NotObeyed::TooMany {
        count: MEMBERS_LIMIT + 1,
    };
    assert_eq!(why.to_string(), "it names 20001 members, more than 20000");
}
