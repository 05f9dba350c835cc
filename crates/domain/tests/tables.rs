//! The two tables of legal moves, walked over every pair and held against tables that were written
//! apart from the code.

use domain::session::Requeue;
use domain::{
    ExitCause, ExitHow, ExitRecord, MemberEvent, MemberId, MemberState, Outcome, SessionId,
    SessionState, Timestamp,
};

const MEMBER: MemberId = MemberId {
    session: SessionId(1),
    attempt: 1,
    index: 0,
};
const AT: Timestamp = Timestamp(5);

fn record() -> ExitRecord {
    ExitRecord {
        member: MEMBER,
        started_at: Some(AT),
        ended_at: Timestamp(9),
        how: ExitHow::Exited { code: 0 },
        cause: ExitCause::Own,
        stdout_bytes: 1,
        stderr_bytes: 2,
        out_of_memory: None,
        reason: None,
        disk_bytes: None,
        limits_reached: None,
        system: None,
    }
}

/// Every state; those with optional data twice.
fn member_states() -> Vec<MemberState> {
    vec![
        MemberState::Assigned,
        MemberState::Preparing,
        MemberState::Starting,
        MemberState::Running { since: AT },
        MemberState::Stopping { since: Some(AT) },
        MemberState::Stopping { since: None },
        MemberState::Exited { record: record() },
        MemberState::Gone,
    ]
}

fn member_events() -> Vec<MemberEvent> {
    vec![
        MemberEvent::Prepare,
        MemberEvent::Start,
        MemberEvent::Started { at: AT },
        MemberEvent::Stop,
        MemberEvent::Exit { record: record() },
        MemberEvent::Purged,
    ]
}

/// Rows are states, columns are events: prepare, start, started, stop, exit, purged. A dash is an
/// illegal move.
const MEMBER_TABLE: [(&str, [&str; 6]); 7] = [
    (
        "assigned",
        ["preparing", "-", "-", "stopping", "exited", "gone"],
    ),
    (
        "preparing",
        ["-", "starting", "-", "stopping", "exited", "-"],
    ),
    ("starting", ["-", "-", "running", "stopping", "exited", "-"]),
    ("running", ["-", "-", "-", "stopping", "exited", "-"]),
    ("stopping", ["-", "-", "-", "-", "exited", "-"]),
    ("exited", ["-", "-", "-", "-", "-", "gone"]),
    ("gone", ["-", "-", "-", "-", "-", "-"]),
];

#[test]
fn every_move_of_a_member_is_as_the_table_says() {
    let mut seen = std::collections::BTreeSet::new();
    for state in member_states() {
        let row = MEMBER_TABLE.iter().find(|(word, _)| *word == state.word());
        let (_, row) = row.expect("the table has a row for each state");
        for (event, expected) in member_events().into_iter().zip(row) {
            seen.insert((state.word(), event.word()));
            let told = format!("{} after {}", state.word(), event.word());
            match state.after(event.clone()) {
                Ok(next) => assert_eq!(next.word(), *expected, "{told}"),
                Err(error) => {
                    assert_eq!(*expected, "-", "{told}");
                    assert_eq!((error.state, error.event), (state.word(), event.word()));
                }
            }
        }
    }
    assert_eq!(seen.len(), 7 * 6, "every pair was walked");
}

#[test]
fn moves_keep_what_is_known() {
    let started = MemberState::Starting.after(MemberEvent::Started { at: AT });
    assert_eq!(started, Ok(MemberState::Running { since: AT }));
    let running = MemberState::Running { since: AT };
    let stopping = MemberState::Stopping { since: Some(AT) };
    assert_eq!(running.after(MemberEvent::Stop), Ok(stopping));
    let early = MemberState::Preparing.after(MemberEvent::Stop);
    assert_eq!(early, Ok(MemberState::Stopping { since: None }));
    let exit = MemberEvent::Exit { record: record() };
    assert_eq!(
        running.after(exit),
        Ok(MemberState::Exited { record: record() })
    );
}

#[test]
fn a_member_occupies_until_it_has_exited() {
    for state in member_states() {
        let expected = !matches!(state.word(), "exited" | "gone");
        assert_eq!(state.occupies(), expected, "{}", state.word());
    }
}

fn session_states() -> Vec<SessionState> {
    vec![
        SessionState::Pending,
        SessionState::Placed,
        SessionState::Preparing,
        SessionState::Starting,
        SessionState::Running,
        SessionState::Stopping,
        SessionState::Ended {
            outcome: Outcome::Succeeded,
        },
    ]
}

/// Rows are states, columns the next state, both in the order of [`session_states`]. `+` is legal,
/// `r` is legal for a requeue by policy only, `-` is illegal.
const SESSION_TABLE: [&str; 7] = [
    // pending placed preparing starting running stopping ended
    "-+----+", // pending
    "r-+++++", // placed
    "r--++++", // preparing
    "r---+++", // starting
    "r----++", // running
    "r-----+", // stopping
    "-------", // ended
];

#[test]
fn every_move_of_a_session_is_as_the_table_says() {
    let states = session_states();
    for (from, row) in states.iter().zip(SESSION_TABLE) {
        assert_eq!(row.len(), states.len());
        for (to, cell) in states.iter().zip(row.chars()) {
            let told = format!("{} to {}", from.word(), to.word());
            let (plain, requeue) = match cell {
                '+' => (true, true),
                'r' => (false, true),
                _ => (false, false),
            };
            assert_eq!(from.may_become(to, Requeue::No), plain, "{told}");
            assert_eq!(
                from.may_become(to, Requeue::ByPolicy),
                requeue,
                "{told} by policy"
            );
        }
    }
}

#[test]
fn what_has_ended_never_moves_again() {
    let lost = Outcome::Cancelled {
        by: "ada".to_owned(),
        dependency: None,
    };
    let ended = SessionState::Ended { outcome: lost };
    for next in session_states() {
        assert!(
            !ended.may_become(&next, Requeue::ByPolicy),
            "{}",
            next.word()
        );
    }
    assert!(!ended.is_living());
    assert_eq!(
        session_states()
            .iter()
            .filter(|state| state.is_living())
            .count(),
        6
    );
}
