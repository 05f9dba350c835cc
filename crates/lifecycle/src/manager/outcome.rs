//! How a session ended, by what its members left.

use domain::{
    Cause, ExitCause, ExitHow, ExitRecord, Intention, MemberRecord, MemberState, OomEvidence,
    Outcome, SessionRecord, Span,
};

/// Who ends the members of a session that nobody asked to end, for example because its main member
/// has ended.
pub(super) const BY_INSULA: &str = "insula";
const SIGKILL: i32 = 9;
/// What a shell makes of a command that SIGKILL ended.
const KILLED_CODE: u8 = 137;

/// The outcome of a session of which nothing lives. The main member decides; if it was only
/// stopped, the first of the others that failed does.
pub fn outcome(record: &SessionRecord) -> Outcome {
    let Some(main) = record.members.first() else {
        return asked_to_end(record, None).unwrap_or_else(|| Outcome::Cancelled {
            by: BY_INSULA.to_owned(),
            dependency: record.failed_dependency(),
        });
    };
    match &main.state {
        MemberState::Exited { record: exit } if exit.cause != ExitCause::Stopped => {
            of_exit(record, exit)
        }
        MemberState::Exited { record: exit } => {
            let failure = first_failure(record).or_else(|| lost_with_another(record));
            failure.unwrap_or_else(|| of_exit(record, exit))
        }
        // The node has nothing of it any more and left no record.
        MemberState::Gone => asked_to_end(record, None)
            .or_else(|| first_failure(record))
            .unwrap_or(Outcome::Lost { node: main.node }),
        MemberState::Assigned
        | MemberState::Preparing
        | MemberState::Starting
        | MemberState::Running { .. }
        | MemberState::Stopping { .. } => panic!("session {} has not ended", record.id),
    }
}

/// The rest was ended because the node of one member has lost it, and nobody asked for that.
fn lost_with_another(record: &SessionRecord) -> Option<Outcome> {
    let gone = |member: &&MemberRecord| member.state == MemberState::Gone;
    let lost = record.members.iter().find(gone)?;
    (record.intention == Intention::Run).then_some(Outcome::Lost { node: lost.node })
}

/// The earliest failure of a member that was not asked to end.
fn first_failure(record: &SessionRecord) -> Option<Outcome> {
    let exits = record
        .members
        .iter()
        .filter_map(|member| match &member.state {
            MemberState::Exited { record } if record.cause != ExitCause::Stopped => Some(record),
            MemberState::Exited { .. }
            | MemberState::Assigned
            | MemberState::Preparing
            | MemberState::Starting
            | MemberState::Running { .. }
            | MemberState::Stopping { .. }
            | MemberState::Gone => None,
        });
    let failures = exits.filter_map(|exit| match of_exit(record, exit) {
        Outcome::Succeeded => None,
        failure => Some((exit.ended_at, failure)),
    });
    failures
        .min_by_key(|(at, _)| *at)
        .map(|(_, failure)| failure)
}

/// What was asked, if anything was: stopped, cancelled before it ran, or failed.
fn asked_to_end(record: &SessionRecord, exit: Option<&ExitRecord>) -> Option<Outcome> {
    let order = match &record.intention {
        Intention::Run => return None,
        Intention::Fail { cause, .. } => {
            return Some(Outcome::Failed {
                cause: cause.clone(),
            });
        }
        Intention::Stop { order } | Intention::Remove { order } => order,
    };
    let ran = record.started_at.is_some()
        || exit.is_some_and(|exit| exit.started_at.is_some())
        || record.former.iter().any(has_run);
    let by = order.by.clone();
    Some(if ran {
        Outcome::Stopped {
            by,
            signal: exit.and_then(ending_signal),
        }
    } else {
        Outcome::Cancelled {
            by,
            dependency: None,
        }
    })
}

fn has_run(member: &MemberRecord) -> bool {
    match &member.state {
        MemberState::Exited { record } => record.started_at.is_some(),
        MemberState::Running { .. } => true,
        MemberState::Stopping { since } => since.is_some(),
        MemberState::Assigned
        | MemberState::Preparing
        | MemberState::Starting
        | MemberState::Gone => false,
    }
}

/// The signal that ended the command, if one did.
fn ending_signal(exit: &ExitRecord) -> Option<i32> {
    match exit.how {
        ExitHow::Signalled { signal, .. } => Some(signal),
        ExitHow::Exited { .. }
        | ExitHow::NotFound { .. }
        | ExitHow::NotRunnable { .. }
        | ExitHow::NeverRan { .. }
        | ExitHow::Unknown => None,
    }
}

