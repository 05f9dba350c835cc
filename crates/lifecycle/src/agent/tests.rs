//! The agent core: data-driven cases, and random lives with crashes at every point.

mod acts;
mod bounds;
mod crashes;
mod disk;
mod endings;
mod fake_node;
mod gone;
mod kept;
mod pauses;
mod recovery;
mod told;

use super::{
    AgentEffect, AgentEventKind, KILL_MARGIN_MICROS, NotObeyed, Obeyed, StartDoubt,
    UNCLAIMED_GRACE_MICROS,
};
use domain::{ExitCause, ExitHow, ExitRecord, MemberState, OomEvidence, SiteId, Timestamp};
use fake_node::{FakeNode, id, spec, word};
use node_api::{Desired, DesiredMember, Want};

const STOP: Want = Want::Stop {
    signal: 15,
    grace_ms: 1_000,
};
const PURGE: Want = Want::Purge {
    signal: 15,
    grace_ms: 1_000,
};

fn desired(generation: u64, members: &[(u64, Want)]) -> AgentEventKind {
    let members = members.iter().map(|(number, want)| DesiredMember {
        id: id(*number),
        want: want.clone(),
        paused: false,
        spec: spec(),
    });
    AgentEventKind::Desired {
        desired: Box::new(Desired {
            site: SiteId(1),
            incarnation: 1,
            epoch: 1,
            generation,
            members: members.collect(),
            kept: vec![],
        }),
    }
}

fn node_with(number: u64) -> FakeNode {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(number, Want::Run)]));
    node.settle();
    assert_eq!(state(&node, number), "running");
    node
}

fn state(node: &FakeNode, number: u64) -> &'static str {
    let report = node.core.report(1);
    let found = report.members.iter().find(|member| member.id == id(number));
    found.map_or("not reported", |member| member.state.word())
}

fn how(node: &FakeNode, number: u64) -> (ExitHow, ExitCause) {
    match node.core.state(id(number)) {
        Some(MemberState::Exited { record }) => (record.how.clone(), record.cause),
        other => panic!("{number} is {other:?}"),
    }
}

fn record(node: &FakeNode, number: u64) -> ExitRecord {
    match node.core.state(id(number)) {
        Some(MemberState::Exited { record }) => record.clone(),
        other => panic!("{number} is {other:?}"),
    }
}

fn words(node: &FakeNode) -> Vec<&'static str> {
    node.running
        .iter()
        .map(|(effect, _)| word(effect))
        .collect()
}

#[test]
fn a_member_runs_once_leaves_a_record_and_goes() {
    let mut node = node_with(1);
    node.guest_ends(id(1), ExitCause::Own);
    node.settle();
    assert_eq!(how(&node, 1), (ExitHow::Exited { code: 0 }, ExitCause::Own));
    node.tell(desired(2, &[(1, Want::Run)]));
    node.settle();
    assert_eq!(
        node.disk.starts[&id(1)],
        1,
        "an ended member is not run again"
    );
    node.tell(desired(3, &[(1, PURGE)]));
    node.settle();
    assert_eq!(state(&node, 1), "gone");
    assert!(node.disk.directories.is_empty());
    node.tell(desired(4, &[(1, Want::Run)]));
    node.crash();
    node.tell(desired(5, &[(1, Want::Run)]));
    node.settle();
    assert_eq!((state(&node, 1), node.disk.starts[&id(1)]), ("gone", 1));
    node.tell(desired(6, &[]));
    assert_eq!(state(&node, 1), "not reported");
}

#[test]
fn acts_come_in_their_order() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    let mut seen = Vec::new();
    while let Some((effect, step)) = node.running.front() {
        if *step == 0 {
            seen.push(word(effect));
        }
        node.work(0);
    }
    assert_eq!(seen, ["make", "prepare", "start", "watch"]);
    node.guest_ends(id(1), ExitCause::Own);
    assert_eq!(words(&node), ["end"]);
    node.work(0);
    assert_eq!(words(&node), ["record"]);
    assert_eq!(
        state(&node, 1),
        "running",
        "not ended before that is durable"
    );
    node.work(0);
    assert_eq!((words(&node), state(&node, 1)), (vec!["remove"], "exited"));
}

