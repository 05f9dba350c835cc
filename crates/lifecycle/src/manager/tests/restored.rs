//! Stores that were restored from an older copy.

mod places;

use super::bench::{Bench, MIB, START, exited, order, owner, running, spec, stopped};
use crate::manager::{
    ATTEMPTS_OF_AN_INCARNATION, Answer, CreateRequest, EventKind, Hold, NodeOrder, Refusal,
    RequestToken, UnclaimedOrder, hold,
};
use crate::rows::Loaded;
use domain::{
    Dependency, DependencyState, DependencyTarget, Intention, MemberId, MemberPause, MemberState,
    Need, NodeId, RemovalOrder, SessionId, SessionSpec, Slots, Timestamp,
};
use node_api::{MemberSpec, Obeyed, Report, ReportedMember, Want};

/// Two nodes, of which the first is full, and a session that waits; the store as it is then.
pub(super) fn with_waiting(spec: SessionSpec) -> (Bench, SessionId, Loaded) {
    let mut bench = Bench::new();
    bench.connect(2);
    bench.report(1, &[]);
    bench.report(2, &[]);
    for node in [1, 2] {
        bench.step(EventKind::NodeDisconnected { node: NodeId(node) });
    }
    let session = bench.create(spec);
    assert_eq!(bench.word(session), "pending");
    let copy = bench.copy();
    (bench, session, copy)
}

fn member(session: SessionId, attempt: u32) -> MemberId {
    MemberId {
        session,
        attempt,
        index: 0,
    }
}

/// The store is lost and made anew from `copy`; whether that is known is the caller's.
pub(super) fn restore(bench: &mut Bench, copy: Loaded, known: Option<u64>) {
    let mut events = std::mem::take(&mut bench.events);
    events.retain(|event| event.number < copy.site.next_event);
    let restored = known;
    bench.restore(Loaded { restored, ..copy }, events);
}

/// What a node tells of a member that no session claims.
fn unclaimed(id: MemberId, state: MemberState, session: SessionSpec) -> ReportedMember {
    let spec = MemberSpec {
        name: "found".parse().expect("a name"),
        owner: owner(),
        array_index: None,
        array_size: None,
        session: session.into(),
    };
    ReportedMember {
        id,
        state,
        pause: MemberPause::Off,
        unclaimed: true,
        spec: Some(spec),
    }
}

/// What a node tells of a member that it was told of.
fn claimed(id: MemberId, state: MemberState) -> ReportedMember {
    ReportedMember {
        id,
        state,
        pause: MemberPause::Off,
        unclaimed: false,
        spec: None,
    }
}

/// A node has obeyed what it was last told, and has just these members.
fn report_these(bench: &mut Bench, node: u64, members: Vec<ReportedMember>) {
    bench.sequence += 1;
    let (epoch, generation) = bench.obeyed(node);
    let report = Report {
        node: NodeId(node),
        sequence: bench.sequence,
        incarnation: bench.site.row().incarnation,
        epoch,
        generation,
        settled: vec![],
        members,
    };
    bench.step(EventKind::Report {
        report: Box::new(report),
    });
}

/// A node tells of a running member that no session claims, and of nothing else.
fn report_unclaimed(bench: &mut Bench, node: u64, id: MemberId, session: SessionSpec) {
    report_these(bench, node, vec![unclaimed(id, running(), session)]);
}

/// As much as a node has.
fn whole() -> SessionSpec {
    let slots = Slots::of(40_000, 10 * MIB);
    SessionSpec { slots, ..spec() }
}

/// A session that no copy knows.
const YOUNGER: SessionId = SessionId(1_000);