fn of_exit(record: &SessionRecord, exit: &ExitRecord) -> Outcome {
    let failed = |cause| Outcome::Failed { cause };
    match exit.cause {
        ExitCause::Own => own_end(record, exit),
        ExitCause::Stopped => asked_to_end(record, Some(exit)).unwrap_or(Outcome::Stopped {
            by: BY_INSULA.to_owned(),
            signal: ending_signal(exit),
        }),
        ExitCause::TimeLimit => Outcome::Expired {
            limit: record.spec.time_limit.unwrap_or(Span(0)),
        },
        ExitCause::PrepareFailed => failed(not_run(exit).unwrap_or(Cause::PrepareFailed {
            reason: never_ran_reason(exit),
        })),
        ExitCause::StartFailed => failed(not_run(exit).unwrap_or(Cause::StartFailed {
            reason: never_ran_reason(exit),
        })),
        // Its output alone would be far less than what it is blamed for: rather no number.
        ExitCause::DiskLimit => failed(Cause::DiskLimit {
            used_bytes: exit.disk_bytes,
            limit_bytes: record
                .spec
                .disk_limit
                .filter(|limit| exit.disk_bytes.is_some_and(|used| used > *limit)),
        }),
        // A guest that had to be killed because it did not stop in time was stopped all the same.
        ExitCause::GuestDied => match (memory_ran_out(exit), asked_to_end(record, Some(exit))) {
            (Some(cause), _) => failed(cause),
            (None, Some(asked)) => asked,
            (None, None) => failed(Cause::GuestDied),
        },
    }
}

/// The command ended by itself, or nothing of it could be started.
fn own_end(record: &SessionRecord, exit: &ExitRecord) -> Outcome {
    let failed = |cause| Outcome::Failed { cause };
    match &exit.how {
        ExitHow::Exited { code: 0 } if exit.files_incomplete() => failed(Cause::FilesIncomplete),
        ExitHow::Exited { code: 0 } => Outcome::Succeeded,
        ExitHow::Exited { code } => {
            let memory = memory_ran_out(exit).filter(|_| *code == KILLED_CODE);
            failed(memory.unwrap_or(Cause::ExitCode { exit_code: *code }))
        }
        ExitHow::Signalled {
            signal,
            core_dumped,
        } => {
            let memory = memory_ran_out(exit).filter(|_| *signal == SIGKILL);
            failed(memory.unwrap_or(Cause::Signal {
                signal: *signal,
                core_dumped: *core_dumped,
            }))
        }
        ExitHow::NotFound { .. } | ExitHow::NotRunnable { .. } => {
            failed(not_run(exit).expect("both are causes"))
        }
        ExitHow::NeverRan { reason } => asked_to_end(record, Some(exit)).unwrap_or_else(|| {
            failed(Cause::StartFailed {
                reason: reason.clone(),
            })
        }),
        ExitHow::Unknown => failed(memory_ran_out(exit).unwrap_or(Cause::GuestDied)),
    }
}

fn not_run(exit: &ExitRecord) -> Option<Cause> {
    match &exit.how {
        ExitHow::NotFound { program } => Some(Cause::CommandNotFound {
            program: program.clone(),
        }),
        ExitHow::NotRunnable { program, reason } => Some(Cause::CommandNotRunnable {
            program: program.clone(),
            reason: reason.clone(),
        }),
        ExitHow::Exited { .. }
        | ExitHow::Signalled { .. }
        | ExitHow::NeverRan { .. }
        | ExitHow::Unknown => None,
    }
}

fn never_ran_reason(exit: &ExitRecord) -> String {
    match &exit.how {
        ExitHow::NeverRan { reason } => reason.clone(),
        ExitHow::Exited { .. }
        | ExitHow::Signalled { .. }
        | ExitHow::NotFound { .. }
        | ExitHow::NotRunnable { .. }
        | ExitHow::Unknown => {
            let reason = exit.reason.clone();
            reason.unwrap_or_else(|| "the node gave no reason".to_owned())
        }
    }
}

/// The memory limit, or its node's shortage, ended a process of the member. Whether that was the command is for the caller
/// to tell: a program may lose a child to the limit and go on.
fn memory_ran_out(exit: &ExitRecord) -> Option<Cause> {
    let OomEvidence {
        kills,
        limit_bytes,
        peak_bytes,
        process,
        of_node,
    } = exit.out_of_memory.as_ref()?;
    (*kills > 0).then(|| match of_node {
        false => Cause::OutOfMemory {
            limit_bytes: *limit_bytes,
            peak_bytes: *peak_bytes,
            process: process.clone(),
        },
        true => Cause::NodeOutOfMemory {
            limit_bytes: *limit_bytes,
            peak_bytes: *peak_bytes,
        },
    })
}
