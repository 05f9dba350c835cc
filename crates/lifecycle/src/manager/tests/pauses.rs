//! Pauses as the manager sees them: who may, what is told, what is shown, and when it is over.

use super::arrays::{array_request, element};
use super::bench::{Bench, exited, order, running, spec};
use crate::manager::{Answer, EventKind, Refusal, RequestToken};
use domain::{
    ArrayId, Capability, MemberId, MemberPause, MemberState, NodeId, PauseOrder, SessionId,
    SessionSpec,
};
use node_api::{Hello, Want};

const TOKEN: RequestToken = RequestToken(7);

impl Bench {
    /// Ann asks for a pause, or Bob takes it back.
    pub(super) fn hold(&mut self, session: SessionId, paused: bool) -> Answer {
        let token = TOKEN;
        let (by, at) = ("ann".to_owned(), self.now.wall);
        self.step(match paused {
            true => EventKind::Pause {
                token,
                session,
                order: PauseOrder { by, at },
            },
            false => EventKind::Resume {
                token,
                session,
                by: "bob".to_owned(),
            },
        });
        self.answer()
    }

    fn hold_array(&mut self, array: u64, paused: bool) -> Answer {
        let (token, array) = (TOKEN, ArrayId(array));
        let (by, at) = ("ann".to_owned(), self.now.wall);
        self.step(match paused {
            true => EventKind::PauseArray {
                token,
                array,
                order: PauseOrder { by, at },
            },
            false => EventKind::ResumeArray { token, array, by },
        });
        self.answer()
    }

    /// The node tells how a running member stands.
    fn tells(&mut self, member: MemberId, pause: MemberPause) {
        self.pauses.insert(member, pause);
        self.report(1, &[(member, running())]);
    }

    /// Whether node 1 is told that a member is to stand still.
    fn told_paused(&self, member: MemberId) -> bool {
        let members = &self.told[&NodeId(1)].members;
        let found = members.iter().find(|wanted| wanted.id == member);
        found.expect("it is wanted").paused
    }
}

fn failed() -> MemberPause {
    MemberPause::Failed {
        reason: "too many forks".to_owned(),
    }
}

fn refusal(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused { refusal } => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_runs_is_paused_and_goes_on() {
    let (mut bench, session, member) = Bench::with_running(spec());
    assert_eq!(bench.hold(session, true), Answer::Accepted { session });
    assert!(bench.told_paused(member));
    let record = bench.record(session);
    assert_eq!(
        record.pause.as_ref().map(|pause| pause.by.as_str()),
        Some("ann")
    );
    assert!(!record.stands_still(), "the node has not told");
    bench.tells(member, MemberPause::On);
    assert!(bench.record(session).stands_still());
    assert_eq!(bench.word(session), "running");
    assert_eq!(bench.hold(session, false), Answer::Accepted { session });
    assert!(!bench.told_paused(member));
    bench.tells(member, MemberPause::Off);
    let codes = bench.codes();
    let about: Vec<&str> = codes
        .into_iter()
        .filter(|code| code.contains("pause") || code.contains("resume"))
        .collect();
    assert_eq!(
        about,
        [
            "session.pause-asked",
            "session.paused",
            "session.resume-asked",
            "session.resumed"
        ]
    );
}

#[test]
fn both_may_be_asked_again_and_who_asked_first_is_told() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.hold(session, true);
    let since = bench.record(session).pause.clone();
    bench.pass(5_000);
    let generation = bench.told[&NodeId(1)].generation;
    assert_eq!(bench.hold(session, true), Answer::Accepted { session });
    assert_eq!(bench.record(session).pause, since);
    assert_eq!(bench.told[&NodeId(1)].generation, generation, "nothing new");
    bench.tells(member, MemberPause::On);
    bench.tells(member, MemberPause::On);
    for _ in 0..2 {
        assert_eq!(bench.hold(session, false), Answer::Accepted { session });
    }
    let asked = |code: &str| bench.codes().iter().filter(|other| **other == code).count();
    assert_eq!(asked("session.pause-asked"), 1);
    assert_eq!(asked("session.paused"), 1);
    assert_eq!(asked("session.resume-asked"), 1);
}