#[test]
fn what_waits_in_a_copy_waits_for_every_node() {
    let (mut bench, session, copy) = with_waiting(spec());
    restore(&mut bench, copy.clone(), None);
    bench.connect(2);
    bench.report(2, &[]);
    assert_eq!(
        bench.word(session),
        "placed",
        "where nobody knows of the restoration it may run twice"
    );
    restore(&mut bench, copy, Some(1));
    assert!(bench.codes().contains(&"site.restored"));
    assert_eq!(bench.site.row().incarnation, 2);
    bench.connect(2);
    bench.report(2, &[]);
    assert_eq!(bench.word(session), "pending");
    let why = hold(&bench.view, bench.record(session));
    assert_eq!(
        why,
        Some(Hold::Restored {
            nodes: vec!["n1".to_owned()]
        })
    );
    let young = bench.create(spec());
    assert_eq!(bench.word(young), "placed", "it has no lost future");
    // Another leader knows whom it still has to hear.
    bench.restart();
    bench.connect(2);
    bench.report(2, &[]);
    assert_eq!(bench.word(session), "pending");
    bench.connect(1);
    bench.report(1, &[]);
    assert_eq!(bench.word(session), "placed");
    let attempt = bench.record(session).attempt;
    assert_eq!(
        attempt,
        ATTEMPTS_OF_AN_INCARNATION + 1,
        "no attempt of the lost future has this number"
    );
}

#[test]
fn what_lives_is_taken_up_at_once() {
    let (mut bench, session, copy) = with_waiting(spec());
    restore(&mut bench, copy, Some(1));
    let lives = member(session, 2);
    bench.connect(2);
    bench.report(2, &[(lives, running())]);
    assert_eq!(bench.word(session), "running");
    assert!(bench.codes().contains(&"session.taken-up"));
    assert_eq!(bench.member(session, 0), lives);
    assert_eq!(bench.want(2, lives), Some(Want::Run));
    assert!(bench.view.unclaimed[&NodeId(2)].is_empty());
    bench.connect(1);
    bench.report(1, &[]);
    bench.report(2, &[(lives, exited(lives, 0))]);
    assert!(bench.outcome(session).starts_with("succeeded"));
}

#[test]
fn each_one_that_lives_is_taken_up_at_once_whatever_else_is_found() {
    let (mut bench, one, _) = with_waiting(spec());
    let other = bench.create(spec());
    let copy = bench.copy();
    restore(&mut bench, copy, Some(1));
    bench.connect(2);
    let beyond = MemberId {
        index: 1,
        ..member(one, 1)
    };
    let found = [member(one, 1), member(other, 1), beyond];
    let found = found.map(|id| unclaimed(id, running(), spec()));
    report_these(&mut bench, 2, found.to_vec());
    assert_eq!((bench.word(one), bench.word(other)), ("running", "running"));
    assert_eq!(bench.view.unclaimed[&NodeId(2)][0].id, beyond);
}

#[test]
fn of_a_member_that_two_nodes_have_the_one_that_lives_is_taken_up() {
    for (lives, ended) in [(1, 2), (2, 1)] {
        let (mut bench, session, copy) = with_waiting(spec());
        restore(&mut bench, copy, Some(1));
        let id = member(session, 1);
        bench.connect(ended);
        report_these(
            &mut bench,
            ended,
            vec![unclaimed(id, exited(id, 0), spec())],
        );
        assert_eq!(bench.word(session), "pending");
        bench.connect(lives);
        report_these(&mut bench, lives, vec![unclaimed(id, running(), spec())]);
        assert_eq!(bench.word(session), "running");
        assert_eq!(bench.record(session).members[0].node, NodeId(lives));
    }
}

#[test]
fn what_has_ended_is_taken_up_when_nothing_later_can_be() {
    let (mut bench, session, copy) = with_waiting(spec());
    restore(&mut bench, copy, Some(1));
    let (first, second) = (member(session, 1), member(session, 2));
    bench.connect(2);
    bench.report(2, &[(first, exited(first, 1))]);
    assert_eq!(bench.word(session), "pending");
    bench.connect(1);
    bench.report(1, &[(second, exited(second, 0))]);
    assert!(bench.outcome(session).starts_with("succeeded"));
    assert_eq!(bench.member(session, 0), second);
}

#[test]
fn a_gang_is_taken_up_whole_or_when_all_are_heard() {
    let two = SessionSpec {
        members: 2,
        ..spec()
    };
    let (mut bench, session, copy) = with_waiting(two);
    let main = member(session, 1);
    let other = MemberId { index: 1, ..main };
    restore(&mut bench, copy.clone(), Some(1));
    bench.connect(1);
    bench.report(1, &[(other, running())]);
    assert_eq!(bench.word(session), "pending");
    bench.connect(2);
    bench.report(2, &[(main, running())]);
    assert_eq!(bench.word(session), "running");
    restore(&mut bench, copy, Some(2));
    bench.connect(1);
    bench.report(1, &[(main, running())]);
    assert_eq!(bench.word(session), "pending");
    bench.connect(2);
    bench.report(2, &[]);
    assert_eq!(bench.word(session), "stopping", "its other member is lost");
}

