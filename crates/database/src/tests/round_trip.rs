//! What is put is what is loaded, for every field and every variant.

use super::Place;
use super::sample::{self, commit, ended, pending, put, running};
use domain::{
    ArrayId, Cause, CommandUser, Dependency, DependencyState, DependencyTarget, Digest, ExitCause,
    ExitHow, ExitRecord, FailedDependency, ImageId, ImportedImage, Intention, LimitsReached,
    MemberId, MemberPause, MemberRecord, MemberState, Mount, Need, Network, NodeId, NodeLostPolicy,
    OomEvidence, Outcome, PastAttempt, Retry, SessionId, SessionKind, SessionRecord, SessionSpec,
    SessionState, SlotName, Slots, Span, StdinMode, StopOrder, Timestamp, UploadId,
};
use lifecycle::rows::RowChange;

const ALWAYS: Timestamp = Timestamp(0);

pub(super) fn rich_spec() -> SessionSpec {
    SessionSpec {
        image: "host".into(),
        command: vec!["sh".into(), "-c".into(), "echo 'ü\u{1f600}\u{0}'".into()],
        env: [("A".into(), "1".into()), ("B".into(), String::new())].into(),
        workdir: Some("/work/deep".into()),
        slots: Slots([(SlotName::cpu(), 5_000), (SlotName::memory(), u64::MAX)].into()),
        pids_limit: 17,
        time_limit: Some(Span(u64::MAX)),
        network: Network::Host,
        mounts: vec![Mount {
            source: "/a".into(),
            target: "/b".into(),
            read_only: true,
        }],
        upload: Some(UploadId(u64::MAX)),
        merge_output: true,
        stdin: StdinMode::Pipe,
        terminal: Some(domain::TerminalSize {
            columns: 80,
            rows: 24,
        }),
        follower_expected: true,
        members: 3,
        node_lost: NodeLostPolicy::Reschedule,
        best_effort: true,
        asked: domain::AskedLimits::ALL,
        disk_limit: Some(3 << 30),
        imported: Some(ImportedImage {
            id: ImageId(Digest([7; 32])),
            architecture: "amd64".into(),
        }),
        user: CommandUser::Named {
            name: "ann:staff".into(),
            asked: true,
        },
    }
}

fn causes() -> Vec<Cause> {
    let (program, reason) = ("x".to_owned(), "because".to_owned());
    vec![
        Cause::ExitCode { exit_code: 255 },
        Cause::Signal {
            signal: 11,
            core_dumped: true,
        },
        Cause::OutOfMemory {
            limit_bytes: 1,
            peak_bytes: Some(2),
            process: Some(program.clone()),
        },
        Cause::NodeOutOfMemory {
            limit_bytes: 3,
            peak_bytes: Some(2),
        },
        Cause::CommandNotFound {
            program: program.clone(),
        },
        Cause::CommandNotRunnable {
            program,
            reason: reason.clone(),
        },
        Cause::PrepareFailed {
            reason: reason.clone(),
        },
        Cause::StartFailed { reason },
        Cause::DeadlineMissed {
            state: "placed".into(),
            after: Span(9),
        },
        Cause::GuestDied,
        Cause::FilesIncomplete,
        Cause::DiskLimit {
            used_bytes: Some(10),
            limit_bytes: Some(9),
        },
        Cause::DiskLimit {
            used_bytes: None,
            limit_bytes: None,
        },
    ]
}

fn states() -> Vec<SessionState> {
    let mut outcomes = vec![
        Outcome::Succeeded,
        Outcome::Stopped {
            by: "ann".into(),
            signal: None,
        },
        Outcome::Stopped {
            by: "ann".into(),
            signal: Some(9),
        },
        Outcome::Cancelled {
            by: "bob".into(),
            dependency: None,
        },
        Outcome::Cancelled {
            by: "insula".into(),
            dependency: Some(FailedDependency {
                name: "fit.7".into(),
                outcome: "failed".into(),
            }),
        },
        Outcome::Expired { limit: Span(5) },
        Outcome::Lost { node: NodeId(3) },
    ];
    outcomes.extend(causes().into_iter().map(|cause| Outcome::Failed { cause }));
    let mut states = vec![
        SessionState::Pending,
        SessionState::Placed,
        SessionState::Preparing,
        SessionState::Starting,
        SessionState::Running,
        SessionState::Stopping,
    ];
    states.extend(
        outcomes
            .into_iter()
            .map(|outcome| SessionState::Ended { outcome }),
    );
    states
}

