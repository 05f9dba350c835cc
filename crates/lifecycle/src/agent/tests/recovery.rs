//! What a new process makes of what it finds.

use super::fake_node::{FakeNode, id};
use super::{desired, how, node_with, state, words};
use domain::{ExitCause, ExitHow};
use node_api::Want;

#[test]
fn only_guests_that_live_are_watched() {
    let mut node = node_with(1);
    node.crash();
    assert_eq!(words(&node), ["watch"], "the control");
    node.settle();
    node.guest_ends(id(1), ExitCause::Own);
    node.settle();
    node.tell(desired(2, &[(1, Want::Run), (2, Want::Run)]));
    node.work_until(&["prepare"]);
    node.crash();
    assert_eq!((state(&node, 1), state(&node, 2)), ("exited", "preparing"));
    assert!(node.running.is_empty());
}

#[test]
fn one_that_may_have_been_told_to_go_is_never_started_again() {
    // The time of its start is noted by the third step.
    for steps in [2, 3] {
        let mut node = FakeNode::new();
        node.tell(desired(1, &[(1, Want::Run)]));
        node.work_until(&["start"]);
        for _ in 0..steps {
            node.work(0);
        }
        let directory = &node.disk.directories[&id(1)];
        assert_eq!(directory.started_at.is_some(), steps == 3);
        node.guest_dies(id(1));
        node.crash();
        node.tell(desired(1, &[(1, Want::Run)]));
        node.settle();
        assert_eq!(node.disk.starts[&id(1)], 1);
        assert_eq!(how(&node, 1), (ExitHow::Unknown, ExitCause::GuestDied));
    }
}