#[test]
fn that_it_goes_on_is_told_only_of_what_stood_still_and_was_asked_to() {
    let resumed = |bench: &Bench| bench.codes().contains(&"session.resumed");
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.hold(session, true);
    bench.tells(member, failed());
    bench.hold(session, false);
    bench.tells(member, MemberPause::Off);
    assert!(!resumed(&bench), "it never stood still");
    bench.hold(session, true);
    bench.tells(member, MemberPause::On);
    bench.tells(member, failed());
    assert!(!resumed(&bench), "it is to stand still");
    bench.tells(member, MemberPause::On);
    bench.hold(session, false);
    bench.tells(member, MemberPause::Off);
    assert!(resumed(&bench));
}

#[test]
fn only_what_runs_is_paused() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    let not_running = |state| Refusal::NotRunning { session, state };
    assert_eq!(refusal(bench.hold(session, true)), not_running("placed"));
    assert_eq!(bench.hold(session, false), Answer::Accepted { session });
    bench.report(1, &[(member, running())]);
    bench.stop(session);
    assert_eq!(refusal(bench.hold(session, true)), not_running("stopping"));
    bench.report(1, &[(member, exited(member, 0))]);
    for paused in [true, false] {
        let ended = Refusal::HasEnded { session };
        assert_eq!(refusal(bench.hold(session, paused)), ended);
        let session = SessionId(99);
        let none = Refusal::NoSuchSession { session };
        assert_eq!(refusal(bench.hold(session, paused)), none);
    }
}

#[test]
fn a_node_that_cannot_is_not_asked() {
    let no = Capability::No {
        reason: "no groups".to_owned(),
    };
    for (row, expected) in [
        (Some(no), "no groups"),
        (None, "its agent is older than pauses are"),
    ] {
        let mut bench = Bench::empty();
        let mut hello: Hello = Bench::hello(1);
        match row {
            Some(row) => hello.capabilities.insert("pause".to_owned(), row),
            None => hello.capabilities.remove("pause"),
        };
        let hello = Box::new(hello);
        bench.step(EventKind::NodeConnected { hello });
        let session = bench.create(spec());
        let member = bench.member(session, 0);
        bench.report(1, &[(member, running())]);
        let cannot = Refusal::CannotPause {
            node: "n1".to_owned(),
            reason: expected.to_owned(),
        };
        assert_eq!(refusal(bench.hold(session, true)), cannot);
        assert_eq!(bench.record(session).pause, None);
    }
}

#[test]
fn what_ends_is_not_paused_any_more() {
    for remove in [false, true] {
        let (mut bench, session, member) = Bench::with_running(spec());
        bench.hold(session, true);
        bench.tells(member, MemberPause::On);
        if remove {
            let (token, order) = (TOKEN, order("ada"));
            bench.step(EventKind::Remove {
                token,
                session,
                order,
            });
        } else {
            bench.stop(session);
        }
        assert_eq!(bench.record(session).pause, None);
        assert_ne!(bench.want(1, member), Some(Want::Run));
        assert!(!bench.told_paused(member));
        bench.tells(member, MemberPause::On);
        assert_eq!(bench.hold(session, false), Answer::Accepted { session });
    }
}

#[test]
fn a_further_attempt_begins_without_a_pause() {
    let mut bench = Bench::new();
    let session = bench.create_with(|request| request.retry = 1);
    let first = bench.member(session, 0);
    bench.report(1, &[(first, running())]);
    bench.hold(session, true);
    bench.tells(first, MemberPause::On);
    bench.report(1, &[(first, exited(first, 3))]);
    bench.pass(2_000);
    let second = bench.member(session, 0);
    assert_eq!(second.attempt, 2);
    assert!(!bench.told_paused(second));
    bench.report(1, &[(first, exited(first, 3)), (second, running())]);
    let record = bench.record(session);
    assert_eq!((record.state.word(), &record.pause), ("running", &None));
}

