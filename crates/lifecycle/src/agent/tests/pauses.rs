//! Pauses: made, taken back, found again, and out of the way of every end.

use super::super::{AgentEventKind, RETRY_MICROS};
use super::fake_node::{FakeNode, id};
use super::{PURGE, STOP, desired, how, node_with, state, words};
use domain::{ExitCause, MemberPause};
use node_api::Want;

/// A set that wants one member to run, or to stand still.
fn run(generation: u64, paused: bool) -> AgentEventKind {
    let AgentEventKind::Desired { mut desired } = desired(generation, &[(1, Want::Run)]) else {
        panic!("it is one")
    };
    desired.members[0].paused = paused;
    AgentEventKind::Desired { desired }
}

fn pause(node: &FakeNode) -> MemberPause {
    let report = node.core.report(1);
    let found = report.members.iter().find(|member| member.id == id(1));
    found.expect("reported").pause.clone()
}

/// What the engine has, and what the guest knows.
fn really(node: &FakeNode) -> (bool, bool) {
    let frozen = node.disk.frozen.get(&id(1)) == Some(&true);
    (frozen, node.disk.told_paused.contains(&id(1)))
}

fn paused() -> FakeNode {
    let mut node = node_with(1);
    node.tell(run(2, true));
    node.settle();
    assert_eq!(
        (pause(&node), really(&node)),
        (MemberPause::On, (true, true))
    );
    node
}

#[test]
fn it_stands_still_and_goes_on() {
    let mut node = paused();
    node.tell(run(3, true));
    assert!(node.running.is_empty(), "it does already");
    node.tell(run(4, false));
    assert_eq!(
        (words(&node), pause(&node)),
        (vec!["resume"], MemberPause::On)
    );
    node.settle();
    assert_eq!(
        (pause(&node), really(&node)),
        (MemberPause::Off, (false, false))
    );
    node.tell(run(5, false));
    assert!(node.running.is_empty(), "it does already");
    assert_eq!(state(&node, 1), "running");
}

#[test]
fn one_that_was_never_paused_costs_nothing() {
    let mut node = node_with(1);
    node.crash();
    node.tell(run(2, false));
    assert_eq!(words(&node), ["watch"]);
}

#[test]
fn what_is_wanted_last_holds_however_it_was_changed_meanwhile() {
    for last in [false, true] {
        let mut node = node_with(1);
        node.tell(run(2, true));
        node.work(0);
        node.tell(run(3, false));
        node.tell(run(4, last));
        node.settle();
        assert_eq!(really(&node), (last, last));
        // A set from before changes nothing.
        node.tell(run(2, !last));
        node.settle();
        assert_eq!(really(&node), (last, last));
    }
}

#[test]
fn a_process_that_is_killed_within_an_act_leaves_nothing_half_done() {
    for (begun, wanted) in [(true, true), (true, false), (false, true), (false, false)] {
        for steps in 0..4 {
            let mut node = if begun { node_with(1) } else { paused() };
            node.tell(run(3, begun));
            for _ in 0..steps {
                node.work(0);
            }
            node.crash();
            node.tell(run(4, wanted));
            node.settle();
            let seen = (pause(&node) == MemberPause::On, really(&node));
            assert_eq!(seen, (wanted, (wanted, wanted)), "{begun} {wanted} {steps}");
        }
    }
}

#[test]
fn it_stays_paused_while_nobody_says_otherwise() {
    let mut node = paused();
    node.crash();
    node.settle();
    assert_eq!(
        (pause(&node), really(&node)),
        (MemberPause::On, (true, true))
    );
    // Unclaimed: as it is.
    node.tell(desired(3, &[]));
    node.settle();
    assert_eq!(really(&node), (true, true));
}

#[test]
fn whatever_ends_it_makes_it_go_on_first() {
    for want in [STOP, PURGE] {
        let mut node = paused();
        node.tell(desired(3, &[(1, want.clone())]));
        assert_eq!(words(&node), ["resume"], "no order yet");
        node.settle();
        assert_eq!(node.orders_while_frozen, 0);
        assert!(!node.disk.alive.contains(&id(1)));
        if want == STOP {
            assert_eq!(how(&node, 1).1, ExitCause::Stopped);
        } else {
            assert_eq!(state(&node, 1), "gone");
        }
    }
}

#[test]
fn one_that_cannot_be_made_to_go_on_is_ended_all_the_same() {
    let mut node = paused();
    node.fail_next.insert("resume");
    node.tell(desired(3, &[(1, STOP)]));
    node.work(0);
    assert_eq!(words(&node), ["order"]);
    // The guest takes the order, and the command stands still: the kill ends it.
    node.settle();
    assert!(!node.disk.alive.contains(&id(1)));
    assert_eq!(state(&node, 1), "exited");
}

#[test]
fn a_failure_is_told_and_tried_again() {
    let mut node = node_with(1);
    node.fail_next.insert("pause");
    node.tell(run(2, true));
    node.work(0);
    let reason = "it was told to fail".to_owned();
    assert_eq!(pause(&node), MemberPause::Failed { reason });
    assert_eq!(really(&node), (false, false));
    assert!(node.running.is_empty(), "not at once");
    node.clock += RETRY_MICROS - 2;
    node.tell(AgentEventKind::Tick);
    assert!(node.running.is_empty(), "a moment too early");
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["pause"]);
    node.settle();
    assert_eq!(
        (pause(&node), really(&node)),
        (MemberPause::On, (true, true))
    );
}

#[test]
fn a_failure_is_forgotten_when_the_pause_is_taken_back() {
    let mut node = node_with(1);
    node.fail_next.insert("pause");
    node.tell(run(2, true));
    node.work(0);
    node.tell(run(3, false));
    assert_eq!(words(&node), ["resume"], "that does not wait");
    node.settle();
    assert_eq!(
        (pause(&node), really(&node)),
        (MemberPause::Off, (false, false))
    );
}

#[test]
fn a_guest_that_ends_meanwhile_is_only_ended() {
    let mut node = node_with(1);
    node.tell(run(2, true));
    node.guest_dies(id(1));
    node.settle();
    assert_eq!(
        (state(&node, 1), pause(&node)),
        ("exited", MemberPause::Off)
    );
}

#[test]
fn one_that_is_to_stand_still_from_the_start_is_paused_when_it_runs() {
    let mut node = FakeNode::new();
    node.tell(run(1, true));
    assert_eq!(words(&node), ["make"]);
    node.work_until(&["start"]);
    node.work_until(&["watch", "pause"]);
}

#[test]
fn an_order_waits_until_a_pause_that_has_begun_is_taken_back() {
    let mut node = node_with(1);
    node.tell(run(2, true));
    node.tell(desired(3, &[(1, STOP)]));
    assert_eq!(words(&node), ["pause"]);
    node.settle();
    assert_eq!(node.orders_while_frozen, 0);
    assert_eq!(how(&node, 1).1, ExitCause::Stopped);
}