#[test]
fn what_an_operator_has_ordered_to_end_ends() {
    let two = SessionSpec {
        members: 2,
        ..spec()
    };
    // Also one that has not begun, and that would be passed over.
    for state in [running(), MemberState::Preparing] {
        let (mut bench, session, copy) = with_waiting(two.clone());
        restore(&mut bench, copy, Some(1));
        let main = member(session, 1);
        bench.connect(2);
        let found = unclaimed(main, state, two.clone());
        report_these(&mut bench, 2, vec![found]);
        assert_eq!(
            bench.word(session),
            "pending",
            "its other member may be anywhere"
        );
        let asked = UnclaimedOrder {
            member: main,
            remove: false,
            order: order("operator"),
        };
        bench.step(EventKind::EndUnclaimed {
            token: RequestToken(0),
            asked: Box::new(asked),
        });
        bench.connect(1);
        bench.report(1, &[]);
        let intention = &bench.record(session).intention;
        assert!(
            matches!(intention, Intention::Stop { order } if order.by == "operator"),
            "{intention:?}"
        );
        assert!(matches!(bench.want(2, main), Some(Want::Stop { .. })));
    }
}

#[test]
fn what_its_user_has_ended_is_no_operators_to_end() {
    let (mut bench, session, copy) = with_waiting(spec());
    restore(&mut bench, copy, Some(1));
    bench.connect(2);
    let id = member(session, 1);
    report_these(
        &mut bench,
        2,
        vec![unclaimed(id, MemberState::Preparing, spec())],
    );
    assert_eq!(bench.view.unclaimed[&NodeId(2)].len(), 1);
    bench.stop(session);
    assert!(bench.view.unclaimed[&NodeId(2)].is_empty());
    let asked = UnclaimedOrder {
        member: id,
        remove: true,
        order: order("operator"),
    };
    bench.step(EventKind::EndUnclaimed {
        token: RequestToken(0),
        asked: Box::new(asked),
    });
    let refusal = Refusal::NotUnclaimed { member: id };
    assert_eq!(bench.answer(), Answer::Refused { refusal });
}

/// Found by a reader: its second attempt was on a node that had not told yet.
#[test]
fn what_is_removed_in_doubt_is_removed_with_its_later_attempts() {
    let mut bench = Bench::new();
    bench.connect(2);
    bench.report(1, &[]);
    bench.report(2, &[]);
    let session = bench.create(spec());
    let first = bench.member(session, 0);
    let (here, there) = match bench.record(session).members[0].node.0 {
        1 => (1, 2),
        other => (other, 1),
    };
    bench.report(here, &[(first, running())]);
    let copy = bench.copy();
    restore(&mut bench, copy, Some(1));
    bench.connect(here);
    bench.report(here, &[(first, running())]);
    bench.remove(session);
    bench.report(here, &[(first, MemberState::Gone)]);
    assert_eq!(bench.word(session), "ended");
    bench.connect(there);
    let second = member(session, 2);
    report_these(
        &mut bench,
        there,
        vec![unclaimed(second, running(), spec())],
    );
    assert!(matches!(
        bench.want(there, second),
        Some(Want::Purge { .. })
    ));
    bench.report(there, &[]);
    assert!(bench.site.session(session).is_none());
}

#[test]
fn a_node_that_obeyed_an_older_incarnation_is_given_nothing_before_it_has_told() {
    for (incarnation, word) in [(1, "pending"), (2, "placed")] {
        let (mut bench, _, copy) = with_waiting(whole());
        restore(&mut bench, copy, Some(1));
        for node in [1, 2] {
            bench.connect(node);
            bench.report(node, &[]);
        }
        for node in [1, 2] {
            bench.step(EventKind::NodeDisconnected { node: NodeId(node) });
        }
        let waits = bench.create(spec());
        let (epoch, generation) = bench.obeyed(2);
        let obeyed = Obeyed {
            incarnation,
            epoch,
            generation,
        };
        bench.connect_obeying(2, Some(obeyed));
        assert_eq!(bench.word(waits), word, "{incarnation}");
        // What it sent before it obeyed says nothing of now.
        let old = Report {
            node: NodeId(2),
            sequence: 0,
            incarnation: 1,
            epoch,
            generation,
            settled: vec![],
            members: vec![],
        };
        let report = Box::new(old);
        bench.step(EventKind::Report { report });
        assert_eq!(bench.word(waits), word, "{incarnation}");
        bench.report(2, &[]);
        assert_eq!(bench.word(waits), "placed");
    }
}

