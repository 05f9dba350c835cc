//! A disk that is nearly full.

use super::super::disk::{
    DISK_FASTEST_BYTES, DISK_LOOK_LEAST_MICROS, DISK_MARGIN_BYTES, DISK_WARNING_MICROS,
};
use super::super::{
    AgentEffect, AgentEvent, AgentEventKind, DISK_LOOK_MOST_MICROS, DiskBegan, DiskUsage, OwnDisk,
    disk_line, disk_look_micros, disk_unpromised,
};
use super::fake_node::{FakeNode, id};
use super::{desired, how, node_with, record, state, words};
use domain::{ExitCause, MemberId};
use node_api::Want;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Measurements in MiB, of a disk of 1000 and members from 1.
fn measured<const COUNT: usize>(free: u64, bytes: [u64; COUNT]) -> AgentEventKind {
    AgentEventKind::DiskMeasured {
        disk: DiskUsage {
            free_bytes: free << 20,
            total_bytes: 1_000 << 20,
            members: (1..)
                .map(id)
                .zip(bytes.map(|megabytes| megabytes << 20))
                .collect::<BTreeMap<MemberId, u64>>(),
            truncated: BTreeSet::new(),
            began: BTreeMap::new(),
            with_own_disk: BTreeSet::new(),
        },
    }
}

#[test]
fn what_a_file_system_has_in_memory_is_promised() {
    for (used_bytes, image_bytes, promised) in [(0, 0, 0), (9, 2, 7), (2, 9, 0), (9, 9, 0)] {
        let disk = OwnDisk {
            used_bytes,
            image_bytes,
        };
        assert_eq!(disk.promised_bytes(), promised, "{disk:?}");
    }
    for (free, promised, left) in [
        (100, vec![], 100),
        (100, vec![30, 20], 50),
        (100, vec![30, u64::MAX, 20], 0),
    ] {
        assert_eq!(disk_unpromised(free, promised), left);
    }
    // Promises bring the next look nearer.
    let (total, free) = (100 << 30, 30 << 30);
    let next = |promised| disk_look_micros(disk_unpromised(free, [promised]), total);
    assert_eq!(next(0), DISK_LOOK_MOST_MICROS);
    assert_eq!(next(25 << 30), DISK_LOOK_LEAST_MICROS);
}

#[test]
fn the_largest_writer_goes_when_the_disk_is_nearly_full() {
    let mut node = FakeNode::new();
    node.tell(desired(
        1,
        &[(1, Want::Run), (2, Want::Run), (3, Want::Run)],
    ));
    node.settle();
    // The third began with much; the second wrote most.
    node.tell(measured(500, [10, 10, 400]));
    node.tell(measured(115, [50, 300, 420]));
    assert!(
        node.running.is_empty(),
        "a twentieth and the margin are free"
    );
    let mut small = node.core.clone();
    let now = node.now();
    let kind = measured(112, [20, 23, 413]);
    let effects = small.step(AgentEvent { now, kind });
    assert_eq!(effects, [], "nobody wrote an eighth of what is free");
    node.tell(measured(40, [50, 310, 420]));
    node.tell(measured(30, [50, 320, 420]));
    assert_eq!(words(&node), ["order"], "one at a time");
    node.settle();
    assert_eq!(how(&node, 2).1, ExitCause::DiskLimit);
    assert_eq!(
        record(&node, 2).disk_bytes,
        Some(310 << 20),
        "when it was decided"
    );
    assert_eq!((state(&node, 1), state(&node, 3)), ("running", "running"));
}

#[test]
fn each_above_its_own_limit_is_ended_however_empty_the_disk_is() {
    let mut node = FakeNode::new();
    let runs = [1, 2, 3, 4].map(|number| (number, Want::Run));
    let AgentEventKind::Desired { mut desired } = desired(1, &runs) else {
        panic!("it is one")
    };
    for member in &mut desired.members {
        // The fourth is the control: it has no limit.
        let limited = member.id != id(4);
        Arc::make_mut(&mut member.spec.session).disk_limit = limited.then_some(100 << 20);
    }
    node.tell(AgentEventKind::Desired { desired });
    node.settle();
    // The second has a file system of its own, beside which its log is.
    let mut with_own_disk = node.core.clone();
    let now = node.now();
    let AgentEventKind::DiskMeasured { mut disk } = measured(900, [100, 101, 100, 500]) else {
        panic!("it is one")
    };
    disk.with_own_disk.insert(id(2));
    let kind = AgentEventKind::DiskMeasured { disk };
    assert_eq!(with_own_disk.step(AgentEvent { now, kind }), []);
    node.tell(measured(900, [100, 101, 101, 500]));
    assert_eq!(
        words(&node),
        ["order", "order"],
        "what is at its limit goes on"
    );
    node.settle();
    for number in [2, 3] {
        assert_eq!(how(&node, number).1, ExitCause::DiskLimit);
        assert_eq!(record(&node, number).disk_bytes, Some(101 << 20));
    }
    assert_eq!((state(&node, 1), state(&node, 4)), ("running", "running"));
}

