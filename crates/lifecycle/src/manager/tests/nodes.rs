//! Nodes that come, go, and have what nobody knows.

use super::bench::{Bench, MIB, exited, order, owner, running, spec, stopped};
use crate::manager::{Answer, EventKind, Refusal, RequestToken, UnclaimedOrder, explain};
use domain::{MemberId, MemberState, NodeId, SessionId, SessionSpec, Slots, StopOrder};
use node_api::{MemberSpec, Report, ReportedMember, Want};

fn stranger() -> MemberId {
    MemberId {
        session: SessionId(777),
        attempt: 1,
        index: 0,
    }
}

/// Node 1 tells of a running member that nobody has named.
fn report_stranger(bench: &mut Bench, session: SessionSpec) {
    let report = Report {
        node: NodeId(1),
        sequence: 0,
        incarnation: 0,
        epoch: 0,
        generation: 0,
        settled: vec![],
        members: vec![ReportedMember {
            id: stranger(),
            state: running(),
            pause: domain::MemberPause::Off,
            unclaimed: true,
            spec: Some(MemberSpec {
                name: "stranger".parse().expect("a name"),
                owner: owner(),
                array_index: None,
                array_size: None,
                session: session.into(),
            }),
        }],
    };
    bench.step(EventKind::Report {
        report: Box::new(report),
    });
}

#[test]
fn what_was_removed_and_forgotten_is_not_unclaimed() {
    let mut bench = Bench::new();
    bench.report(1, &[(stranger(), MemberState::Gone)]);
    assert!(!bench.codes().contains(&"member.unclaimed"));
    assert!(!bench.view.unclaimed.contains_key(&NodeId(1)));
    bench.report(1, &[(stranger(), running())]);
    assert!(bench.codes().contains(&"member.unclaimed"));
}

#[test]
fn an_unclaimed_member_runs_on_is_shown_and_occupies() {
    let mut bench = Bench::new();
    let spec_of = |cpu| SessionSpec {
        slots: Slots::of(cpu, MIB),
        ..spec()
    };
    report_stranger(&mut bench, spec_of(30_000));
    assert_eq!(bench.view.unclaimed[&NodeId(1)].len(), 1);
    assert!(bench.codes().contains(&"member.unclaimed"));
    let session = bench.create(spec_of(20_000));
    assert_eq!(
        bench.word(session),
        "pending",
        "one CPU is free beside the stranger"
    );
    let reasons = explain(&bench.view, session, bench.now.wall)
        .expect("it waits")
        .nodes;
    let text = format!("{reasons:?}");
    assert!(
        text.contains("stranger") && text.contains("free: 10000"),
        "{text}"
    );
    assert_eq!(bench.want(1, stranger()), None, "nobody orders it to end");
    end(&mut bench, stranger(), false);
    assert!(matches!(
        bench.want(1, stranger()),
        Some(Want::Stop { grace_ms: 5, .. })
    ));
    // Ordered to end, it is named, and a report then leaves out what it is.
    bench.report(1, &[(stranger(), running())]);
    assert!(bench.view.unclaimed[&NodeId(1)][0].spec.is_some());
    end(&mut bench, stranger(), true);
    assert!(matches!(
        bench.want(1, stranger()),
        Some(Want::Purge { .. })
    ));
    end(&mut bench, stranger(), false);
    assert!(
        matches!(bench.want(1, stranger()), Some(Want::Purge { .. })),
        "a removal is not taken back"
    );
    bench.report(1, &[]);
    assert_eq!(bench.want(1, stranger()), None);
    assert_eq!(bench.word(session), "placed");
    assert!(bench.view.unclaimed[&NodeId(1)].is_empty());
}

fn end(bench: &mut Bench, member: MemberId, remove: bool) {
    let order = StopOrder {
        grace_ms: 5,
        ..order("operator")
    };
    let asked = UnclaimedOrder {
        member,
        remove,
        order,
    };
    bench.step(EventKind::EndUnclaimed {
        token: RequestToken(0),
        asked: Box::new(asked),
    });
}

#[test]
fn only_what_is_unclaimed_is_ended_as_such() {
    let (mut bench, _, member) = Bench::with_running(spec());
    let before = bench.want(1, member);
    // Of an attempt before: its session's own.
    let older = MemberId {
        attempt: 0,
        ..member
    };
    bench.report(1, &[(member, running()), (older, running())]);
    for member in [member, older, stranger()] {
        end(&mut bench, member, true);
        let refusal = Refusal::NotUnclaimed { member };
        assert_eq!(bench.answer(), Answer::Refused { refusal });
    }
    assert_eq!(bench.want(1, member), before);
}