#[test]
fn what_cannot_be_of_a_session_is_no_later_attempt_of_it() {
    let (mut bench, session, copy) = with_waiting(spec());
    restore(&mut bench, copy, Some(1));
    let strange = MemberId {
        index: 5,
        ..member(session, 0)
    };
    bench.connect(1);
    report_unclaimed(&mut bench, 1, strange, spec());
    bench.connect(2);
    bench.report(2, &[]);
    assert_eq!(bench.word(session), "placed");
    assert!(!bench.codes().contains(&"session.passed-over"));
    assert_eq!(bench.view.unclaimed[&NodeId(1)].len(), 1);
}

/// Found by the simulation: what a node told the leader before, and no session had yet, the next
/// leader does not know.
#[test]
fn each_leader_hears_every_node_before_it_begins_again() {
    let (mut bench, session, copy) = with_waiting(spec());
    restore(&mut bench, copy, Some(1));
    let (first, second) = (member(session, 1), member(session, 2));
    bench.connect(2);
    bench.report(2, &[(second, exited(second, 0))]);
    bench.restart();
    bench.connect(1);
    bench.report(1, &[(first, exited(first, 1))]);
    assert_eq!(bench.word(session), "pending", "the second is forgotten");
    bench.connect(2);
    bench.report(2, &[(second, exited(second, 0))]);
    assert!(bench.outcome(session).starts_with("succeeded"));
    assert_eq!(bench.member(session, 0), second);
}

/// Found by the simulation: what was begun in the lost future, and failed, waited for ever for what had
/// ended while it ran.
#[test]
fn what_was_begun_had_what_it_waited_for() {
    let (mut bench, first, _) = with_waiting(spec());
    let second = CreateRequest {
        retry: 1,
        after: vec![Dependency {
            on: DependencyTarget::Session(first),
            name: "first".to_owned(),
            need: Need::Succeeded,
            state: DependencyState::Waiting,
        }],
        ..bench.request(spec())
    };
    let id = second.id;
    bench.create_request(second);
    let copy = bench.copy();
    restore(&mut bench, copy, Some(1));
    let lives = member(id, 1);
    bench.connect(2);
    bench.report(2, &[(lives, running())]);
    assert_eq!(bench.word(id), "running");
    bench.connect(1);
    bench.report(1, &[(member(first, 1), exited(member(first, 1), 0))]);
    assert!(bench.outcome(first).starts_with("succeeded"));
    bench.report(2, &[(lives, exited(lives, 1))]);
    assert_eq!(bench.word(id), "pending");
    bench.pass(60_000);
    assert_eq!(bench.word(id), "placed");
}

#[test]
fn a_copy_of_a_copy_has_numbers_of_its_own() {
    let (mut bench, session, copy) = with_waiting(spec());
    for known in [1, 2] {
        restore(&mut bench, copy.clone(), Some(known));
        for node in [1, 2] {
            bench.connect(node);
            bench.report(node, &[]);
        }
        let incarnation = u32::try_from(known).expect("small");
        let base = incarnation * ATTEMPTS_OF_AN_INCARNATION;
        assert_eq!(bench.record(session).attempt, base + 1);
    }
}

#[test]
fn a_store_that_was_never_restored_waits_for_nobody() {
    let (mut bench, session, mut copy) = with_waiting(spec());
    // As rows are that were written before epochs were kept.
    for record in &mut copy.sessions {
        record.epoch = 0;
    }
    for node in &mut copy.nodes {
        node.heard_in = 0;
    }
    restore(&mut bench, copy, None);
    bench.connect(2);
    bench.report(2, &[]);
    assert_eq!(bench.word(session), "placed");
}