#[test]
fn an_end_for_the_disk_is_told_so_wherever_the_agent_was_killed() {
    // Before the note, the order, the look at what it left, the record, and after that.
    for before in 0..5 {
        let mut node = node_with(1);
        node.tell(measured(500, [10]));
        node.tell(measured(40, [310]));
        for _ in 0..before {
            node.work(0);
        }
        node.crash();
        // Nothing was done yet: the next process finds the disk as full and decides anew.
        if before == 0 {
            assert_eq!(node.disk.directories[&id(1)].disk_limit, None);
            node.settle();
            assert_eq!(state(&node, 1), "running");
            node.tell(measured(500, [10]));
            node.tell(measured(40, [310]));
        }
        node.settle();
        let found = record(&node, 1);
        let expected = (ExitCause::DiskLimit, Some(310 << 20));
        assert_eq!((found.cause, found.disk_bytes), expected, "{before}");
    }
}

#[test]
fn nobody_is_blamed_for_what_no_member_was_seen_to_write() {
    let mut node = node_with(1);
    node.tell(measured(900, [10]));
    // Of 860 lost, 100 are known.
    node.tell(measured(40, [110]));
    let warning = AgentEffect::WarnOfDisk {
        free_bytes: 40 << 20,
        lost_bytes: 860 << 20,
        written_bytes: 100 << 20,
    };
    assert_eq!(
        node.running.pop_front().map(|(effect, _)| effect),
        Some(warning)
    );
    node.tell(measured(40, [110]));
    assert!(node.running.is_empty(), "once in a while");
    node.clock += DISK_WARNING_MICROS;
    node.tell(measured(40, [110]));
    assert_eq!(words(&node), ["warn"]);
    node.settle();
    assert_eq!(state(&node, 1), "running");
    node.tell(measured(40, [440]));
    node.settle();
    assert_eq!(how(&node, 1).1, ExitCause::DiskLimit, "half is known");
}

#[test]
fn one_that_wrote_nothing_is_not_blamed_for_a_disk_that_was_full_before() {
    let mut node = node_with(1);
    node.tell(measured(0, [10]));
    assert!(node.running.is_empty());
    // The control: as soon as it writes anything, it is.
    let AgentEventKind::DiskMeasured { mut disk } = measured(0, [10]) else {
        panic!("it is one")
    };
    *disk.members.get_mut(&id(1)).expect("measured") += 1;
    node.tell(AgentEventKind::DiskMeasured { disk });
    assert_eq!(words(&node), ["order"]);
}

#[test]
fn what_ended_members_wrote_accounts_for_the_loss() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    node.settle();
    node.tell(measured(900, [10, 10]));
    node.tell(measured(500, [400, 10]));
    node.guest_ends(id(1), ExitCause::Own);
    node.settle();
    let AgentEventKind::DiskMeasured { mut disk } = measured(40, [0, 110]) else {
        panic!("it is one")
    };
    disk.members.remove(&id(1));
    node.tell(AgentEventKind::DiskMeasured { disk });
    node.settle();
    assert_eq!(how(&node, 2).1, ExitCause::DiskLimit);
}

#[test]
fn what_one_wrote_that_ended_while_it_was_measured_accounts_for_the_loss_too() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    node.settle();
    node.tell(measured(900, [10, 10]));
    node.guest_ends(id(1), ExitCause::Own);
    node.settle();
    node.tell(measured(40, [400, 110]));
    node.settle();
    assert_eq!(how(&node, 2).1, ExitCause::DiskLimit);
}

#[test]
fn one_that_could_not_be_measured_to_the_end_counts_as_the_largest() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    node.settle();
    node.tell(measured(900, [10, 10]));
    let AgentEventKind::DiskMeasured { mut disk } = measured(40, [110, 20]) else {
        panic!("it is one")
    };
    disk.truncated.insert(id(2));
    node.tell(AgentEventKind::DiskMeasured { disk });
    node.settle();
    assert_eq!(how(&node, 2).1, ExitCause::DiskLimit);
    assert_eq!(state(&node, 1), "running");
}

#[test]
fn one_that_ends_by_itself_first_is_not_blamed_for_the_disk() {
    let mut node = node_with(1);
    node.tell(measured(500, [10]));
    node.tell(measured(40, [310]));
    node.guest_ends(id(1), ExitCause::Own);
    node.settle();
    let found = record(&node, 1);
    assert_eq!((found.cause, found.disk_bytes), (ExitCause::Own, None));
}