fn intentions() -> Vec<Intention> {
    let order = StopOrder {
        by: "ann".into(),
        signal: 15,
        grace_ms: 10_000,
        at: Timestamp(-4),
    };
    vec![
        Intention::Run,
        Intention::Stop {
            order: order.clone(),
        },
        Intention::Fail {
            cause: Cause::GuestDied,
            order: order.clone(),
        },
        Intention::Remove { order },
    ]
}

fn evidence() -> OomEvidence {
    OomEvidence {
        kills: 1,
        limit_bytes: 2,
        peak_bytes: None,
        process: Some("python3".into()),
        of_node: false,
    }
}

fn member_states(member: MemberId) -> Vec<MemberState> {
    let hows = [
        ExitHow::Exited { code: 7 },
        ExitHow::Signalled {
            signal: 9,
            core_dumped: false,
        },
        ExitHow::NotFound {
            program: "x".into(),
        },
        ExitHow::NotRunnable {
            program: "x".into(),
            reason: "no".into(),
        },
        ExitHow::NeverRan {
            reason: "why".into(),
        },
        ExitHow::Unknown,
    ];
    let causes = [
        ExitCause::Own,
        ExitCause::Stopped,
        ExitCause::TimeLimit,
        ExitCause::PrepareFailed,
        ExitCause::StartFailed,
        ExitCause::DiskLimit,
        ExitCause::GuestDied,
    ];
    let mut states = vec![
        MemberState::Assigned,
        MemberState::Preparing,
        MemberState::Starting,
        MemberState::Running {
            since: Timestamp(1),
        },
        MemberState::Stopping { since: None },
        MemberState::Stopping {
            since: Some(Timestamp(2)),
        },
        MemberState::Gone,
    ];
    for (place, cause) in causes.into_iter().enumerate() {
        let some = place % 2 == 0;
        let record = ExitRecord {
            member,
            started_at: some.then_some(Timestamp(3)),
            ended_at: Timestamp(4),
            how: hows[place % hows.len()].clone(),
            cause,
            stdout_bytes: u64::MAX,
            stderr_bytes: 0,
            out_of_memory: some.then(evidence),
            reason: some.then(|| "the launcher is gone".into()),
            disk_bytes: some.then_some(u64::MAX),
            limits_reached: some.then(|| {
                Box::new(LimitsReached {
                    pids_hits: 1,
                    stdout_dropped_bytes: 2,
                    stderr_dropped_bytes: 3,
                    tmp_full_bytes: Some(4),
                    shm_full_bytes: None,
                    files_incomplete: true,
                })
            }),
            system: some.then(|| "Debian GNU/Linux 12 (bookworm), python3.11".into()),
        };
        states.push(MemberState::Exited { record });
    }
    states
}

fn former(session: SessionId) -> Vec<MemberRecord> {
    let member = |attempt, index, state| MemberRecord {
        id: MemberId {
            session,
            attempt,
            index,
        },
        node: NodeId(8),
        state,
        pause: MemberPause::Off,
    };
    let id = MemberId {
        session,
        attempt: 1,
        index: 1,
    };
    let ended = member_states(id).pop().expect("one at least");
    vec![
        member(1, 0, MemberState::Gone),
        member(1, 1, ended),
        member(2, 0, MemberState::Gone),
    ]
}

fn past() -> Vec<PastAttempt> {
    let past = |attempt, outcome, started_at| PastAttempt {
        attempt,
        node: NodeId(8),
        outcome,
        started_at,
        ended_at: Timestamp(9),
    };
    let failed = Outcome::Failed {
        cause: Cause::ExitCode { exit_code: 3 },
    };
    vec![
        past(1, failed, Some(Timestamp(7))),
        past(2, Outcome::Lost { node: NodeId(8) }, None),
    ]
}

fn retry() -> Retry {
    Retry {
        limit: 5,
        used: 2,
        at: Some(Timestamp(11)),
    }
}

fn after() -> Vec<Dependency> {
    let on = |on, need, state| Dependency {
        on,
        name: "fit".into(),
        need,
        state,
    };
    let failed = DependencyState::Failed {
        name: "fit.7".into(),
        outcome: "failed".into(),
    };
    vec![
        on(
            DependencyTarget::Session(SessionId(1)),
            Need::Succeeded,
            DependencyState::Waiting,
        ),
        on(
            DependencyTarget::Array(ArrayId(2)),
            Need::Ended,
            DependencyState::Met { at: Timestamp(-1) },
        ),
        on(DependencyTarget::Array(ArrayId(3)), Need::Succeeded, failed),
    ]
}