#[test]
fn members_elsewhere_or_of_the_future_are_unclaimed() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.connect(2);
    bench.report(2, &[(member, running())]);
    assert_eq!(
        bench.view.unclaimed[&NodeId(2)].len(),
        1,
        "placed on another node"
    );
    let later = MemberId {
        attempt: 2,
        ..member
    };
    bench.report(1, &[(member, running()), (later, running())]);
    assert_eq!(
        bench.view.unclaimed[&NodeId(1)][0].id,
        later,
        "a restored store knows less"
    );
    assert_eq!(bench.word(session), "running");
}

#[test]
fn sessions_go_on_while_their_node_is_away() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.step(EventKind::NodeDisconnected { node: NodeId(1) });
    assert!(!bench.connected(1));
    let waiting = bench.create(spec());
    assert_eq!(
        bench.word(waiting),
        "pending",
        "nothing is placed on a node that is away"
    );
    bench.report(1, &[]);
    assert_eq!(
        bench.word(session),
        "running",
        "a report of a closed connection is not heard"
    );
    bench.stop(session);
    assert_eq!(bench.word(session), "stopping");
    bench.connect(1);
    assert!(
        matches!(bench.want(1, member), Some(Want::Stop { .. })),
        "it hears when it returns"
    );
    assert_eq!(bench.word(waiting), "placed");
}

#[test]
fn a_restart_forgets_nothing_and_starts_a_new_epoch() {
    let (mut bench, session, member) = Bench::with_running(spec());
    let epoch = bench.site.row().epoch;
    let heard_in = |bench: &Bench| bench.view.nodes[&NodeId(1)].heard_in;
    assert_eq!(heard_in(&bench), 1);
    bench.restart();
    assert_eq!(heard_in(&bench), 1);
    assert_eq!(bench.site.row().epoch, epoch + 1);
    assert!(!bench.connected(1), "until its agent says hello");
    assert_eq!(bench.word(session), "running");
    bench.connect(1);
    assert_eq!(bench.want(1, member), Some(Want::Run));
    bench.report(1, &[(member, running())]);
    assert_eq!(bench.word(session), "running");
}

#[test]
fn a_report_that_was_overtaken_is_not_heard() {
    let (mut bench, session, member) = Bench::with_running(spec());
    let old = Report {
        node: NodeId(1),
        sequence: 1,
        incarnation: bench.site.row().incarnation,
        epoch: bench.site.row().epoch,
        generation: 99,
        members: vec![],
        settled: vec![],
    };
    bench.report(1, &[(member, running())]);
    bench.step(EventKind::Report {
        report: Box::new(old),
    });
    assert_eq!(bench.word(session), "running");
    assert_eq!(bench.record(session).members[0].state, running());
}

#[test]
fn a_node_of_which_nobody_heard_hello_is_not_heard() {
    let mut bench = Bench::empty();
    bench.report(9, &[(stranger(), MemberState::Preparing)]);
    assert!(bench.view.nodes.is_empty() && bench.view.unclaimed.is_empty());
}

#[test]
fn what_was_stopped_of_a_lost_future_is_removed_when_its_user_says_so() {
    let mut bench = Bench::new();
    let whole = || SessionSpec {
        slots: Slots::of(40_000, 100 * MIB),
        ..spec()
    };
    let (session, waits) = (bench.create(whole()), bench.create(whole()));
    let copy = bench.copy();
    let events = bench.events.clone();
    let member = bench.member(session, 0);
    bench.report(1, &[(member, exited(member, 0))]);
    let later = bench.member(waits, 0);
    assert_eq!(
        later.attempt, 1,
        "it runs in a future that the copy does not know"
    );
    bench.restore(copy, events);
    bench.connect(1);
    bench.stop(waits);
    let first = (member, exited(member, 0));
    bench.report(1, &[first.clone(), (later, running())]);
    assert!(matches!(bench.want(1, later), Some(Want::Stop { .. })));
    bench.report(1, &[first, (later, stopped(later))]);
    bench.remove(waits);
    assert!(matches!(bench.want(1, later), Some(Want::Purge { .. })));
}

