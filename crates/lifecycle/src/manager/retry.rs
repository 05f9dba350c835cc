//! Which attempts are followed by another one, and when.

use super::derive::{ended_at, main_started};
use super::restored::next_attempt;
use super::site::{ATTEMPT_LIMIT, Site};
use super::{Answer, Refusal, RequestToken};
use crate::planted::{Planted, planted};
use domain::{
    Cause, Intention, MemberRecord, MemberState, NodeLostPolicy, Now, Outcome, PastAttempt,
    SessionId, SessionRecord, Timestamp,
};

/// Most further attempts that a session may be given for those that fail.
pub const RETRY_LIMIT: u32 = 20;
/// The pause before the first further attempt, in milliseconds; it doubles with each.
pub const RETRY_PAUSE_MS: u64 = 1_000;
/// The longest pause between two attempts, in milliseconds.
pub const RETRY_PAUSE_LIMIT_MS: u64 = 60_000;

/// Why there is another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Its node lost it, and the session asks for another one then.
    Lost,
    /// It failed, and the session was given further attempts for that.
    Retry,
}

/// The pause before a further attempt, in milliseconds, after `used` of them.
pub fn retry_pause_ms(used: u32) -> u64 {
    let doubled = RETRY_PAUSE_MS.checked_shl(used.min(32));
    doubled.map_or(RETRY_PAUSE_LIMIT_MS, |ms| ms.min(RETRY_PAUSE_LIMIT_MS))
}

/// Whether another attempt follows one that is over, and why. The members of the old one can no
/// longer run: each has left a record, or its node has told that it has not got it any more.
pub(super) fn again(record: &SessionRecord, outcome: &Outcome) -> Option<Again> {
    let is_to_end = record.intention != Intention::Run && !planted(Planted::RetryInSpiteOfStop);
    if is_to_end || record.members.is_empty() {
        return None;
    }
    let lost = matches!(outcome, Outcome::Lost { .. });
    let reschedules = record.spec.node_lost == NodeLostPolicy::Reschedule;
    if lost && reschedules && record.past.len() + 1 < ATTEMPT_LIMIT {
        return Some(Again::Lost);
    }
    let left = if planted(Planted::LostTriesAreRetries) {
        usize::try_from(record.retry.limit).is_ok_and(|limit| record.past.len() < limit)
    } else {
        record.retry.used < record.retry.limit
    };
    (is_failure(outcome) && left).then_some(Again::Retry)
}

/// An end for which another attempt may help: not what somebody asked for, not a limit that the
/// next attempt would reach as well, not a command that cannot be run.
fn is_failure(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Lost { .. } => true,
        Outcome::Failed { cause } => match cause {
            Cause::ExitCode { .. }
            | Cause::Signal { .. }
            | Cause::OutOfMemory { .. }
            | Cause::NodeOutOfMemory { .. }
            | Cause::PrepareFailed { .. }
            | Cause::StartFailed { .. }
            | Cause::GuestDied => true,
            // The files of this attempt stay where they are, so the disk is as full for the next.
            Cause::DiskLimit { .. }
            | Cause::FilesIncomplete
            | Cause::CommandNotFound { .. }
            | Cause::CommandNotRunnable { .. }
            | Cause::DeadlineMissed { .. } => false,
        },
        Outcome::Succeeded
        | Outcome::Stopped { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Expired { .. } => false,
    }
}

fn past_attempt(record: &SessionRecord, outcome: &Outcome, now: Now) -> Option<PastAttempt> {
    let main = record.members.first()?;
    Some(PastAttempt {
        attempt: record.attempt,
        node: main.node,
        outcome: outcome.clone(),
        started_at: main_started(&record.members).or(record.started_at),
        ended_at: ended_at(record, now.wall),
    })
}

impl Site {
    /// Makes a session wait for its next attempt.
    pub(super) fn requeue(&mut self, id: SessionId, again: Again, outcome: &Outcome, now: Now) {
        let next = next_attempt(&self.row, &self.sessions[&id].record);
        let record = self.record_mut(id);
        record.past.extend(past_attempt(record, outcome, now));
        super::derive::change_state(
            record,
            domain::SessionState::Pending,
            domain::session::Requeue::ByPolicy,
        );
        let members = std::mem::take(&mut record.members);
        let is_kept = |_: &MemberRecord| !planted(Planted::FormerForgotten);
        record.former.extend(members.into_iter().filter(is_kept));
        record.started_at = None;
        let (name, next) = (record.shown_name(), next);
        let message = match again {
            Again::Lost => format!("session {name} waits for try {next} because a node lost it"),
            Again::Retry => {
                let pause = retry_pause_ms(record.retry.used);
                record.retry.used += 1;
                let micros = i64::try_from(pause * 1_000).expect("a minute at most");
                record.retry.at = Some(Timestamp(now.wall.0.saturating_add(micros)));
                let seconds = pause / 1_000;
                format!("session {name} waits {seconds} s for try {next}: {outcome}")
            }
        };
        let entry = self.entry_mut(id);
        let left = entry.record.former.iter();
        let left = left.filter(|member| member.state != MemberState::Gone);
        let left: std::collections::BTreeSet<_> = left.map(|member| member.id).collect();
        entry.told.retain(|member, _| left.contains(member));
        entry.timer = None;
        self.out.place = true;
        self.note_session(id, now, "session.requeued", message);
    }

    /// Takes back what attempts are left: whoever interrupts a command wants no other one, though
    /// to its node it looks like a failure. What a lost node brings about is left as it is.
    pub(super) fn end_retries(&mut self, token: RequestToken, session: SessionId, now: Now) {
        let refusal = match self.session(session) {
            None => Some(Refusal::NoSuchSession { session }),
            Some(record) if !record.state.is_living() => Some(Refusal::HasEnded { session }),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.answer(token, Answer::Refused { refusal });
            return;
        }
        let record = &self.sessions[&session].record;
        if record.retry.used < record.retry.limit {
            let name = record.shown_name();
            let record = self.record_mut(session);
            record.retry.limit = record.retry.used;
            let message = format!("session {name} was interrupted: it gets no further attempt");
            self.note_session(session, now, "session.last-attempt", message);
        }
        self.answer(token, Answer::Accepted { session });
    }

    /// Lets those wait for a place whose pause is over.
    pub(super) fn end_pauses(&mut self, now: Now) {
        let over = |at: Timestamp| {
            let left_ms = at.micros_since(now.wall) / 1_000;
            // Longer than any pause: the clock was set back.
            let is_long = left_ms > RETRY_PAUSE_LIMIT_MS && !planted(Planted::PauseByClockOnly);
            at <= now.wall || is_long
        };
        let paused = self.waiting.paused.iter();
        let over: Vec<SessionId> = paused
            .filter(|(at, _)| over(*at))
            .map(|(_, session)| *session)
            .collect();
        for session in over {
            self.record_mut(session).retry.at = None;
            self.out.touched.insert(session);
            self.out.place = true;
        }
    }
}