#[test]
fn it_holds_over_a_new_leader_and_a_lost_node() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.hold(session, true);
    bench.restart();
    bench.connect(1);
    assert!(bench.told_paused(member), "told again");
    bench.tells(member, MemberPause::On);
    bench.step(EventKind::NodeDisconnected { node: NodeId(1) });
    assert!(bench.record(session).stands_still(), "as was last told");
    assert_eq!(bench.hold(session, false), Answer::Accepted { session });
    bench.connect(1);
    assert!(!bench.told_paused(member), "told when it is back");
    // What it told before it knew is put right by its next report.
    bench.tells(member, MemberPause::On);
    assert!(!bench.record(session).stands_still());
    bench.tells(member, MemberPause::Off);
    assert!(!bench.record(session).is_held());
}

#[test]
fn a_failure_is_told_once_and_is_over_when_it_stands_still() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.hold(session, true);
    for _ in 0..3 {
        bench.tells(member, failed());
    }
    let record = bench.record(session);
    assert_eq!(record.pause_problem(), Some("too many forks"));
    assert!(!record.stands_still());
    bench.tells(member, MemberPause::On);
    assert_eq!(bench.record(session).pause_problem(), None);
    let codes = bench.codes();
    let failures = codes.iter().filter(|code| code.ends_with("pause-failed"));
    assert_eq!(failures.count(), 1);
    assert!(codes.contains(&"session.paused"));
}

#[test]
fn all_members_stand_still_or_the_session_does_not() {
    let mut bench = Bench::new();
    let session = bench.create(SessionSpec {
        members: 2,
        ..spec()
    });
    let members = [bench.member(session, 0), bench.member(session, 1)];
    let both = members.map(|member| (member, running()));
    bench.report(1, &both);
    bench.hold(session, true);
    bench.pauses.insert(members[0], MemberPause::On);
    bench.report(1, &both);
    assert!(!bench.record(session).stands_still());
    bench.pauses.insert(members[1], MemberPause::On);
    bench.report(1, &both);
    assert!(bench.record(session).stands_still());
}

#[test]
fn of_an_array_those_that_run_are_paused() {
    let mut bench = Bench::new();
    let mut request = array_request(5, 3, spec());
    request.record.throttle = Some(2);
    bench.create_array(request);
    let array = ArrayId(5);
    let none = Refusal::NoneRuns { array };
    assert_eq!(refusal(bench.hold_array(5, true)), none);
    bench.obey(|_| running());
    assert_eq!(bench.hold_array(5, true), Answer::ArrayAccepted { array });
    let paused = |bench: &Bench| -> Vec<bool> {
        let elements = bench.site.elements(array);
        elements.map(|record| record.pause.is_some()).collect()
    };
    assert_eq!(paused(&bench), [true, true, false]);
    // One of them ends, and the third begins: it was not asked to pause.
    let first = bench.member(element(5, 1), 0);
    bench.obey(|member| match member == first {
        true => exited(member, 0),
        false => running(),
    });
    bench.obey(|_| running());
    assert_eq!(bench.word(element(5, 3)), "running");
    assert_eq!(paused(&bench), [false, true, false]);
    assert_eq!(bench.hold_array(5, false), Answer::ArrayAccepted { array });
    assert_eq!(paused(&bench), [false, false, false]);
    bench.obey(|member| exited(member, 0));
    let ended = Refusal::ArrayHasEnded { array };
    assert_eq!(refusal(bench.hold_array(5, true)), ended);
    assert_eq!(refusal(bench.hold_array(5, false)), ended);
    let array = ArrayId(6);
    assert_eq!(
        refusal(bench.hold_array(6, true)),
        Refusal::NoSuchArray { array }
    );
}

#[test]
fn a_member_that_is_lost_stands_nowhere() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.hold(session, true);
    bench.tells(member, MemberPause::On);
    bench.report(1, &[(member, MemberState::Gone)]);
    let record = bench.record(session);
    assert_eq!(
        (&record.pause, &record.members[0].pause),
        (&None, &MemberPause::Off)
    );
}