#[test]
fn absence_counts_from_the_first_set_on_that_said_so() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let before = bench.obeyed(1);
    bench.stop(session);
    assert!(before < bench.obeyed(1));
    bench.report_obeying(1, before, &[]);
    assert_eq!(
        bench.word(session),
        "stopping",
        "it may yet begin what it was told to run"
    );
    bench.report(1, &[]);
    assert_eq!(bench.word(session), "ended");
    let (mut bench, session, _) = Bench::with_running(spec());
    let before = bench.obeyed(1);
    bench.create(spec());
    assert!(before < bench.obeyed(1), "it was told more since");
    bench.report_obeying(1, before, &[]);
    assert_eq!(bench.word(session), "ended", "it should have had the first");
}

#[test]
fn what_a_node_has_of_an_attempt_before_goes_with_its_session() {
    let (mut bench, session, member) = Bench::with_running(spec());
    let older = MemberId {
        attempt: 0,
        ..member
    };
    let old = (older, exited(older, 1));
    bench.report(1, &[(member, running()), old.clone()]);
    assert!(matches!(bench.want(1, older), Some(Want::Stop { .. })));
    bench.report(1, &[(member, exited(member, 0)), old]);
    bench.skip(crate::manager::OUTPUT_RETENTION_MS);
    bench.pass(1_000);
    for one in [member, older] {
        let want = bench.want(1, one);
        assert!(matches!(want, Some(Want::Purge { .. })), "{want:?}");
    }
    bench.report(1, &[]);
    bench.pass(1_000);
    assert!(bench.site.session(session).is_none());
}

#[test]
fn a_node_that_was_not_told_yet_to_keep_something_has_not_lost_it() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.report(1, &[(member, exited(member, 0))]);
    let ended = Box::new(bench.record(session).clone());
    let mut bench = Bench::new();
    let before = bench.obeyed(1);
    // Its row is in the store, and is read because somebody asks for it.
    let shown = ended.as_ref().clone().into();
    bench.view.sessions.insert(session, shown);
    let (session, array) = (ended, None);
    bench.step(EventKind::Recalled { session, array });
    bench.create_with(|request| request.id = SessionId(50));
    assert!(before < bench.obeyed(1), "now it is told");
    let is_kept = |bench: &Bench| {
        let record = bench.record(member.session);
        record.members[0].state != MemberState::Gone
    };
    bench.report_obeying(1, before, &[]);
    assert!(is_kept(&bench));
    bench.report(1, &[]);
    assert!(!is_kept(&bench));
}

/// A gang of two, each of which has half of the node, and a session that waits for a half.
fn with_full_node() -> (Bench, [MemberId; 2], SessionId) {
    let half = SessionSpec {
        slots: Slots::of(20_000, 10 * MIB),
        ..spec()
    };
    let mut bench = Bench::new();
    let gang = bench.create(SessionSpec {
        members: 2,
        ..half.clone()
    });
    let members = [0, 1].map(|index| bench.member(gang, index));
    bench.report(1, &members.map(|member| (member, running())));
    let waits = bench.create(half);
    assert_eq!(bench.word(waits), "pending");
    (bench, members, waits)
}

#[test]
fn what_a_member_frees_is_given_away_though_its_session_goes_on() {
    let (mut bench, [main, other], waits) = with_full_node();
    bench.report(1, &[(main, running()), (other, exited(other, 0))]);
    assert_eq!(bench.word(main.session), "running");
    assert_eq!(bench.word(waits), "placed");
    let (mut bench, [main, _], waits) = with_full_node();
    bench.report(1, &[(main, running())]);
    assert_eq!(bench.word(main.session), "stopping", "one of it was lost");
    assert_eq!(bench.word(waits), "placed");
}

#[test]
fn a_member_beyond_those_of_its_session_is_unclaimed() {
    let (mut bench, _, member) = Bench::with_running(spec());
    let beyond = MemberId {
        attempt: 0,
        index: 1,
        ..member
    };
    bench.report(1, &[(member, running()), (beyond, running())]);
    assert_eq!(bench.view.unclaimed[&NodeId(1)][0].id, beyond);
}

#[test]
fn what_was_ordered_to_end_and_is_gone_is_named_no_more() {
    let mut bench = Bench::new();
    report_stranger(&mut bench, spec());
    assert!(bench.last.desired.is_empty(), "nobody says anything of it");
    end(&mut bench, stranger(), false);
    assert!(bench.want(1, stranger()).is_some());
    bench.report(1, &[]);
    assert_eq!(bench.want(1, stranger()), None);
}
