//! Stopping, cancelling and removing, in every state.

use super::bench::{Bench, MIB, exit, exited, order, running, spec, stopped};
use crate::manager::{Answer, EventKind, Refusal, RequestToken};
use domain::{
    ExitCause, ExitHow, ExitRecord, Intention, MemberId, MemberState, SessionId, SessionRecord,
    SessionSpec, Slots, StopOrder, Timestamp, UploadId,
};
use node_api::Want;

fn never_ran(member: MemberId) -> MemberState {
    let how = ExitHow::NeverRan {
        reason: "stopped before it ran".to_owned(),
    };
    MemberState::Exited {
        record: exit(member, how, ExitCause::Stopped),
    }
}

#[test]
fn a_pending_session_is_cancelled_at_once() {
    let mut bench = Bench::empty();
    let session = bench.create(spec());
    assert_eq!(bench.word(session), "pending");
    bench.stop(session);
    assert_eq!(
        bench.outcome(session),
        "cancelled: cancelled by ada before it ran"
    );
}

#[test]
fn a_session_is_stopped_in_every_state() {
    for (state, ran) in [
        (None, false),
        (Some(MemberState::Preparing), false),
        (Some(MemberState::Starting), false),
        (Some(running()), true),
    ] {
        let mut bench = Bench::new();
        let session = bench.create(spec());
        let member = bench.member(session, 0);
        if let Some(state) = state.clone() {
            bench.report(1, &[(member, state)]);
        }
        bench.stop(session);
        assert_eq!(bench.word(session), "stopping", "{state:?}");
        assert_eq!(
            bench.want(1, member),
            Some(Want::Stop {
                signal: 15,
                grace_ms: 10_000
            })
        );
        let end = if ran {
            stopped(member)
        } else {
            never_ran(member)
        };
        bench.report(1, &[(member, end)]);
        let expected = if ran {
            "stopped: stopped by ada"
        } else {
            "cancelled: cancelled by ada before it ran"
        };
        assert_eq!(bench.outcome(session), expected);
        bench.stop(session);
        let refusal = Refusal::HasEnded { session };
        assert_eq!(bench.answer(), Answer::Refused { refusal });
    }
}

#[test]
fn a_member_that_a_node_never_began_may_be_absent_once_it_was_told_to_stop() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    bench.report(1, &[]);
    assert_eq!(bench.word(session), "placed", "it may be about to begin");
    bench.stop(session);
    bench.report(1, &[]);
    assert_eq!(
        bench.outcome(session),
        "cancelled: cancelled by ada before it ran"
    );
}

#[test]
fn a_second_stop_only_makes_it_quicker() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.stop(session);
    let token = RequestToken(1);
    let kill = StopOrder {
        signal: 9,
        grace_ms: 0,
        ..order("eve")
    };
    bench.step(EventKind::Stop {
        token,
        session,
        order: kill,
    });
    assert_eq!(
        bench.want(1, member),
        Some(Want::Stop {
            signal: 9,
            grace_ms: 0
        })
    );
    bench.stop(session);
    assert_eq!(
        bench.want(1, member),
        Some(Want::Stop {
            signal: 9,
            grace_ms: 0
        })
    );
    bench.report(1, &[(member, stopped(member))]);
    assert_eq!(
        bench.outcome(session),
        "stopped: stopped by ada",
        "who asked first"
    );
}

#[test]
fn a_command_that_ends_by_itself_in_the_meantime_has_its_own_outcome() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.stop(session);
    bench.report(1, &[(member, exited(member, 0))]);
    assert_eq!(
        bench.outcome(session),
        "succeeded: the command exited with 0"
    );
}

#[test]
fn removal_waits_until_the_node_has_nothing_left() {
    for gone_is_reported in [true, false] {
        let (mut bench, session, member) = Bench::with_running(spec());
        bench.remove(session);
        assert_eq!(
            bench.want(1, member),
            Some(Want::Purge {
                signal: 15,
                grace_ms: 10_000
            })
        );
        assert_eq!(bench.word(session), "stopping");
        bench.report(1, &[(member, stopped(member))]);
        assert_eq!(bench.outcome(session), "stopped: stopped by ada");
        bench.restart();
        bench.connect(1);
        assert!(
            matches!(bench.want(1, member), Some(Want::Purge { .. })),
            "not forgotten"
        );
        let left = if gone_is_reported {
            vec![(member, MemberState::Gone)]
        } else {
            vec![]
        };
        bench.report(1, &left);
        assert!(bench.site.session(session).is_none());
        assert_eq!(bench.codes().last(), Some(&"session.removed"));
        bench.remove(session);
        let refusal = Refusal::NoSuchSession { session };
        assert_eq!(bench.answer(), Answer::Refused { refusal });
    }
}

