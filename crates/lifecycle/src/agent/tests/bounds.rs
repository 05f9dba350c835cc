//! Times, and what a node has of which there is only so much.

use super::super::disk::DISK_WARNING_MICROS;
use super::super::{AgentEffect, AgentEventKind, RETRY_MICROS, UNCLAIMED_GRACE_MICROS};
use super::fake_node::{FakeNode, id};
use super::{PURGE, desired, words};
use node_api::Want;
use std::time::Duration;

#[test]
fn what_is_not_named_has_a_day_and_a_warning_of_the_disk_comes_every_ten_minutes() {
    assert_eq!(
        Duration::from_micros(UNCLAIMED_GRACE_MICROS),
        Duration::from_secs(86_400)
    );
    assert_eq!(
        Duration::from_micros(DISK_WARNING_MICROS),
        Duration::from_secs(600)
    );
}

/// A late answer that nobody waits for makes its member look for its next act, as time does.
#[test]
fn nobody_gets_the_slot_of_another_whatever_made_it_begin() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run), (2, PURGE)]));
    assert_eq!(words(&node), ["make", "purge"]);
    node.running.clear();
    node.tell(AgentEventKind::ActFailed { member: id(2) });
    node.tell(desired(2, &[(1, Want::Run), (2, Want::Run)]));
    assert!(node.running.is_empty(), "not at once");
    node.clock += RETRY_MICROS;
    node.tell(AgentEventKind::Removed { member: id(2) });
    let made = node.running.iter().map(|(effect, _)| match effect {
        AgentEffect::MakeDirectory { member, slot, .. } => (*member, *slot),
        other => panic!("{other:?}"),
    });
    assert_eq!(made.collect::<Vec<_>>(), [(id(2), 1)]);
}
