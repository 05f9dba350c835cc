//! What had a place in the copy of a store, and was not seen to begin there.

use super::super::bench::{Bench, MIB, exited, running, spec, stopped};
use super::{
    YOUNGER, claimed, member, report_these, report_unclaimed, restore, unclaimed, whole,
    with_waiting,
};
use crate::manager::{ATTEMPTS_OF_AN_INCARNATION, Hold, hold};
use crate::rows::Loaded;
use domain::{MemberRecord, MemberState, NodeId, SessionId, SessionSpec, Slots};
use node_api::{Obeyed, Want};

/// A gang on two nodes of which only the main member has begun; it, the other one, and the store as it
/// is then.
fn begun_in_part() -> (Bench, SessionId, [MemberRecord; 2], Loaded) {
    let two = SessionSpec {
        members: 2,
        ..whole()
    };
    let mut bench = Bench::new();
    bench.connect(2);
    bench.report(1, &[]);
    bench.report(2, &[]);
    let session = bench.create(two);
    let [main, other] = [0, 1].map(|index| bench.record(session).members[index].clone());
    bench.report(main.node.0, &[(main.id, running())]);
    let copy = bench.copy();
    (bench, session, [main, other], copy)
}

/// Found by a reader: a leader that learns of the restoration from a node has told others already.
#[test]
fn what_is_about_to_begin_keeps_its_room_when_a_node_tells_of_a_later_state() {
    let mut bench = Bench::new();
    bench.report(1, &[]);
    let session = bench.create(whole());
    let first = bench.member(session, 0);
    bench.restart();
    bench.connect(1);
    bench.report(1, &[]);
    assert_eq!(bench.want(1, first), Some(Want::Run), "it is being told");
    let younger = bench.create(whole());
    assert_eq!(bench.word(younger), "pending");
    let (incarnation, epoch) = (bench.site.row().incarnation, 99);
    let obeyed = Obeyed {
        incarnation,
        epoch,
        generation: 1,
    };
    bench.connect_obeying(2, Some(obeyed));
    assert!(bench.codes().contains(&"session.withdrawn"));
    assert_eq!(bench.word(younger), "pending", "node 1 may have the first");
    bench.report(1, &[(first, running())]);
    assert_eq!(bench.word(session), "running");
    bench.report(2, &[]);
    assert_eq!(bench.record(younger).members[0].node, NodeId(2));
}

/// Found by the simulation: a node was given what it had room for no more.
#[test]
fn what_had_a_place_in_a_copy_waits_for_every_node() {
    let mut bench = Bench::new();
    bench.report(1, &[]);
    let session = bench.create(whole());
    let first = bench.member(session, 0);
    let copy = bench.copy();
    restore(&mut bench, copy.clone(), None);
    bench.connect(1);
    assert_eq!(
        bench.want(1, first),
        Some(Want::Run),
        "where nobody knows of the restoration it begins, whatever is there"
    );
    restore(&mut bench, copy.clone(), Some(1));
    assert_eq!(bench.word(session), "pending");
    assert!(bench.codes().contains(&"session.withdrawn"));
    bench.connect(1);
    assert_eq!(bench.want(1, first), None);
    let why = hold(&bench.view, bench.record(session));
    let nodes = vec!["n1".to_owned()];
    assert_eq!(why, Some(Hold::Restored { nodes }));
    report_unclaimed(&mut bench, 1, member(YOUNGER, 1), whole());
    assert_eq!(bench.word(session), "pending", "there is no room");
    bench.report(1, &[]);
    assert_eq!(bench.word(session), "placed");
    let second = bench.member(session, 0);
    assert_eq!(second.attempt, ATTEMPTS_OF_AN_INCARNATION + 1);
    // Its place was what it lived at, or what it ended at.
    restore(&mut bench, copy.clone(), Some(2));
    bench.connect(1);
    bench.report(1, &[(first, running())]);
    assert_eq!(bench.word(session), "running");
    assert_eq!(bench.want(1, first), Some(Want::Run));
    restore(&mut bench, copy, Some(3));
    bench.connect(1);
    bench.report(1, &[(first, exited(first, 0))]);
    assert!(bench.outcome(session).starts_with("succeeded"));
}

