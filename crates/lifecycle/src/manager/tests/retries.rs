//! Further attempts: which ends are followed by one, when it begins, and what is kept.

use super::bench::{Bench, exit, exited, running, spec, stopped};
use crate::manager::{
    Answer, CreateRequest, EventKind, RETRY_PAUSE_LIMIT_MS, RETRY_PAUSE_MS, Refusal, RequestToken,
    retry_pause_ms,
};
use domain::{
    ExitCause, ExitHow, ExitRecord, MemberId, MemberState, NodeLostPolicy, OomEvidence, Outcome,
    SessionId, SessionSpec,
};

impl Bench {
    pub(super) fn create_with(&mut self, change: impl FnOnce(&mut CreateRequest)) -> SessionId {
        let mut request = self.request(spec());
        change(&mut request);
        match self.create_request(request) {
            Answer::Created { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }
}

fn with_retries(retry: u32) -> (Bench, SessionId) {
    let mut bench = Bench::new();
    let session = bench.create_with(|request| request.retry = retry);
    (bench, session)
}

/// The session's current attempt ends.
fn ends(bench: &mut Bench, session: SessionId, how: impl FnOnce(MemberId) -> MemberState) {
    let member = bench.member(session, 0);
    let kept = bench
        .record(session)
        .former
        .iter()
        .map(|member| member.id)
        .collect();
    bench.report_settled(1, bench.obeyed(1), &[(member, how(member))], kept);
}

#[test]
fn a_failed_attempt_is_followed_by_another_after_a_pause_that_doubles() {
    let (mut bench, session) = with_retries(2);
    for (attempt, pause) in [(1, 1_000), (2, 2_000)] {
        assert_eq!(bench.record(session).attempt, attempt);
        ends(&mut bench, session, |member| exited(member, 3));
        assert_eq!(bench.word(session), "pending");
        assert!(bench.last.desired.is_empty(), "that it is kept can wait");
        bench.pass(pause - 1_000);
        assert_eq!(bench.word(session), "pending", "the pause is not over");
        bench.pass(1_000);
        assert_eq!(bench.word(session), "placed");
    }
    let record = bench.record(session);
    assert_eq!((record.attempt, record.retry.used), (3, 2));
    let past: Vec<u32> = record.past.iter().map(|past| past.attempt).collect();
    assert_eq!(past, [1, 2]);
    assert_eq!(record.former.len(), 2, "their files are kept");
    ends(&mut bench, session, |member| exited(member, 4));
    assert_eq!(bench.outcome(session), "failed: the command exited with 4");
    let wants: Vec<MemberId> = bench.record(session).all_members().map(|m| m.id).collect();
    bench.remove(session);
    for member in wants {
        let want = bench.want(1, member).expect("it is told of");
        assert!(matches!(want, node_api::Want::Purge { .. }), "{member}");
    }
    bench.report(1, &[]);
    assert!(bench.view.sessions.is_empty());
}

#[test]
fn an_attempt_that_succeeds_is_the_last() {
    let (mut bench, session) = with_retries(5);
    ends(&mut bench, session, |member| exited(member, 1));
    bench.pass(1_000);
    ends(&mut bench, session, |member| exited(member, 0));
    assert_eq!(
        bench.outcome(session),
        "succeeded: the command exited with 0"
    );
    assert_eq!(bench.record(session).retry.used, 1);
}

fn ended_by(how: ExitHow, cause: ExitCause) -> impl Fn(MemberId) -> ExitRecord {
    move |member| exit(member, how.clone(), cause)
}

fn out_of_memory(member: MemberId) -> ExitRecord {
    ExitRecord {
        out_of_memory: Some(OomEvidence {
            kills: 1,
            limit_bytes: 1,
            peak_bytes: None,
            process: None,
            of_node: false,
        }),
        ..exit(member, ExitHow::Exited { code: 137 }, ExitCause::Own)
    }
}

#[test]
fn only_failures_are_tried_again() {
    let code = |code| ExitHow::Exited { code };
    let signal = ExitHow::Signalled {
        signal: 9,
        core_dumped: false,
    };
    let not_found = ExitHow::NotFound {
        program: "x".to_owned(),
    };
    let never = ExitHow::NeverRan {
        reason: "no".to_owned(),
    };
    type Ends = Box<dyn Fn(MemberId) -> ExitRecord>;
    let cases: Vec<(&str, Ends, bool)> = vec![
        ("code", Box::new(ended_by(code(1), ExitCause::Own)), true),
        (
            "signal",
            Box::new(ended_by(signal.clone(), ExitCause::Own)),
            true,
        ),
        ("memory", Box::new(out_of_memory), true),
        (
            "prepare",
            Box::new(ended_by(never.clone(), ExitCause::PrepareFailed)),
            true,
        ),
        (
            "start",
            Box::new(ended_by(never, ExitCause::StartFailed)),
            true,
        ),
        (
            "guest",
            Box::new(ended_by(ExitHow::Unknown, ExitCause::GuestDied)),
            true,
        ),
        (
            "success",
            Box::new(ended_by(code(0), ExitCause::Own)),
            false,
        ),
        (
            "time",
            Box::new(ended_by(signal.clone(), ExitCause::TimeLimit)),
            false,
        ),
        (
            "disk",
            Box::new(ended_by(signal, ExitCause::DiskLimit)),
            false,
        ),
        (
            "not found",
            Box::new(ended_by(not_found, ExitCause::Own)),
            false,
        ),
    ];
    for (name, record, again) in cases {
        let (mut bench, session) = with_retries(1);
        ends(&mut bench, session, |member| MemberState::Exited {
            record: record(member),
        });
        let expect = if again { "pending" } else { "ended" };
        assert_eq!(bench.word(session), expect, "{name}");
    }
}

#[test]
fn what_was_asked_to_end_is_not_tried_again() {
    let (mut bench, session) = with_retries(3);
    ends(&mut bench, session, |_| running());
    bench.stop(session);
    ends(&mut bench, session, stopped);
    assert_eq!(bench.outcome(session), "stopped: stopped by ada");
    // Nor where it was quicker to fail.
    let (mut bench, session) = with_retries(3);
    ends(&mut bench, session, |_| running());
    bench.stop(session);
    ends(&mut bench, session, |member| exited(member, 5));
    assert_eq!(bench.outcome(session), "failed: the command exited with 5");
    // Nor while it waits for its next attempt; it has run, so it was stopped.
    let (mut bench, session) = with_retries(3);
    ends(&mut bench, session, |member| exited(member, 1));
    bench.stop(session);
    assert_eq!(bench.outcome(session), "stopped: stopped by ada");
    let (mut bench, session) = with_retries(3);
    let reason = "no room".to_owned();
    let never = ended_by(ExitHow::NeverRan { reason }, ExitCause::PrepareFailed);
    ends(&mut bench, session, |member| MemberState::Exited {
        record: never(member),
    });
    bench.stop(session);
    assert_eq!(
        bench.outcome(session),
        "cancelled: cancelled by ada before it ran"
    );
    let (mut bench, session) = with_retries(3);
    ends(&mut bench, session, |member| exited(member, 1));
    bench.remove(session);
    bench.report(1, &[]);
    assert!(bench.view.sessions.is_empty());
}

#[test]
fn an_interrupted_attempt_is_the_last_but_for_a_lost_node() {
    let interrupt = |bench: &mut Bench, session| {
        let token = RequestToken(1);
        bench.step(EventKind::EndRetries { token, session });
        bench.answer()
    };
    let signalled = |member| {
        let signal = ExitHow::Signalled {
            signal: 2,
            core_dumped: false,
        };
        MemberState::Exited {
            record: exit(member, signal, ExitCause::Own),
        }
    };
    for (interrupted, state) in [(true, "ended"), (false, "pending")] {
        let (mut bench, session) = with_retries(3);
        ends(&mut bench, session, |_| running());
        if interrupted {
            let accepted = Answer::Accepted { session };
            assert_eq!(interrupt(&mut bench, session), accepted);
            assert_eq!(interrupt(&mut bench, session), accepted, "once more");
            bench.restart();
            bench.connect(1);
        }
        ends(&mut bench, session, signalled);
        assert_eq!(bench.word(session), state);
        let codes = bench.codes();
        let noted = codes.iter().filter(|code| **code == "session.last-attempt");
        assert_eq!(noted.count(), usize::from(interrupted), "told once");
    }
    let (mut bench, session) = with_retries(0);
    ends(&mut bench, session, |member| exited(member, 0));
    let refusal = Refusal::HasEnded { session };
    assert_eq!(interrupt(&mut bench, session), Answer::Refused { refusal });
}

#[test]
fn a_pause_survives_a_restart_and_a_clock_that_is_set_back() {
    let (mut bench, session) = with_retries(1);
    ends(&mut bench, session, |member| exited(member, 1));
    bench.restart();
    bench.connect(1);
    let former = bench.record(session).former[0].id;
    bench.report_settled(1, bench.obeyed(1), &[], vec![former]);
    assert_eq!(bench.word(session), "pending");
    bench.now.wall.0 -= 3_600_000_000;
    bench.pass(1_000);
    assert_eq!(
        bench.word(session),
        "placed",
        "it does not wait for an hour"
    );
}

#[test]
fn a_lost_attempt_uses_up_a_retry_unless_the_policy_reschedules_it() {
    for (node_lost, used) in [(NodeLostPolicy::Wait, 1), (NodeLostPolicy::Reschedule, 0)] {
        let mut bench = Bench::new();
        let session = bench.create_with(|request| {
            request.retry = 1;
            request.spec = SessionSpec {
                node_lost,
                ..spec()
            };
        });
        ends(&mut bench, session, |_| running());
        bench.report(1, &[]);
        bench.pass(1_000);
        let record = bench.record(session);
        assert_eq!(
            (record.attempt, record.retry.used),
            (2, used),
            "{node_lost:?}"
        );
        assert!(matches!(record.past[0].outcome, Outcome::Lost { .. }));
    }
}

#[test]
fn files_of_earlier_attempts_go_with_the_retention() {
    let (mut bench, session) = with_retries(1);
    ends(&mut bench, session, |member| exited(member, 1));
    bench.pass(1_000);
    ends(&mut bench, session, |member| exited(member, 1));
    let all: Vec<MemberId> = bench.record(session).all_members().map(|m| m.id).collect();
    assert_eq!(all.len(), 2);
    bench.skip(crate::manager::OUTPUT_RETENTION_MS);
    bench.pass(1_000);
    for member in all {
        let want = bench.want(1, member).expect("it is told of");
        assert!(matches!(want, node_api::Want::Purge { .. }), "{member}");
    }
    bench.report(1, &[]);
    bench.pass(1_000);
    assert!(
        bench.site.session(session).is_none(),
        "memory has forgotten it"
    );
}

#[test]
fn the_pause_is_bounded() {
    assert_eq!(retry_pause_ms(0), RETRY_PAUSE_MS);
    assert_eq!(retry_pause_ms(5), 32_000);
    for used in [6, 7, 31, 32, 63, 64, u32::MAX] {
        assert_eq!(retry_pause_ms(used), RETRY_PAUSE_LIMIT_MS, "{used}");
    }
}