#[test]
fn old_and_foreign_sets_are_refused() {
    let obeyed = |site, incarnation, epoch, generation| Obeyed {
        site: SiteId(site),
        incarnation,
        epoch,
        generation,
    };
    let ours = obeyed(1, 5, 5, 5);
    for (next, allowed) in [
        (obeyed(1, 5, 5, 5), true),
        (obeyed(1, 5, 5, 6), true),
        (obeyed(1, 5, 6, 1), true),
        (obeyed(1, 6, 1, 1), true),
        (obeyed(1, 5, 5, 4), false),
        (obeyed(1, 5, 4, 9), false),
        (obeyed(1, 4, 9, 9), false),
        (obeyed(2, 5, 5, 5), false),
    ] {
        assert_eq!(ours.may_become(&next).is_ok(), allowed, "{next:?}");
    }
    let mut node = node_with(1);
    node.tell(desired(0, &[]));
    assert_eq!((node.refused, state(&node, 1)), (1, "running"));
    node.crash();
    node.tell(desired(0, &[(1, STOP)]));
    assert_eq!(node.refused, 2, "it is remembered by the next process");
}

#[test]
fn only_a_new_leader_must_be_saved() {
    let mut core = super::NodeCore::new(domain::NodeId(1));
    let now = FakeNode::new().now();
    let mut save = |kind| {
        let first = core.step(super::AgentEvent { now, kind }).remove(0);
        let kind = AgentEventKind::ObeyedSaved;
        core.step(super::AgentEvent { now, kind });
        first
    };
    let next = |epoch, generation| {
        let AgentEventKind::Desired { mut desired } = desired(generation, &[]) else {
            panic!("it is one")
        };
        desired.epoch = epoch;
        AgentEventKind::Desired { desired }
    };
    let sets = [next(1, 1), next(1, 2), next(2, 2), next(2, 3)];
    let musts = sets.map(|kind| match save(kind) {
        AgentEffect::SaveObeyed { must, .. } => must,
        other => panic!("{other:?}"),
    });
    assert_eq!(musts, [true, false, true, false]);
    assert_eq!(
        NotObeyed::OldEpoch { ours: 2, theirs: 1 }.to_string(),
        "epoch 1 is older than 2"
    );
}

#[test]
fn what_is_not_named_runs_on_for_a_day_and_is_shown() {
    let mut node = node_with(1);
    node.tell(desired(2, &[]));
    node.settle();
    let report = node.core.report(1);
    let found = &report.members[0];
    assert!(found.unclaimed && found.spec.is_some());
    assert_eq!(found.state.word(), "running");
    node.clock += UNCLAIMED_GRACE_MICROS - 500_000_000;
    node.settle();
    assert!(!node.disk.hurt.contains(&id(1)));
    node.tell(desired(3, &[(1, Want::Run)]));
    node.clock += UNCLAIMED_GRACE_MICROS;
    node.settle();
    assert_eq!(state(&node, 1), "running", "claimed again in time");
    node.tell(desired(4, &[]));
    node.clock += UNCLAIMED_GRACE_MICROS;
    node.settle();
    assert_eq!(state(&node, 1), "exited");
    assert!(
        node.disk.directories.contains_key(&id(1)),
        "what it left stays"
    );
}

#[test]
fn before_the_first_set_nothing_is_begun_and_nothing_ended() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    while state(&node, 1) != "running" || state(&node, 2) != "preparing" {
        // Only the first member's acts, and the second's directory.
        let nth = node.running.iter().position(|(effect, _)| match effect {
            AgentEffect::MakeDirectory { .. } => true,
            AgentEffect::Prepare { member }
            | AgentEffect::Start { member }
            | AgentEffect::Watch { member } => *member == id(1),
            _ => false,
        });
        node.work(nth.expect("something to do"));
    }
    node.crash();
    node.settle();
    assert_eq!((state(&node, 1), state(&node, 2)), ("running", "preparing"));
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    node.settle();
    assert_eq!((state(&node, 1), state(&node, 2)), ("running", "running"));
}

