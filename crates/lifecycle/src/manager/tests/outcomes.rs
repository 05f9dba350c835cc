//! Outcomes by what members left.

use super::bench::{Bench, exit, order, spec};
use crate::manager::outcome;
use domain::{
    Cause, ExitCause, ExitHow, ExitRecord, Intention, LimitsReached, MemberState, OomEvidence, Span,
};
use std::sync::Arc;

fn never() -> ExitHow {
    ExitHow::NeverRan {
        reason: "no root".to_owned(),
    }
}

fn check(intention: &Intention, how: ExitHow, cause: ExitCause, kills: Option<u64>) -> String {
    let (bench, session, member) = Bench::with_running(spec());
    let mut record = bench.record(session).clone();
    record.started_at = None;
    Arc::make_mut(&mut record.spec).time_limit = Some(Span(60_000));
    record.intention = intention.clone();
    let out_of_memory = kills.map(|kills| OomEvidence {
        kills,
        limit_bytes: 64 << 20,
        peak_bytes: Some(63 << 20),
        process: Some("python3".to_owned()),
        of_node: false,
    });
    let exit = ExitRecord {
        out_of_memory,
        ..exit(member, how, cause)
    };
    record.members[0].state = MemberState::Exited { record: exit };
    let outcome = outcome(&record);
    format!("{}: {outcome}", outcome.word())
}

/// The kernel ended it, and not for its own limit.
#[test]
fn a_node_that_ran_out_of_memory_is_told() {
    for (of_node, expected) in [
        (
            true,
            "its node ran out of memory: it used at most 3 MiB, its own limit of 64 MiB was not reached",
        ),
        (
            false,
            "out of memory: the limit is 64 MiB, the peak was 3 MiB",
        ),
    ] {
        let (bench, session, member) = Bench::with_running(spec());
        let mut record = bench.record(session).clone();
        let exit = ExitRecord {
            out_of_memory: Some(OomEvidence {
                kills: 1,
                limit_bytes: 64 << 20,
                peak_bytes: Some(3 << 20),
                process: None,
                of_node,
            }),
            ..exit(member, signal(9), ExitCause::Own)
        };
        record.members[0].state = MemberState::Exited { record: exit };
        let outcome = outcome(&record);
        assert_eq!(outcome.to_string(), expected);
        assert_eq!(outcome.exit_code(), 137);
    }
}

