//! Records to test with.

use super::Opened;
use domain::{
    Cause, Intention, MemberId, MemberPause, MemberRecord, MemberState, Network, NodeId,
    NodeLostPolicy, Outcome, Owner, Priority, Retry, SessionId, SessionKind, SessionRecord,
    SessionSpec, SessionState, Slots, Span, StdinMode, Timestamp,
};
use lifecycle::rows::{RowChange, SiteEvent};
use std::collections::BTreeMap;

/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const NODE: NodeId = NodeId(77);

pub(crate) fn owner(user: &str) -> Owner {
    Owner {
        domain: "default".into(),
        project: "default".into(),
        user: user.into(),
    }
}

pub(crate) fn spec() -> SessionSpec {
    SessionSpec {
        image: "host".into(),
        command: vec!["true".into()],
        env: BTreeMap::new(),
        workdir: None,
        slots: Slots::default(),
        pids_limit: 4_096,
        time_limit: None,
        network: Network::None,
        mounts: Vec::new(),
        upload: None,
        merge_output: false,
        stdin: StdinMode::Null,
        terminal: None,
        follower_expected: false,
        members: 1,
        node_lost: NodeLostPolicy::Wait,
        best_effort: false,
        asked: domain::AskedLimits::ALL,
        disk_limit: None,
        imported: None,
        user: domain::CommandUser::Ordinary,
    }
}

/// A pending session of `ann`, asked for `number` seconds after the start.
pub(crate) fn pending(number: u32) -> SessionRecord {
    SessionRecord {
        id: SessionId(1_000 + u64::from(number)),
        name: format!("job-{number}").parse().expect("a name"),
        owner: owner("ann"),
        kind: SessionKind::Batch,
        array: None,
        spec: spec().into(),
        intention: Intention::Run,
        state: SessionState::Pending,
        priority: Priority::USUAL,
        pause: None,
        attempt: 0,
        members: Vec::new(),
        former: Vec::new(),
        past: Vec::new(),
        retry: Retry::default(),
        after: Vec::new(),
        epoch: 3,
        created_at: Timestamp(START + i64::from(number) * SECOND),
        started_at: None,
        ended_at: None,
    }
}

/// The same, with one running member.
pub(crate) fn running(number: u32) -> SessionRecord {
    let session = pending(number);
    let since = Timestamp(session.created_at.0 + SECOND);
    SessionRecord {
        state: SessionState::Running,
        attempt: 1,
        members: vec![MemberRecord {
            id: MemberId {
                session: session.id,
                attempt: 1,
                index: 0,
            },
            node: NODE,
            state: MemberState::Running { since },
            pause: MemberPause::Off,
        }],
        started_at: Some(since),
        ..session
    }
}

/// The same, ended `number` seconds after the start.
pub(crate) fn ended(number: u32) -> SessionRecord {
    let session = running(number);
    SessionRecord {
        state: SessionState::Ended {
            outcome: Outcome::Failed {
                cause: Cause::ExitCode { exit_code: 7 },
            },
        },
        ended_at: Some(session.created_at),
        ..session
    }
}

pub(crate) fn put(session: SessionRecord) -> RowChange {
    RowChange::PutSession {
        session: session.into(),
    }
}

pub(crate) fn event(number: u64, session: Option<SessionId>) -> RowChange {
    let at = Timestamp(START + i64::try_from(number).expect("small") * SECOND);
    RowChange::AddEvent {
        event: SiteEvent {
            number,
            at,
            project: Some("default".into()),
            session,
            array: None,
            node: None,
            code: "session.created".into(),
            message: "a session was asked for".into(),
        },
    }
}

/// Commits one change.
pub(crate) fn commit(store: &mut Opened, change: RowChange) -> u64 {
    store.commit(&[change]).expect("committed")
}

/// The length from the start to `seconds` after it.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(START + seconds * SECOND)
}

pub(crate) fn seconds(seconds: u64) -> Span {
    Span(seconds * 1_000)
}