#[test]
fn one_stopped_before_it_ran_leaves_a_record_that_says_so() {
    for before in 0..4 {
        let mut node = FakeNode::new();
        if before > 0 {
            node.tell(desired(1, &[(1, Want::Run)]));
        }
        for _ in 1..before {
            node.work(0);
        }
        node.tell(desired(2, &[(1, STOP)]));
        node.settle();
        let (how, cause) = how(&node, 1);
        assert!(matches!(how, ExitHow::NeverRan { .. }), "{how:?}");
        assert_eq!(cause, ExitCause::Stopped);
        assert!(node.disk.starts.is_empty());
        node.crash();
        node.tell(desired(3, &[(1, Want::Run)]));
        node.settle();
        assert_eq!(state(&node, 1), "exited", "and is not run later");
    }
}

#[test]
fn a_failed_act_ends_the_member_with_its_reason() {
    for (act, cause) in [
        ("prepare", ExitCause::PrepareFailed),
        ("start", ExitCause::StartFailed),
    ] {
        let mut node = FakeNode::new();
        node.fail_next.insert(act);
        node.tell(desired(1, &[(1, Want::Run)]));
        node.settle();
        let reason = "it was told to fail".to_owned();
        assert_eq!(how(&node, 1), (ExitHow::NeverRan { reason }, cause));
        assert!(node.disk.starts.is_empty());
    }
}

#[test]
fn acts_that_can_be_tried_again_are() {
    for act in ["make", "end", "remove", "purge", "record", "order"] {
        let mut node = FakeNode::new();
        node.fail_next.insert(act);
        node.tell(desired(1, &[(1, Want::Run)]));
        node.settle();
        node.tell(desired(2, &[(1, STOP)]));
        node.settle();
        assert_eq!(state(&node, 1), "exited", "{act}");
        assert!(
            node.disk.directories[&id(1)].final_record.is_some(),
            "{act}"
        );
        node.tell(desired(3, &[(1, PURGE)]));
        node.settle();
        assert_eq!(state(&node, 1), "gone", "{act}");
        assert!(node.disk.directories.is_empty() && node.disk.leftovers.is_empty());
    }
}

#[test]
fn a_record_that_cannot_be_written_holds_nobody_up() {
    let mut node = node_with(1);
    node.fail_next.insert("record");
    node.guest_ends(id(1), ExitCause::Own);
    node.work(0);
    node.work(0);
    assert_eq!(state(&node, 1), "exited");
    assert!(node.disk.directories[&id(1)].final_record.is_none());
    node.settle();
    assert!(
        node.disk.directories[&id(1)].final_record.is_some(),
        "written later"
    );
}

#[test]
fn a_directory_that_cannot_be_made_fails_the_member_after_some_tries() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    for _ in 0..3 {
        node.fail_next.insert("make");
        node.work(0);
        node.clock += 3_000_000;
        node.tell(AgentEventKind::Tick);
    }
    assert_eq!(how(&node, 1).1, ExitCause::PrepareFailed);
    node.tell(desired(2, &[(1, PURGE)]));
    node.settle();
    assert_eq!(state(&node, 1), "gone");
}

