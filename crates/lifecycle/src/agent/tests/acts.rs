//! One act of a member at a time: tried again in its time, given up, and not raced by an end.

use super::super::{AgentEventKind, DIRECTORY_TRIES, KILL_MARGIN_MICROS, RETRY_MICROS};
use super::fake_node::{FakeNode, id};
use super::{PURGE, STOP, desired, how, node_with, state, words};
use domain::{ExitCause, ExitHow};
use node_api::Want;

/// A node that does `act` for the first member.
fn doing(act: &str) -> FakeNode {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    node.work_until(&[act]);
    node
}

#[test]
fn one_that_was_never_begun_is_purged_at_once_and_by_one_act_though_a_set_forgets_it() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, PURGE)]));
    node.tell(desired(2, &[]));
    node.tell(desired(3, &[(1, PURGE)]));
    assert_eq!(words(&node), ["purge"]);
    node.settle();
    assert_eq!(state(&node, 1), "gone");
}

#[test]
fn an_act_that_failed_is_tried_again_when_it_is_time_whatever_a_set_repeats() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, PURGE)]));
    node.running.clear();
    node.tell(AgentEventKind::ActFailed { member: id(1) });
    node.tell(desired(2, &[(1, PURGE)]));
    // The set and its saving took two moments.
    node.clock += RETRY_MICROS - 4;
    node.tell(AgentEventKind::Tick);
    assert!(node.running.is_empty(), "a moment too early");
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["purge"]);
}

#[test]
fn one_that_was_never_begun_and_is_not_named_any_more_is_forgotten() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, PURGE)]));
    node.running.clear();
    node.tell(AgentEventKind::ActFailed { member: id(1) });
    assert_eq!(state(&node, 1), "assigned");
    node.tell(desired(2, &[]));
    assert_eq!(state(&node, 1), "not reported");
}

#[test]
fn a_directory_is_tried_a_few_times_before_its_member_fails() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    for _ in 1..DIRECTORY_TRIES {
        node.fail_next.insert("make");
        node.work(0);
        assert_eq!(state(&node, 1), "assigned");
        node.clock += RETRY_MICROS;
        node.tell(AgentEventKind::Tick);
        assert_eq!(words(&node), ["make"]);
    }
    node.fail_next.insert("make");
    node.work(0);
    assert_eq!(how(&node, 1).1, ExitCause::PrepareFailed);
}

#[test]
fn what_the_engine_has_of_one_that_ended_goes_without_a_purge() {
    for act in ["record", "remove"] {
        let mut node = node_with(1);
        node.fail_next.insert(act);
        node.guest_ends(id(1), ExitCause::Own);
        node.settle();
        let directory = &node.disk.directories[&id(1)];
        let left = (directory.final_record.is_some(), directory.upper);
        assert_eq!(left, (true, false), "{act}");
    }
}

#[test]
fn a_preparation_is_given_up_once_when_its_member_is_to_end() {
    let mut node = doing("prepare");
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["prepare"], "the control: it is to run");
    node.tell(desired(2, &[(1, STOP)]));
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["prepare", "abandon"]);
    node.fail_next.insert("prepare");
    node.settle();
    let (how, cause) = how(&node, 1);
    assert!(matches!(how, ExitHow::NeverRan { .. }), "{how:?}");
    assert_eq!(cause, ExitCause::Stopped);
    assert!(node.disk.hurt.is_empty(), "there was nobody to order");
}

#[test]
fn one_that_is_purged_while_its_directory_is_made_is_told_to_be_stopping() {
    let mut node = doing("make");
    node.tell(desired(2, &[(1, PURGE)]));
    assert_eq!((state(&node, 1), words(&node)), ("stopping", vec!["make"]));
    node.settle();
    assert_eq!(state(&node, 1), "gone");
    assert!(node.disk.directories.is_empty());
}

#[test]
fn one_that_is_to_end_while_it_starts_is_ordered_when_it_runs() {
    let mut node = doing("start");
    node.work(0);
    node.tell(desired(2, &[(1, STOP)]));
    assert_eq!(words(&node), ["start"]);
    node.work_until(&["watch", "order"]);
    node.settle();
    let exited = ExitHow::Exited { code: 0 };
    assert_eq!(how(&node, 1), (exited, ExitCause::Stopped));
}

#[test]
fn a_guest_that_survives_a_kill_is_killed_again_after_a_while() {
    let mut node = node_with(1);
    node.tell(desired(2, &[(1, STOP)]));
    node.tell(AgentEventKind::StopOrdered { member: id(1) });
    node.clock += 1_000_000 + KILL_MARGIN_MICROS;
    for _ in 0..2 {
        node.running.clear();
        node.tell(AgentEventKind::Tick);
        assert_eq!(words(&node), ["kill"]);
        node.running.clear();
        node.clock += RETRY_MICROS - 2;
        node.tell(AgentEventKind::Tick);
        assert!(node.running.is_empty(), "not at once");
    }
}
