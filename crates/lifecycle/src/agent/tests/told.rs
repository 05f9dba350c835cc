//! What the core tells its service and the manager of its members.

use super::super::{AgentEvent, AgentEventKind};
use super::fake_node::{FakeNode, id, spec, word};
use super::{desired, node_with};
use domain::ExitCause;
use node_api::Want;

#[test]
fn a_member_with_a_directory_is_known_and_one_whose_command_may_run_is_measured() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    assert_eq!(node.core.specification(id(1)), None, "it is being made");
    node.settle();
    node.tell(desired(2, &[(1, Want::Run), (2, Want::Run)]));
    node.work_until(&["prepare"]);
    assert_eq!(node.core.specification(id(2)), Some((&spec(), 1)));
    assert_eq!(node.core.living(), [id(1)], "the second has not begun");
    node.guest_ends(id(1), ExitCause::Own);
    node.settle();
    assert_eq!(node.core.specification(id(1)), Some((&spec(), 0)));
    assert_eq!(node.core.living(), [id(2)]);
    assert_eq!(node.core.specification(id(3)), None);
}

#[test]
fn only_what_a_set_does_not_name_is_unclaimed() {
    let mut node = node_with(1);
    let unclaimed = |node: &FakeNode| {
        let report = node.core.report(1);
        let [found] = &report.members[..] else {
            panic!("there is one")
        };
        (found.unclaimed, found.spec.is_some())
    };
    assert_eq!(unclaimed(&node), (false, false));
    node.crash();
    assert_eq!(unclaimed(&node), (false, false), "no set has come yet");
    node.tell(desired(2, &[]));
    assert_eq!(unclaimed(&node), (true, true));
    node.tell(desired(3, &[(1, Want::Run)]));
    node.tell(AgentEventKind::Tick);
    assert_eq!(unclaimed(&node), (false, false));
}

#[test]
fn a_report_is_asked_for_once_and_last_when_there_is_something_new() {
    let mut node = FakeNode::new();
    let mut effects = |generation| {
        let runs = [(1, Want::Run), (2, Want::Run)];
        let now = node.now();
        let kinds = [desired(generation, &runs), AgentEventKind::ObeyedSaved];
        let all = kinds.map(|kind| node.core.step(AgentEvent { now, kind }));
        all.concat().iter().map(word).collect::<Vec<_>>()
    };
    assert_eq!(effects(1), ["save", "make", "make", "report"]);
    assert_eq!(effects(1), ["save"], "the same again");
    assert_eq!(effects(2), ["save", "report"], "what is obeyed has changed");
}