#[test]
fn what_has_begun_in_part_begins_wholly_if_its_node_has_room() {
    let (mut bench, session, [main, other], copy) = begun_in_part();
    for room in [true, false] {
        let known = bench.site.row().incarnation;
        restore(&mut bench, copy.clone(), Some(known));
        for node in [main.node.0, other.node.0] {
            bench.connect(node);
        }
        assert_eq!(bench.want(main.node.0, main.id), Some(Want::Run));
        assert_eq!(bench.want(other.node.0, other.id), None, "not yet");
        bench.report(main.node.0, &[(main.id, running())]);
        assert_eq!(bench.want(other.node.0, other.id), None, "not yet");
        assert!(bench.last.desired.is_empty(), "nor is there anything new");
        if room {
            bench.report(other.node.0, &[]);
            assert_eq!(bench.want(other.node.0, other.id), Some(Want::Run));
            bench.report(other.node.0, &[(other.id, running())]);
            assert_eq!(bench.word(session), "running");
        } else {
            report_unclaimed(&mut bench, other.node.0, member(YOUNGER, 1), whole());
            assert_eq!(bench.want(other.node.0, other.id), None, "there is no room");
            assert_eq!(bench.word(session), "stopping");
        }
    }
}

#[test]
fn where_there_is_no_room_only_what_had_not_begun_gives_way() {
    let three = SessionSpec {
        slots: Slots::of(20_000, 10 * MIB),
        members: 3,
        ..spec()
    };
    let mut bench = Bench::new();
    bench.connect(2);
    let session = bench.create(three);
    let members = bench.record(session).members.clone();
    let there = |node| members.iter().filter(move |member| member.node == node);
    // One node has two of it, of which one begins.
    let full = if there(NodeId(1)).count() == 2 { 1 } else { 2 };
    let begun = there(NodeId(full)).next().expect("two of it").id;
    bench.report(full, &[(begun, running())]);
    let copy = bench.copy();
    restore(&mut bench, copy, Some(1));
    bench.connect(full);
    let strange = SessionSpec {
        slots: Slots::of(15_000, MIB),
        ..spec()
    };
    let stranger = unclaimed(member(YOUNGER, 1), running(), strange);
    report_these(&mut bench, full, vec![claimed(begun, running()), stranger]);
    for one in &bench.record(session).members {
        let state = one.state.word();
        let expected = match one.node == NodeId(full) {
            _ if one.id == begun => "running",
            true => "gone",
            false => "assigned",
        };
        assert_eq!(state, expected, "{}", one.id);
    }
}

#[test]
fn what_was_to_stop_in_a_copy_stops() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    bench.stop(session);
    let copy = bench.copy();
    restore(&mut bench, copy, Some(1));
    assert_eq!(bench.word(session), "stopping", "it may have begun since");
    bench.connect(1);
    assert!(matches!(bench.want(1, member), Some(Want::Stop { .. })));
    bench.report(1, &[(member, stopped(member))]);
    assert_eq!(bench.outcome(session), "stopped: stopped by ada");
}

#[test]
fn what_is_withheld_is_stopped_at_once() {
    let (mut bench, session, members, copy) = begun_in_part();
    restore(&mut bench, copy, Some(1));
    for node in [1, 2] {
        bench.connect(node);
    }
    bench.stop(session);
    for one in members {
        let want = bench.want(one.node.0, one.id);
        assert!(matches!(want, Some(Want::Stop { .. })), "{want:?}");
    }
}

/// Found by the simulation: an attempt whose failure its node could not write down was begun after all,
/// where its place had been given to others.
#[test]
fn what_had_not_begun_is_passed_over() {
    for (state, is_taken_up) in [
        (MemberState::Preparing, false),
        (MemberState::Starting, true),
    ] {
        let (mut bench, session, copy) = with_waiting(spec());
        restore(&mut bench, copy, Some(1));
        let found = member(session, 1);
        bench.connect(2);
        bench.report(2, &[(found, state.clone())]);
        bench.connect(1);
        bench.report(1, &[]);
        let now = bench.member(session, 0);
        if is_taken_up {
            assert_eq!(now, found);
            continue;
        }
        assert!(bench.codes().contains(&"session.passed-over"));
        assert_eq!(bench.word(session), "placed");
        assert_eq!(now.attempt, ATTEMPTS_OF_AN_INCARNATION + 1);
        bench.report(2, &[(found, state)]);
        assert!(matches!(bench.want(2, found), Some(Want::Stop { .. })));
        assert!(bench.view.unclaimed[&NodeId(2)].is_empty());
    }
}
