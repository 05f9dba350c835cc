//! What is written of a member's end: the guest's word where it left one, and what only the agent
//! can know.

use super::{Ending, StartDoubt};
use domain::{ExitCause, ExitHow, ExitRecord, LimitsReached, MemberId, OomEvidence, Timestamp};

/// What the agent knows of why a member ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reasons {
    /// Preparing or starting failed, with the whole chain.
    pub(super) failure: Option<Failure>,
    /// It was ordered to stop.
    pub(super) stop_ordered: bool,
    /// It was ended because the disk is nearly full: what it had there then, in bytes.
    pub(super) disk_limit: Option<u64>,
}

/// An act that failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: ExitCause,
    pub(super) reason: String,
    pub(super) doubt: StartDoubt,
}

/// The record of a member whose command never ran.
pub(super) fn never_ran(member: MemberId, reasons: &Reasons, at: Timestamp) -> ExitRecord {
    let (cause, reason) = match &reasons.failure {
        _ if reasons.stop_ordered => (
            ExitCause::Stopped,
            "it was stopped before it ran".to_owned(),
        ),
        Some(failure) => (failure.cause, failure.reason.clone()),
        None => (ExitCause::StartFailed, "it was not started".to_owned()),
    };
    ExitRecord {
        member,
        started_at: None,
        ended_at: at,
        how: ExitHow::NeverRan { reason },
        cause,
        stdout_bytes: 0,
        stderr_bytes: 0,
        out_of_memory: None,
        reason: None,
        disk_bytes: None,
        limits_reached: None,
        system: None,
    }
}

/// The record of a member that ran or may have. `started_at` is used where the guest left none.
pub(super) fn ran(
    member: MemberId,
    ending: Ending,
    reasons: &Reasons,
    started_at: Option<Timestamp>,
    at: Timestamp,
) -> ExitRecord {
    let guests = ending.record.filter(|record| record.member == member);
    let mut record = guests.unwrap_or_else(|| ExitRecord {
        member,
        started_at,
        ended_at: at,
        how: ExitHow::Unknown,
        cause: cause_without_record(reasons),
        stdout_bytes: ending.stdout_bytes,
        stderr_bytes: ending.stderr_bytes,
        out_of_memory: None,
        reason: None,
        disk_bytes: None,
        limits_reached: None,
        system: None,
    });
    // The guest sees such an end as any other stop.
    if reasons.disk_limit.is_some() && record.cause != ExitCause::Own {
        record.cause = ExitCause::DiskLimit;
    }
    // Both are the agent's to say, whatever stands in a guest's record; and a guest that left one
    // tells by itself how it went.
    let disk_limit = record.cause == ExitCause::DiskLimit;
    record.disk_bytes = reasons.disk_limit.filter(|_| disk_limit);
    let failure = reasons.failure.as_ref().map(|failure| &failure.reason);
    record.reason = failure.filter(|_| record.how == ExitHow::Unknown).cloned();
    record.out_of_memory = merge(record.out_of_memory, ending.out_of_memory);
    record.limits_reached = reached(record.limits_reached, ending.limits_reached);
    record.system = ending.system;
    record
}

fn cause_without_record(reasons: &Reasons) -> ExitCause {
    match &reasons.failure {
        _ if reasons.stop_ordered => ExitCause::Stopped,
        Some(failure) => failure.cause,
        None => ExitCause::GuestDied,
    }
}

/// What the guest sees of limits (its file systems), and what the agent does (everything else).
fn reached(guest: Option<Box<LimitsReached>>, agent: LimitsReached) -> Option<Box<LimitsReached>> {
    let guest = guest.unwrap_or_default();
    let both = LimitsReached {
        tmp_full_bytes: guest.tmp_full_bytes,
        shm_full_bytes: guest.shm_full_bytes,
        ..agent
    };
    both.if_any()
}

/// Two witnesses of the same kills: the larger numbers, and the process where either knows it.
fn merge(guest: Option<OomEvidence>, engine: Option<OomEvidence>) -> Option<OomEvidence> {
    let merged = match (guest, engine) {
        (None, None) => return None,
        (Some(one), None) | (None, Some(one)) => one,
        (Some(guest), Some(engine)) => OomEvidence {
            kills: guest.kills.max(engine.kills),
            limit_bytes: engine.limit_bytes.max(guest.limit_bytes),
            peak_bytes: engine.peak_bytes.max(guest.peak_bytes),
            process: engine.process.or(guest.process),
            of_node: engine.of_node && guest.of_node,
        },
    };
    (merged.kills > 0).then_some(merged)
}