/// Found by the simulation: an agent that was killed had forgotten the order, and its member ran on while
/// its session was stopping for ever.
#[test]
fn what_was_stopped_in_the_lost_future_stops() {
    let mut bench = Bench::new();
    let slots = Slots::of(20_000, 10 * MIB);
    let half = SessionSpec { slots, ..spec() };
    let (known, other) = (bench.create(half.clone()), bench.create(half.clone()));
    let (first, over) = (bench.member(known, 0), bench.member(other, 0));
    bench.report(1, &[(first, running()), (over, running())]);
    let waiting = bench.create(half);
    let second = member(waiting, 1);
    assert_eq!(bench.word(waiting), "pending");
    let copy = bench.copy();
    restore(&mut bench, copy, Some(1));
    bench.connect(1);
    let since = Some(Timestamp(START + 5));
    let stopping = MemberState::Stopping { since };
    let over = (over, exited(over, 0));
    bench.report(1, &[(first, stopping.clone()), (second, stopping), over]);
    for (session, member) in [(known, first), (waiting, second)] {
        assert_eq!(bench.word(session), "stopping");
        assert!(matches!(bench.want(1, member), Some(Want::Stop { .. })));
    }
    bench.report(1, &[(first, stopped(first)), (second, stopped(second))]);
    assert!(bench.outcome(known).starts_with("stopped"));
    assert!(bench.outcome(waiting).starts_with("stopped"));
}

#[test]
fn what_is_removed_in_doubt_is_removed_from_nodes_as_well() {
    let (mut bench, session, copy) = with_waiting(spec());
    restore(&mut bench, copy.clone(), Some(1));
    bench.connect(1);
    bench.report(1, &[]);
    bench.remove(session);
    assert_eq!(bench.word(session), "ended");
    bench.connect(2);
    let lives = member(session, 1);
    bench.report(2, &[(lives, running())]);
    assert!(matches!(bench.want(2, lives), Some(Want::Purge { .. })));
    assert!(bench.view.unclaimed[&NodeId(2)].is_empty());
    bench.report(2, &[]);
    assert!(bench.site.session(session).is_none());
    // Nothing is found, or the last node is given up.
    restore(&mut bench, copy, Some(2));
    bench.remove(session);
    bench.connect(1);
    bench.report(1, &[]);
    bench.pass(1_000);
    bench.skip(8 * 86_400_000);
    bench.pass(1_000);
    assert!(
        bench.site.session(session).is_some(),
        "it waits for the last node, however long"
    );
    let order = NodeOrder::Remove {
        order: RemovalOrder {
            by: "operator".to_owned(),
            at: bench.now.wall,
            lost: true,
        },
    };
    bench.step(EventKind::OrderNode {
        token: RequestToken(0),
        node: NodeId(2),
        order: Box::new(order),
    });
    assert!(bench.site.session(session).is_none());
}

/// Found at random: the member that its node had kept by a bare id was never told to go, and its
/// session stayed for ever.
#[test]
fn what_is_removed_in_doubt_is_removed_with_each_of_its_members() {
    let two = SessionSpec {
        members: 2,
        ..spec()
    };
    let (mut bench, session, copy) = with_waiting(two);
    restore(&mut bench, copy, Some(1));
    bench.connect(1);
    bench.report(1, &[]);
    bench.remove(session);
    bench.connect(2);
    let main = member(session, 1);
    let other = MemberId { index: 1, ..main };
    // What it tells before it obeys: the lost future had told it to keep the main member.
    bench.sequence += 1;
    let report = Report {
        node: NodeId(2),
        sequence: bench.sequence,
        incarnation: 1,
        epoch: 1,
        generation: 9,
        settled: vec![main],
        members: vec![claimed(other, exited(other, 0))],
    };
    let report = Box::new(report);
    bench.step(EventKind::Report { report });
    assert_eq!(bench.want(2, main), None, "it is not known yet");
    assert!(matches!(bench.want(2, other), Some(Want::Purge { .. })));
    bench.report(2, &[(main, exited(main, 0)), (other, exited(other, 0))]);
    assert!(matches!(bench.want(2, main), Some(Want::Purge { .. })));
    let gone = MemberState::Gone;
    bench.report(2, &[(main, gone.clone()), (other, gone)]);
    assert!(bench.site.session(session).is_none());
}