type Case = (Intention, ExitHow, ExitCause, Option<u64>, &'static str);

fn check_all(cases: Vec<Case>) {
    for (intention, how, cause, kills, expected) in cases {
        let told = format!("{how:?} {cause:?} {kills:?} under {intention:?}");
        assert_eq!(check(&intention, how, cause, kills), expected, "{told}");
    }
}

fn code(code: u8) -> ExitHow {
    ExitHow::Exited { code }
}

fn signal(signal: i32) -> ExitHow {
    let core_dumped = false;
    ExitHow::Signalled {
        signal,
        core_dumped,
    }
}

fn not_found() -> ExitHow {
    let program = "nope".to_owned();
    ExitHow::NotFound { program }
}

fn not_runnable() -> ExitHow {
    let (program, reason) = ("x".to_owned(), "no".to_owned());
    ExitHow::NotRunnable { program, reason }
}

const MEMORY: &str = "failed: out of memory: the limit is 64 MiB, the peak was 63 MiB; \
                      the kernel ended `python3`";
const UNKNOWN: ExitHow = ExitHow::Unknown;
const RUN: Intention = Intention::Run;

// A table with a case on each line.
#[rustfmt::skip]
#[test]
fn what_ends_by_itself_has_the_outcome_of_its_record() {
    use ExitCause::{DiskLimit, GuestDied, Own, PrepareFailed, StartFailed, TimeLimit};
    check_all(vec![
        (RUN, code(0), Own, None, "succeeded: the command exited with 0"),
        (RUN, code(0), Own, Some(1), "succeeded: the command exited with 0"),
        (RUN, code(7), Own, None, "failed: the command exited with 7"),
        (RUN, code(7), Own, Some(1), "failed: the command exited with 7"),
        (RUN, code(137), Own, None, "failed: the command exited with 137"),
        (RUN, code(137), Own, Some(0), "failed: the command exited with 137"),
        (RUN, code(137), Own, Some(1), MEMORY),
        (RUN, signal(9), Own, Some(2), MEMORY),
        (RUN, signal(9), Own, None, "failed: signal 9 (SIGKILL) ended the command"),
        (RUN, signal(11), Own, Some(2), "failed: signal 11 (SIGSEGV) ended the command"),
        (RUN, UNKNOWN, GuestDied, Some(1), MEMORY),
        (RUN, UNKNOWN, GuestDied, None, "failed: the guest was killed from outside"),
        (RUN, signal(15), TimeLimit, None, "expired: the time limit of 1m ended it"),
        (RUN, never(), PrepareFailed, None, "failed: preparing failed: no root"),
        (RUN, never(), StartFailed, None, "failed: starting failed: no root"),
        (RUN, never(), Own, None, "failed: starting failed: no root"),
        (RUN, UNKNOWN, StartFailed, None, "failed: starting failed: the node gave no reason"),
        (RUN, code(0), DiskLimit, None, "failed: disk limit: its node's disk was nearly full"),
        (RUN, not_found(), StartFailed, None, "failed: `nope` was not found inside"),
        (RUN, not_runnable(), Own, None, "failed: `x` could not be run: no"),
    ]);
}

// A table with a case on each line.
#[rustfmt::skip]
#[test]
fn what_was_asked_to_end_says_who_asked_unless_it_was_quicker() {
    use ExitCause::{GuestDied, Own, Stopped, TimeLimit};
    let stop = || Intention::Stop { order: order("ada") };
    let remove = || Intention::Remove { order: order("ada") };
    let fail = Intention::Fail { cause: Cause::GuestDied, order: order("insula") };
    check_all(vec![
        (stop(), UNKNOWN, GuestDied, None, "stopped: stopped by ada"),
        (stop(), UNKNOWN, GuestDied, Some(1), MEMORY),
        (stop(), signal(15), Stopped, None, "stopped: stopped by ada"),
        (stop(), signal(9), Stopped, None, "stopped: stopped by ada; SIGKILL ended it"),
        (remove(), code(0), Stopped, None, "stopped: stopped by ada"),
        (stop(), never(), Stopped, None, "cancelled: cancelled by ada before it ran"),
        (stop(), code(5), Own, None, "failed: the command exited with 5"),
        (stop(), signal(15), TimeLimit, None, "expired: the time limit of 1m ended it"),
        (fail, never(), Stopped, None, "failed: the guest was killed from outside"),
        (RUN, signal(15), Stopped, None, "stopped: stopped by insula"),
    ]);
}

#[test]
fn the_exit_code_tells_which_signal_stopped_it() {
    let (bench, session, member) = Bench::with_running(spec());
    for (how, expected) in [
        (signal(15), 143),
        (signal(9), 137),
        (signal(2), 130),
        (code(0), 143),
        (UNKNOWN, 143),
    ] {
        let mut record = bench.record(session).clone();
        record.intention = Intention::Stop {
            order: order("ada"),
        };
        let exit = exit(member, how, ExitCause::Stopped);
        record.members[0].state = MemberState::Exited { record: exit };
        assert_eq!(outcome(&record).exit_code(), expected);
    }
}

#[test]
fn what_only_the_agent_knew_is_told() {
    let (bench, session, member) = Bench::with_running(spec());
    let told = |exit: ExitRecord| {
        let mut record = bench.record(session).clone();
        record.members[0].state = MemberState::Exited { record: exit };
        outcome(&record).to_string()
    };
    let doubtful = ExitRecord {
        reason: Some("the launcher is gone".to_owned()),
        ..exit(member, UNKNOWN, ExitCause::StartFailed)
    };
    assert_eq!(told(doubtful), "starting failed: the launcher is gone");
    let incomplete = |how| ExitRecord {
        limits_reached: LimitsReached {
            files_incomplete: true,
            ..LimitsReached::default()
        }
        .if_any(),
        ..exit(member, how, ExitCause::Own)
    };
    assert_eq!(
        told(incomplete(code(0))),
        "its files may be incomplete: its node's disk had no room for all it wrote, or failed"
    );
    // The control: whoever failed by itself says so.
    assert_eq!(told(incomplete(code(3))), "the command exited with 3");
    let large = ExitRecord {
        disk_bytes: Some(3 << 30),
        stdout_bytes: 5,
        ..exit(member, signal(9), ExitCause::DiskLimit)
    };
    assert_eq!(
        told(large.clone()),
        "disk limit: its node's disk was nearly full, and it had 3 GiB there"
    );
    let told_with_limit = |limit: u64| {
        let mut record = bench.record(session).clone();
        Arc::make_mut(&mut record.spec).disk_limit = Some(limit);
        let exit = large.clone();
        record.members[0].state = MemberState::Exited { record: exit };
        outcome(&record).to_string()
    };
    assert_eq!(
        told_with_limit(2 << 30),
        "disk limit: the limit is 2 GiB, and it had 3 GiB there"
    );
    let full = told_with_limit(3 << 30);
    assert!(full.contains("nearly full"), "just its limit: {full}");
    assert_eq!(
        told_with_limit(4 << 30),
        "disk limit: its node's disk was nearly full, and it had 3 GiB there"
    );
}

#[test]
fn the_main_member_decides_unless_it_was_only_stopped() {
    let mut bench = Bench::new();
    let session = bench.create(domain::SessionSpec {
        members: 2,
        ..spec()
    });
    let [main, other] = [0, 1].map(|index| bench.member(session, index));
    for (how, cause, expected) in [
        (code(0), ExitCause::Own, "the command exited with 0"),
        (code(7), ExitCause::Own, "the command exited with 7"),
        (signal(15), ExitCause::Stopped, "the command exited with 3"),
    ] {
        let mut record = bench.record(session).clone();
        let ends = [exit(main, how, cause), exit(other, code(3), ExitCause::Own)];
        for (member, record) in record.members.iter_mut().zip(ends) {
            member.state = MemberState::Exited { record };
        }
        assert_eq!(outcome(&record).to_string(), expected);
    }
}