#[test]
fn a_guest_that_does_not_end_is_killed_after_grace_and_margin() {
    let mut node = node_with(1);
    node.tell(desired(2, &[(1, STOP)]));
    let order = AgentEffect::OrderStop {
        member: id(1),
        signal: 15,
        grace_ms: 1_000,
        disk_bytes: None,
    };
    assert_eq!(
        node.running.pop_front().map(|(effect, _)| effect),
        Some(order)
    );
    node.tell(AgentEventKind::StopOrdered { member: id(1) });
    node.clock += 900_000 + KILL_MARGIN_MICROS;
    node.tell(AgentEventKind::Tick);
    assert!(node.running.is_empty());
    node.clock += 200_000;
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["kill"]);
    node.settle();
    assert_eq!(how(&node, 1), (ExitHow::Unknown, ExitCause::Stopped));
}

#[test]
fn a_guest_that_does_not_answer_gets_the_grace_and_no_margin() {
    let mut node = node_with(1);
    node.tell(desired(2, &[(1, STOP)]));
    node.running.clear();
    let not_ordered = |late| AgentEventKind::StopNotOrdered {
        member: id(1),
        late,
    };
    // One that cannot be reached may be a moment from its end.
    node.clock += 1_100_000;
    node.tell(not_ordered(false));
    assert!(node.running.is_empty());
    node.clock += 2_000_000;
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["order"]);
    node.running.clear();
    node.tell(not_ordered(true));
    assert_eq!(words(&node), ["kill"]);
    node.settle();
    assert_eq!(how(&node, 1), (ExitHow::Unknown, ExitCause::Stopped));
}

#[test]
fn a_guest_that_answers_after_all_gets_its_margin_back() {
    let mut node = node_with(1);
    let grace_ms = 10_000;
    node.tell(desired(
        2,
        &[(
            1,
            Want::Stop {
                signal: 15,
                grace_ms,
            },
        )],
    ));
    node.clock += 5_000_000;
    node.tell(AgentEventKind::StopNotOrdered {
        member: id(1),
        late: true,
    });
    node.clock += 2_000_000;
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["order", "order"]);
    node.running.clear();
    node.tell(AgentEventKind::StopOrdered { member: id(1) });
    node.clock += 5_000_000;
    node.tell(AgentEventKind::Tick);
    assert!(node.running.is_empty(), "it ends the command by itself");
    node.clock += KILL_MARGIN_MICROS;
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["kill"]);
}

#[test]
fn a_later_order_only_shortens() {
    let mut node = node_with(1);
    let order = |grace_ms| Want::Stop {
        signal: 15,
        grace_ms,
    };
    for (generation, grace_ms) in [(2, 60_000), (3, 1_000), (4, 90_000)] {
        node.tell(desired(generation, &[(1, order(grace_ms))]));
        node.running.clear();
        node.tell(AgentEventKind::StopOrdered { member: id(1) });
    }
    node.clock += 1_000_000 + KILL_MARGIN_MICROS;
    node.tell(AgentEventKind::Tick);
    assert_eq!(words(&node), ["kill"]);
}

#[test]
fn a_guest_that_died_without_a_record_is_said_to_have() {
    let mut node = node_with(1);
    node.guest_dies(id(1));
    node.running.clear();
    let evidence = OomEvidence {
        kills: 2,
        limit_bytes: 8 << 20,
        peak_bytes: None,
        process: None,
        of_node: false,
    };
    let ending = super::Ending {
        out_of_memory: Some(evidence.clone()),
        stdout_bytes: 7,
        ..super::Ending::default()
    };
    node.tell(AgentEventKind::Ended {
        member: id(1),
        ending: Box::new(ending),
    });
    node.settle();
    assert_eq!(how(&node, 1), (ExitHow::Unknown, ExitCause::GuestDied));
    let record = node.disk.directories[&id(1)]
        .final_record
        .clone()
        .expect("written");
    assert_eq!(
        (record.out_of_memory, record.stdout_bytes),
        (Some(evidence), 7)
    );
}