#[test]
fn who_only_wrote_before_another_was_ended_is_not_the_next() {
    let mut node = FakeNode::new();
    node.tell(desired(
        1,
        &[(1, Want::Run), (2, Want::Run), (3, Want::Run)],
    ));
    node.settle();
    node.tell(measured(900, [10, 10, 10]));
    node.tell(measured(60, [410, 310, 110]));
    node.settle();
    assert_eq!(how(&node, 1).1, ExitCause::DiskLimit);
    // What the first one left stays: the disk is as full as before.
    let after = |free, second, third| {
        let AgentEventKind::DiskMeasured { mut disk } = measured(free, [0, second, third]) else {
            panic!("it is one")
        };
        disk.members.remove(&id(1));
        AgentEventKind::DiskMeasured { disk }
    };
    node.tell(after(60, 310, 110));
    node.settle();
    assert_eq!((state(&node, 2), state(&node, 3)), ("running", "running"));
    // The control: the smaller one goes on writing, and is the one to go.
    node.tell(after(40, 310, 130));
    node.settle();
    assert_eq!(how(&node, 3).1, ExitCause::DiskLimit);
    assert_eq!(state(&node, 2), "running");
    // When there was room meanwhile, all that was written counts again.
    node.tell(measured(500, [0, 310]));
    node.tell(measured(100, [0, 320]));
    node.settle();
    assert_eq!(how(&node, 2).1, ExitCause::DiskLimit);
}

#[test]
fn half_of_the_reserve_gone_nobody_is_waited_for() {
    let mut node = FakeNode::new();
    node.tell(desired(1, &[(1, Want::Run), (2, Want::Run)]));
    node.settle();
    node.tell(measured(900, [0, 0]));
    node.tell(measured(60, [400, 300]));
    node.tell(measured(30, [420, 310]));
    assert_eq!(words(&node), ["order"], "the first is dying");
    node.tell(measured(25, [425, 315]));
    assert_eq!(words(&node), ["order"], "half is left");
    node.tell(measured(20, [430, 320]));
    assert_eq!(words(&node), ["order", "order"]);
}

#[test]
fn what_a_member_has_when_it_is_started_is_what_its_writing_is_counted_from() {
    let filled = |began: Option<u64>| {
        let mut node = node_with(1);
        let AgentEventKind::DiskMeasured { mut disk } = measured(60, [300]) else {
            panic!("it is one")
        };
        let began = began.map(|megabytes| DiskBegan {
            bytes: megabytes << 20,
            free_bytes: 350 << 20,
        });
        disk.began.extend(began.map(|began| (id(1), began)));
        node.tell(AgentEventKind::DiskMeasured { disk });
        node.settle();
        state(&node, 1) == "running"
    };
    assert!(!filled(Some(10)), "it was full at the first measurement");
    assert!(filled(Some(299)), "somebody else filled it");
    assert!(filled(None), "the control: nobody knows what it wrote");
}

#[test]
fn the_less_is_free_the_sooner_it_is_looked_at_again() {
    // Megabytes free of so many, milliseconds.
    for (free, total, expected) in [
        (1 << 40, 1 << 41, 2_000),
        // 20 GiB and 64 MiB are the line of a large disk: here 1 GiB above it.
        ((21 << 10) + 64, 4 << 20, 500),
        ((20 << 10) + 64 + 205, 4 << 20, 100),
        ((20 << 10) + 64, 4 << 20, 25),
        (0, 4 << 20, 25),
        // Of 320: 16 are kept, and 40 are the margin.
        (320, 320, 128),
        (56 + 103, 320, 50),
        (57, 320, 25),
        (0, 0, 25),
    ] {
        let found = disk_look_micros(free << 20, total << 20) / 1_000;
        assert_eq!(found, expected, "{free} of {total}");
    }
    assert_eq!(disk_line(320 << 20), 56 << 20);
    assert_eq!(disk_look_micros(u64::MAX, u64::MAX), DISK_LOOK_MOST_MICROS);
    // From wherever it is looked at, the fastest writer has not passed the line at the next look,
    // but for what it writes in the shortest pause.
    let total = 1 << 38;
    for free in (0..total).step_by(1 << 27) {
        let pause = disk_look_micros(free, total);
        let written = DISK_FASTEST_BYTES / 1_000_000 * pause;
        let overrun = disk_line(total)
            .min(free)
            .saturating_sub(free.saturating_sub(written));
        assert!(overrun <= DISK_MARGIN_BYTES, "{free}: {overrun}");
    }
}
