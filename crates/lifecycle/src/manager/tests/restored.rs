//! Stores that were restored from an older copy.

use super::bench::{Bench, exited, order, owner, running, spec};
use crate::manager::{
    ATTEMPTS_OF_AN_INCARNATION, CreateRequest, EventKind, Hold, RequestToken, UnclaimedOrder, hold,
};
use crate::rows::Loaded;
use domain::{
    Dependency, DependencyState, DependencyTarget, Intention, MemberId, MemberPause, Need, NodeId,
    SessionId, SessionSpec,
};
use node_api::{MemberSpec, Report, ReportedMember, Want};

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
    let (mut bench, session, copy) = with_waiting(two.clone());
    restore(&mut bench, copy, Some(1));
    let main = member(session, 1);
    bench.connect(2);
    let spec = MemberSpec {
        name: "half".parse().expect("a name"),
        owner: owner(),
        array_index: None,
        array_size: None,
        session: two,
    };
    let report = Report {
        node: NodeId(2),
        sequence: 100,
        incarnation: 2,
        epoch: 0,
        generation: 0,
        settled: vec![],
        members: vec![ReportedMember {
            id: main,
            state: running(),
            pause: MemberPause::Off,
            unclaimed: true,
            spec: Some(spec),
        }],
    };
    bench.step(EventKind::Report {
        report: Box::new(report),
    });
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