pub(crate) fn a_row_of_before_arrays_and_attempts_is_read(place: &dyn Place) {
    let mut store = place.open();
    let session = SessionRecord {
        epoch: 0,
        ..running(1)
    };
    commit(&mut store, put(session.clone()));
    let old = r#"{"intention":{"want":"run"},"state":{"state":"running"}}"#;
    store.change(&format!("UPDATE sessions SET record = '{old}'"));
    let found = store.session(session.id).expect("read");
    assert_eq!(found, Some(session));
}

pub(crate) fn every_session_comes_back_as_it_was_put(place: &dyn Place) {
    let mut store = place.open();
    let mut sessions: Vec<SessionRecord> = Vec::new();
    let kinds = [
        SessionKind::Interactive,
        SessionKind::Batch,
        SessionKind::Service,
    ];
    for (number, state) in (1..).zip(states()) {
        for intention in intentions() {
            let place = sessions.len();
            let number = number * 100 + u32::try_from(place).expect("small");
            let mut session = running(number);
            session.id = SessionId(u64::MAX - u64::from(number));
            session.members[0].id.session = session.id;
            session.kind = kinds[place % 3];
            session.array = place.is_multiple_of(2).then_some((ArrayId(9), number));
            session.spec = if place.is_multiple_of(2) {
                rich_spec().into()
            } else {
                sample::spec().into()
            };
            if place % 2 == 1 {
                session.former = former(session.id);
                session.past = past();
                session.retry = retry();
                session.after = after();
                session.attempt = 3;
                session.members[0].id.attempt = 3;
            }
            session.ended_at = (!state.is_living()).then_some(Timestamp(5));
            session.state = state.clone();
            session.intention = intention;
            sessions.push(session);
        }
    }
    let batch: Vec<RowChange> = sessions.iter().cloned().map(put).collect();
    assert_eq!(store.commit(&batch).expect("committed"), 1);
    for session in &sessions {
        assert_eq!(
            store.session(session.id).expect("read").as_ref(),
            Some(session)
        );
    }
    drop(store);
    sessions.sort_by_key(|session| session.id);
    let loaded = place.open().load(ALWAYS, ALWAYS).expect("loaded");
    assert_eq!(loaded.sessions, sessions);
}

pub(crate) fn every_member_comes_back_also_those_of_former_attempts(place: &dyn Place) {
    let mut store = place.open();
    let mut session = running(1);
    let id = |attempt, index| MemberId {
        session: session.id,
        attempt,
        index,
    };
    let member = |id, state| MemberRecord {
        id,
        node: NodeId(8),
        state,
        pause: MemberPause::Off,
    };
    session.members = (0..)
        .zip(member_states(id(1, 0)))
        .map(|(index, state)| member(id(1, index), state))
        .collect();
    commit(&mut store, put(session.clone()));
    assert_eq!(
        store.session(session.id).expect("read").as_ref(),
        Some(&session)
    );
    // A second attempt: none at first, then fewer.
    session.former = std::mem::take(&mut session.members);
    let second = member(id(2, 0), MemberState::Assigned);
    for members in [Vec::new(), vec![second]] {
        session.attempt = 2;
        session.members = members;
        session.former[0].state = MemberState::Gone;
        commit(&mut store, put(session.clone()));
        assert_eq!(
            store.session(session.id).expect("read").as_ref(),
            Some(&session)
        );
    }
}

pub(crate) fn what_ended_long_ago_is_not_loaded_unless_it_is_being_removed(place: &dyn Place) {
    let mut store = place.open();
    let order = StopOrder {
        by: "ann".into(),
        signal: 15,
        grace_ms: 0,
        at: Timestamp(0),
    };
    let removing = SessionRecord {
        intention: Intention::Remove { order },
        ..ended(2)
    };
    let all = [ended(1), removing, ended(3), pending(0)];
    store.commit(&all.map(put)).expect("committed");
    let loaded = store.load(sample::at(3), ALWAYS).expect("loaded");
    let names: Vec<&str> = loaded
        .sessions
        .iter()
        .map(|session| session.name.as_str())
        .collect();
    assert_eq!(names, ["job-0", "job-2", "job-3"]);
}