#[test]
fn a_start_in_doubt_is_never_repeated() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    node.work_until(&["start"]);
    node.running.clear();
    node.disk.directories.get_mut(&id(1)).expect("made").marker = true;
    node.tell(AgentEventKind::StartFailed {
        member: id(1),
        reason: "the launcher is gone".into(),
        doubt: StartDoubt::MayHaveRun,
    });
    assert_eq!(words(&node), ["end"]);
    node.settle();
    assert_eq!(how(&node, 1), (ExitHow::Unknown, ExitCause::StartFailed));
    let reason = Some("the launcher is gone".to_owned());
    assert_eq!(record(&node, 1).reason, reason);
    node.crash();
    assert_eq!(record(&node, 1).reason, reason, "it is on disk");
}

#[test]
fn a_guest_that_was_in_doubt_and_left_a_record_tells_by_itself() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    node.work_until(&["start"]);
    node.running.clear();
    let mut guests = fake_node::guests_record(id(1), ExitCause::Own, Timestamp(5));
    guests.reason = Some("trust me".to_owned());
    guests.disk_bytes = Some(1 << 50);
    let directory = node.disk.directories.get_mut(&id(1)).expect("made");
    directory.guest_record = Some(guests);
    node.tell(AgentEventKind::StartFailed {
        member: id(1),
        reason: "the launcher is gone".into(),
        doubt: StartDoubt::MayHaveRun,
    });
    node.settle();
    let found = record(&node, 1);
    assert_eq!((found.reason, found.disk_bytes), (None, None));
    assert_eq!(found.cause, ExitCause::Own);
}

#[test]
fn nobody_gets_the_slot_of_what_is_kept_and_cannot_be_understood() {
    let mut node = FakeNode::new();
    node.disk.reserved_slots = [0, 2].into();
    node.crash();
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    node.settle();
    let slots: Vec<u32> = node.disk.directories.values().map(|one| one.slot).collect();
    assert_eq!(slots, [1, 3]);
}

/// A directory may have its name although its making failed: it is only not synced.
#[test]
fn nobody_gets_the_slot_of_a_directory_that_could_not_be_made() {
    let made = |node: &FakeNode, number: u64| {
        node.running.iter().find_map(|(effect, _)| match effect {
            AgentEffect::MakeDirectory { member, slot, .. } if *member == id(number) => Some(*slot),
            _ => None,
        })
    };
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run)]));
    assert_eq!(made(&node, 1), Some(0));
    node.running.clear();
    node.tell(AgentEventKind::DirectoryFailed {
        member: id(1),
        reason: "no space".into(),
    });
    node.tell(desired(2, &[(1, Want::Run), (2, Want::Run)]));
    assert_eq!(made(&node, 2), Some(1), "the first may be there");
    // A leader of a restored store does not know it.
    node.tell(desired(3, &[(2, Want::Run), (3, Want::Run)]));
    assert_eq!(made(&node, 3), Some(2), "it may still be there");
    node.tell(desired(4, &[(1, PURGE), (2, Want::Run), (3, Want::Run)]));
    node.settle();
    node.tell(desired(
        5,
        &[(2, Want::Run), (3, Want::Run), (4, Want::Run)],
    ));
    assert_eq!(made(&node, 4), Some(0), "it is gone");
}

#[test]
fn slots_are_the_smallest_free_and_used_again_only_when_the_files_are_gone() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    node.settle();
    node.tell(desired(2, &[(1, PURGE), (2, Want::Run)]));
    node.work_until(&["purge"]);
    node.work(0);
    node.work(0);
    // Renamed, but still there.
    node.crash();
    node.tell(desired(3, &[(2, Want::Run), (3, Want::Run)]));
    let made = node.running.iter().find_map(|(effect, _)| match effect {
        AgentEffect::MakeDirectory { slot, .. } => Some(*slot),
        _ => None,
    });
    assert_eq!(made, Some(2));
    node.settle();
    node.tell(desired(
        4,
        &[(2, Want::Run), (3, Want::Run), (4, Want::Run)],
    ));
    node.settle();
    assert_eq!(node.disk.directories[&id(4)].slot, 0);
    assert_eq!(
        node.now().wall,
        Timestamp(node.clock.try_into().expect("small"))
    );
}
