//! Lives of sessions as their nodes tell them.

use super::bench::{Bench, MIB, START, exited, running, spec, stopped};
use domain::{MemberId, MemberState, NodeLostPolicy, SessionSpec, Slots, Timestamp};
use node_api::Want;

#[test]
fn a_session_goes_through_every_state_and_succeeds() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    assert_eq!(bench.word(session), "placed");
    let member = bench.member(session, 0);
    assert_eq!(bench.want(1, member), Some(Want::Run));
    let stopping = MemberState::Stopping {
        since: Some(Timestamp(START + 5)),
    };
    for (state, word) in [
        (MemberState::Assigned, "placed"),
        (MemberState::Preparing, "preparing"),
        (MemberState::Starting, "starting"),
        (running(), "running"),
        (stopping, "stopping"),
        (exited(member, 0), "ended"),
    ] {
        bench.report(1, &[(member, state)]);
        assert_eq!(bench.word(session), word);
        let has_started = matches!(word, "running" | "stopping" | "ended");
        let started = has_started.then_some(Timestamp(START + 5));
        assert_eq!(bench.record(session).started_at, started, "{word}");
    }
    assert_eq!(
        bench.outcome(session),
        "succeeded: the command exited with 0"
    );
    assert_eq!(bench.record(session).started_at, Some(Timestamp(START + 5)));
    assert_eq!(
        bench.record(session).ended_at,
        Some(Timestamp(START)),
        "never in the future"
    );
    assert_eq!(
        bench.codes(),
        [
            "node.connected",
            "session.created",
            "session.placed",
            "session.preparing",
            "session.starting",
            "session.running",
            "session.stopping",
            "session.ended"
        ]
    );
    let running = bench.events.iter().find(|e| e.code == "session.running");
    let told = running.map(|event| event.message.as_str());
    assert_eq!(told, Some("session train is running on n1"));
}

#[test]
fn a_fast_session_skips_states_and_keeps_its_times() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    bench.pass(1_000);
    bench.report(1, &[(member, exited(member, 3))]);
    assert_eq!(bench.outcome(session), "failed: the command exited with 3");
    assert_eq!(bench.record(session).started_at, Some(Timestamp(START + 5)));
    assert_eq!(bench.record(session).ended_at, Some(Timestamp(START + 9)));
}

#[test]
fn states_never_lead_backwards_and_old_reports_change_nothing() {
    let (mut bench, session, member) = Bench::with_running(spec());
    for state in [
        MemberState::Preparing,
        MemberState::Assigned,
        MemberState::Starting,
    ] {
        bench.report(1, &[(member, state)]);
        assert_eq!(bench.word(session), "running");
    }
    bench.report(1, &[(member, exited(member, 0))]);
    let ended = bench.record(session).clone();
    bench.report(1, &[(member, running())]);
    bench.report(1, &[(member, exited(member, 9))]);
    assert_eq!(
        bench.record(session),
        &ended,
        "the first exit record stands"
    );
}

#[test]
fn a_session_waits_until_another_ends_in_the_same_step() {
    let mut bench = Bench::new();
    let large = SessionSpec {
        slots: Slots::of(40_000, MIB),
        ..spec()
    };
    let first = bench.create(large.clone());
    let second = bench.create(large);
    assert_eq!(
        (bench.word(first), bench.word(second)),
        ("placed", "pending")
    );
    let member = bench.member(first, 0);
    bench.report(1, &[(member, exited(member, 0))]);
    assert_eq!((bench.word(first), bench.word(second)), ("ended", "placed"));
    assert_eq!(bench.want(1, bench.member(second, 0)), Some(Want::Run));
    assert!(
        matches!(bench.want(1, member), Some(Want::Stop { .. })),
        "kept, never run again"
    );
}

#[test]
fn when_the_main_member_ends_the_others_are_stopped() {
    let mut bench = Bench::new();
    let session = bench.create(SessionSpec {
        members: 3,
        ..spec()
    });
    let members: Vec<MemberId> = (0..3).map(|index| bench.member(session, index)).collect();
    bench.report(1, &[(members[0], running()), (members[1], running())]);
    assert_eq!(bench.word(session), "preparing", "the slowest one counts");
    let all: Vec<_> = members.iter().map(|member| (*member, running())).collect();
    bench.report(1, &all);
    assert_eq!(bench.word(session), "running");
    let mut now = all.clone();
    now[1].1 = exited(members[1], 0);
    bench.report(1, &now);
    assert_eq!(
        bench.word(session),
        "running",
        "a helper may end well before the others"
    );
    now[0].1 = exited(members[0], 0);
    bench.report(1, &now);
    assert_eq!(bench.word(session), "stopping");
    assert!(matches!(bench.want(1, members[2]), Some(Want::Stop { .. })));
    now[2].1 = stopped(members[2]);
    bench.report(1, &now);
    assert_eq!(
        bench.outcome(session),
        "succeeded: the command exited with 0"
    );
}

#[test]
fn when_any_member_fails_the_whole_session_does() {
    let mut bench = Bench::new();
    let session = bench.create(SessionSpec {
        members: 2,
        ..spec()
    });
    let (main, other) = (bench.member(session, 0), bench.member(session, 1));
    bench.report(1, &[(main, running()), (other, running())]);
    bench.report(1, &[(main, running()), (other, exited(other, 4))]);
    assert_eq!(bench.word(session), "stopping");
    assert!(matches!(bench.want(1, main), Some(Want::Stop { .. })));
    bench.report(1, &[(main, stopped(main)), (other, exited(other, 4))]);
    assert_eq!(bench.outcome(session), "failed: the command exited with 4");
}

#[test]
fn a_lost_member_ends_the_session_unless_policy_says_otherwise() {
    let (mut bench, session, _) = Bench::with_running(spec());
    bench.report(1, &[]);
    assert_eq!(
        bench.outcome(session),
        "lost: its node 0000000000001 is gone"
    );
    assert!(bench.codes().contains(&"member.lost"));

    let policy = SessionSpec {
        node_lost: NodeLostPolicy::Reschedule,
        ..spec()
    };
    let (mut bench, session, first) = Bench::with_running(policy);
    for attempt in 2..=10 {
        bench.report(1, &[]);
        assert_eq!(bench.word(session), "placed");
        assert_eq!(bench.record(session).attempt, attempt);
        let member = bench.member(session, 0);
        bench.report(1, &[(member, running())]);
    }
    // A member of the first try turns up again: it is told to end, and the session is not moved.
    let member = bench.member(session, 0);
    bench.report(1, &[(first, running()), (member, running())]);
    assert!(matches!(bench.want(1, first), Some(Want::Stop { .. })));
    assert_eq!(bench.want(1, member), Some(Want::Run));
    assert_eq!(bench.word(session), "running");
    bench.report(1, &[(first, stopped(first))]);
    assert_eq!(
        bench.outcome(session),
        "lost: its node 0000000000001 is gone",
        "ten tries"
    );
}

#[test]
fn absence_before_the_node_has_obeyed_means_nothing() {
    let (mut bench, session, _) = Bench::with_running(spec());
    let told = bench.told[&domain::NodeId(1)].clone();
    bench.report_obeying(1, (told.epoch, 0), &[]);
    bench.report_obeying(1, (told.epoch - 1, 99), &[]);
    assert_eq!(bench.word(session), "running");
    bench.restart();
    bench.connect(1);
    bench.report_obeying(1, (told.epoch, told.generation), &[]);
    assert_eq!(
        bench.word(session),
        "running",
        "it has not heard the new epoch yet"
    );
    bench.report(1, &[]);
    assert_eq!(bench.word(session), "ended");
}