#[test]
fn a_session_of_which_no_node_has_anything_is_removed_at_once() {
    let mut bench = Bench::empty();
    let session = bench.create(spec());
    bench.remove(session);
    assert!(bench.site.session(session).is_none());
    assert!(matches!(bench.answer(), Answer::Accepted { .. }));
}

#[test]
fn removal_waits_for_members_of_older_tries_too() {
    let policy = SessionSpec {
        node_lost: domain::NodeLostPolicy::Reschedule,
        ..spec()
    };
    let (mut bench, session, first) = Bench::with_running(policy);
    bench.report(1, &[]);
    let second = bench.member(session, 0);
    bench.report(1, &[(first, stopped(first)), (second, running())]);
    bench.remove(session);
    assert!(matches!(bench.want(1, first), Some(Want::Purge { .. })));
    bench.report(1, &[(first, stopped(first))]);
    assert_eq!(bench.word(session), "ended");
    bench.report(1, &[]);
    assert!(bench.site.session(session).is_none());
}

#[test]
fn a_recalled_session_can_be_removed() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    bench.report(1, &[(member, exited(member, 0))]);
    let mut old = bench.record(session).clone();
    old.id = SessionId(999);
    old.intention = Intention::Run;
    old.members[0].id.session = old.id;
    old.members[0].state = MemberState::Gone;
    let event = |kind| crate::manager::Event {
        now: bench.now,
        kind,
    };
    let events = vec![
        event(EventKind::Recalled {
            session: Box::new(old.clone()),
            array: None,
        }),
        event(EventKind::Remove {
            token: RequestToken(5),
            session: old.id,
            order: order("ada"),
        }),
    ];
    let effects = bench.site.step_batch(events);
    assert!(effects.rows.iter().any(|row| matches!(
        row,
        crate::rows::RowChange::DeleteSession { session } if *session == old.id
    )));
}

#[test]
fn one_that_is_in_memory_is_not_recalled() {
    let (mut bench, session, member) = Bench::with_running(spec());
    let recall = |bench: &mut Bench, record: &SessionRecord| {
        bench.step(EventKind::Recalled {
            session: Box::new(record.clone()),
            array: None,
        });
    };
    let mut early = bench.record(session).clone();
    recall(&mut bench, &early);
    assert_eq!(bench.word(session), "running");
    bench.report(1, &[(member, exited(member, 0))]);
    let ended = bench.record(session).clone();
    bench.remove(session);
    recall(&mut bench, &ended);
    let intention = &bench.record(session).intention;
    assert!(
        matches!(intention, Intention::Remove { .. }),
        "{intention:?}"
    );
    // Nor does one that lives come from the history.
    early.id = SessionId(999);
    early.members[0].id.session = early.id;
    recall(&mut bench, &early);
    assert!(bench.site.session(early.id).is_none());
}

#[test]
fn an_upload_is_unneeded_once_no_living_session_names_it() {
    let mut bench = Bench::new();
    let named = SessionSpec {
        upload: Some(UploadId(5)),
        slots: Slots::of(10_000, MIB),
        ..spec()
    };
    let (one, two) = (bench.create(named.clone()), bench.create(named));
    let (first, second) = (bench.member(one, 0), bench.member(two, 0));
    bench.report(1, &[(first, exited(first, 0)), (second, running())]);
    assert!(bench.last.unneeded_uploads.is_empty());
    bench.report(1, &[(first, exited(first, 0)), (second, exited(second, 0))]);
    assert_eq!(bench.last.unneeded_uploads, [UploadId(5)]);
}

/// Found by the simulation: a node whose clock was weeks behind made its sessions' files go at once.
#[test]
fn a_nodes_clock_that_is_years_behind_costs_no_session_its_files() {
    for (years, is_believed) in [(0, true), (20, false)] {
        let mut bench = Bench::new();
        let session = bench.create(spec());
        let member = bench.member(session, 0);
        bench.report(1, &[(member, running())]);
        bench.pass(60_000);
        let created = bench.view.sessions[&session].created_at.0;
        let ended = Timestamp(created + 9_000_000 - years * 31_536_000_000_000);
        let how = ExitHow::Exited { code: 0 };
        let record = ExitRecord {
            ended_at: ended,
            ..exit(member, how, ExitCause::Own)
        };
        bench.report(1, &[(member, MemberState::Exited { record })]);
        let shown = bench.view.sessions[&session].ended_at;
        let expected = if is_believed { ended } else { bench.now.wall };
        assert_eq!(shown, Some(expected));
        bench.pass(1_000);
        let want = bench.want(1, member);
        assert!(!matches!(want, Some(Want::Purge { .. })), "{want:?}");
        assert!(bench.view.sessions.contains_key(&session), "and in memory");
    }
}
