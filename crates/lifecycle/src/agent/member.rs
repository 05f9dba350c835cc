//! One member's life on its node: which act comes next.
//!
//! ```text
//!  MakeDirectory -> Prepare -> Start -> (watch) -> End -> WriteRecord -> Remove -> Purge
//!        \____________\__________\ failed or stopped _______^
//! ```

mod disk;
mod pause;

use super::ending::{Failure, Reasons, never_ran, ran};
use super::{
    AgentEffect, DIRECTORY_TRIES, Ending, KILL_MARGIN_MICROS, RETRY_MICROS, SLOT_LIMIT, StartDoubt,
    UNCLAIMED_GRACE_MICROS, UNCLAIMED_STOP_GRACE_MS,
};
use crate::planted::{Planted, planted};
use disk::Disk;
use domain::{
    ExitCause, ExitRecord, MemberEvent, MemberId, MemberState, Monotonic, Now, Timestamp,
};
use node_api::{MemberSpec, Want};
use pause::Hold;
use std::collections::BTreeSet;

pub use pause::RecoveredPause;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// What is wanted of a member that the manager knows to have ended.
const KEPT: Want = Want::Stop {
    signal: SIGTERM,
    grace_ms: UNCLAIMED_STOP_GRACE_MS,
};

/// What is known of a member's guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// It was never told *go*.
    None,
    /// It lives, or did when last heard of.
    Alive,
    /// It lived, or may have, and does not any more.
    Gone,
}

/// The act that runs for a member; at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    MakeDirectory,
    Prepare,
    Start,
    End,
    Record,
    Remove,
    Purge,
}

/// How far the order to stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop {
    signal: i32,
    grace_ms: u64,
    /// When the agent kills by itself; counted from the first try to reach a living guest.
    deadline: Option<Monotonic>,
    /// When the grace is over, counted from that try: the deadline for a guest that does not
    /// answer, for it does not enforce anything by itself.
    grace_over: Option<Monotonic>,
    /// The last order was not answered in time, and none since.
    late: bool,
    order: Order,
    /// When the next kill is due, after a first.
    kill_again_at: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    ToSend { not_before: Option<Monotonic> },
    Sent,
    Taken,
}

/// What the node has for members that begin.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) generation: u64,
    pub(super) wall: Timestamp,
    /// Slots whose ids own something on disk, or are about to.
    pub(super) used_slots: BTreeSet<u32>,
    /// No slot below this one is free.
    pub(super) next_slot: u32,
}

impl Room {
    /// The smallest free slot, which is then used.
    fn take_slot(&mut self) -> Option<u32> {
        let slot = (self.next_slot..SLOT_LIMIT).find(|slot| !self.used_slots.contains(slot))?;
        self.used_slots.insert(slot);
        self.next_slot = slot + 1;
        Some(slot)
    }
}

/// `micros` later than `at`.
pub(super) fn after(at: Monotonic, micros: u64) -> Monotonic {
    Monotonic(at.0.saturating_add(micros))
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) spec: Box<MemberSpec>,
    pub(super) slot: Option<u32>,
    pub(super) state: MemberState,
    /// What the last obeyed set says; `None` if it does not name it, or there was none yet.
    pub(super) want: Option<Want>,
    /// The manager has its record: the last obeyed set keeps it.
    pub(super) kept: bool,
    unclaimed_since: Option<Monotonic>,
    pub(super) directory: bool,
    pub(super) guest: Guest,
    pub(super) started_at: Option<Timestamp>,
    /// The final record is on disk.
    pub(super) recorded: bool,
    /// The engine has nothing of it.
    pub(super) cleaned: bool,
    /// Decided, and not yet on disk.
    decided: Option<Box<ExitRecord>>,
    reasons: Reasons,
    act: Option<Act>,
    retry_at: Option<Monotonic>,
    stop: Option<Stop>,
    abandoned: bool,
    directory_tries: u32,
    disk: Option<Disk>,
    /// What the last obeyed set says beside `want`.
    wants_paused: bool,
    hold: Hold,
}

impl Member {
    /// One that is wanted and of which nothing is there.
    pub(super) fn assigned(spec: MemberSpec) -> Self {
        Self {
            spec: Box::new(spec),
            slot: None,
            state: MemberState::Assigned,
            want: None,
            kept: false,
            unclaimed_since: None,
            directory: false,
            guest: Guest::None,
            started_at: None,
            recorded: false,
            cleaned: false,
            decided: None,
            reasons: Reasons::default(),
            act: None,
            retry_at: None,
            stop: None,
            abandoned: false,
            directory_tries: 0,
            disk: None,
            wants_paused: false,
            hold: Hold::default(),
        }
    }

    /// Makes a move of the table.
    ///
    /// # Panics
    /// If the table does not have it: that is a mistake of this module.
    pub(super) fn apply(&mut self, event: MemberEvent) {
        self.state = self.state.after(event).expect("only legal moves are made");
    }

    pub(super) fn claim(&mut self, want: Want) {
        self.want = Some(want);
        self.kept = false;
        self.unclaimed_since = None;
    }

    /// It has ended, says the manager: what it leaves is kept, and it never runs.
    pub(super) fn keep(&mut self) {
        if !self.kept {
            self.claim(KEPT);
            self.kept = true;
        }
    }

    /// There is nothing more to tell of it than that it is there.
    pub(super) fn is_settled(&self) -> bool {
        self.kept && !self.state.occupies()
    }

    /// It has ended, and there is nothing to do for it as long as nothing else is wanted.
    pub(super) fn is_at_rest(&self) -> bool {
        let purged = matches!(self.want, Some(Want::Purge { .. }));
        let done = !self.directory || self.cleaned && self.recorded;
        !self.state.occupies() && self.act.is_none() && !purged && done
    }

    pub(super) fn unclaim(&mut self, now: Now) {
        self.want = None;
        self.kept = false;
        self.unclaimed_since.get_or_insert(now.monotonic);
    }

    /// Nothing of it is on disk, and nothing is being made.
    pub(super) fn is_untouched(&self) -> bool {
        !self.directory && self.act.is_none()
    }

    /// Nothing of it is on disk, not even what a try to make its directory has left.
    pub(super) fn has_left_nothing(&self) -> bool {
        self.is_untouched() && self.slot.is_none()
    }
}

/// Results of acts.
impl Member {
    /// Notes that `act` has answered; false for an answer that nobody waits for.
    fn answered(&mut self, act: Act) -> bool {
        let awaited = self.act == Some(act);
        if awaited {
            self.act = None;
        }
        awaited
    }

    pub(super) fn directory_made(&mut self, out: &mut Vec<AgentEffect>) {
        if self.answered(Act::MakeDirectory) {
            self.directory = true;
            if self.state == MemberState::Assigned {
                self.apply(MemberEvent::Prepare);
                out.push(AgentEffect::Report);
            }
        }
    }

    pub(super) fn directory_failed(&mut self, reason: String, now: Now) {
        if self.answered(Act::MakeDirectory) {
            // It keeps its range of ids: the directory may have its name and only not be synced.
            self.directory_tries += 1;
            if self.directory_tries < DIRECTORY_TRIES {
                self.retry_at = Some(after(now.monotonic, RETRY_MICROS));
            } else {
                self.fail(ExitCause::PrepareFailed, reason, StartDoubt::NeverRan);
            }
        }
    }

    pub(super) fn prepared(&mut self) {
        if self.answered(Act::Prepare) && self.state == MemberState::Preparing {
            self.apply(MemberEvent::Start);
        }
    }

    pub(super) fn prepare_failed(&mut self, reason: String) {
        if self.answered(Act::Prepare) {
            self.fail(ExitCause::PrepareFailed, reason, StartDoubt::NeverRan);
        }
    }

    pub(super) fn started(&mut self, id: MemberId, at: Timestamp, out: &mut Vec<AgentEffect>) {
        if self.answered(Act::Start) {
            if self.state != MemberState::Starting && planted(Planted::StoppedWhileStarting) {
                return;
            }
            self.guest = Guest::Alive;
            self.started_at = Some(at);
            if self.state == MemberState::Starting {
                self.apply(MemberEvent::Started { at });
            }
            out.extend([AgentEffect::Watch { member: id }, AgentEffect::Report]);
        }
    }

    pub(super) fn start_failed(&mut self, reason: String, doubt: StartDoubt) {
        if self.answered(Act::Start) {
            if doubt == StartDoubt::MayHaveRun {
                self.guest = Guest::Gone;
            }
            self.fail(ExitCause::StartFailed, reason, doubt);
        }
    }

    fn fail(&mut self, cause: ExitCause, reason: String, doubt: StartDoubt) {
        self.reasons.failure = Some(Failure {
            cause,
            reason,
            doubt,
        });
    }

    pub(super) fn guest_gone(&mut self) {
        if self.guest == Guest::Alive {
            self.guest = Guest::Gone;
        }
    }

    pub(super) fn ended(&mut self, id: MemberId, ending: Ending, now: Now) {
        if self.answered(Act::End) {
            self.cleaned = ending.removed;
            self.reasons.stop_ordered |= self.stop.is_some();
            let record = ran(id, ending, &self.reasons, self.started_at, now.wall);
            self.decided = Some(Box::new(record));
        }
    }

    pub(super) fn record_written(&mut self, out: &mut Vec<AgentEffect>) {
        if self.answered(Act::Record) {
            self.recorded = true;
            self.exit(out);
        }
    }

    pub(super) fn removed(&mut self) {
        if self.answered(Act::Remove) {
            self.cleaned = true;
        }
    }

    /// An act that is tried again has failed. A record that cannot be written (the disk is full)
    /// holds nobody up: it is told now, and written when there is room.
    pub(super) fn act_failed(&mut self, now: Now, out: &mut Vec<AgentEffect>) {
        let Some(act) = self.act.take() else { return };
        self.retry_at = Some(after(now.monotonic, RETRY_MICROS));
        if act == Act::Record {
            self.exit(out);
        }
    }

    pub(super) fn stop_ordered(&mut self) {
        if let Some(stop) = self.stop.as_mut().filter(|stop| stop.order == Order::Sent) {
            stop.order = Order::Taken;
            stop.late = false;
        }
    }

    pub(super) fn stop_not_ordered(&mut self, late: bool, now: Now) {
        if let Some(stop) = self.stop.as_mut().filter(|stop| stop.order == Order::Sent) {
            let not_before = Some(after(now.monotonic, RETRY_MICROS));
            stop.order = Order::ToSend { not_before };
            stop.late |= late;
        }
    }
}

/// What comes next.
impl Member {
    /// Begins the next act, if there is one and none runs.
    pub(super) fn advance(
        &mut self,
        id: MemberId,
        room: &mut Room,
        now: Now,
        out: &mut Vec<AgentEffect>,
    ) {
        self.pursue_stop(id, now, out);
        self.pursue_pause(id, now, out);
        if self.guest == Guest::Alive && !self.is_held() {
            self.press(id, now, out);
        }
        if self.act.is_some() || self.retry_at.is_some_and(|at| now.monotonic < at) {
            return;
        }
        self.retry_at = None;
        let next = if self.state.occupies() {
            self.decide(id, now);
            self.next_of_living(id, room, out)
        } else {
            self.next_of_exited(id)
        };
        if let Some((act, effect)) = next {
            self.act = Some(act);
            out.push(effect);
        }
    }

    /// Settles the record of one that will certainly never run.
    fn decide(&mut self, id: MemberId, now: Now) {
        let over = self.stop.is_some() || self.reasons.failure.is_some();
        if self.guest == Guest::None && over && self.decided.is_none() {
            self.reasons.stop_ordered |= self.stop.is_some();
            self.decided = Some(Box::new(never_ran(id, &self.reasons, now.wall)));
        }
    }

    fn next_of_living(
        &mut self,
        id: MemberId,
        room: &mut Room,
        out: &mut Vec<AgentEffect>,
    ) -> Option<(Act, AgentEffect)> {
        if let Some(record) = self.decided.clone() {
            if self.directory {
                return Some((Act::Record, AgentEffect::WriteRecord { record }));
            }
            if self.reasons.failure.is_none() {
                return self.make_directory(id, room, out);
            }
            // It never ran and there is no place to write that to.
            self.exit(out);
            return self.next_of_exited(id);
        }
        if self.guest == Guest::Gone {
            return Some((Act::End, AgentEffect::End { member: id }));
        }
        match (&self.state, &self.want) {
            (MemberState::Assigned, Some(Want::Run)) => self.make_directory(id, room, out),
            (MemberState::Assigned, Some(Want::Purge { .. })) => Some(self.purge(id)),
            (MemberState::Preparing, Some(Want::Run)) => {
                Some((Act::Prepare, AgentEffect::Prepare { member: id }))
            }
            (MemberState::Starting, Some(Want::Run)) => {
                out.push(AgentEffect::Report);
                Some((Act::Start, AgentEffect::Start { member: id }))
            }
            _ => None,
        }
    }

    fn next_of_exited(&self, id: MemberId) -> Option<(Act, AgentEffect)> {
        let purge = matches!(self.want, Some(Want::Purge { .. }));
        let to_write = self.directory && !self.recorded && !purge;
        if let (Some(record), true) = (&self.decided, to_write) {
            let record = record.clone();
            return Some((Act::Record, AgentEffect::WriteRecord { record }));
        }
        if self.directory && !self.cleaned {
            return Some((Act::Remove, AgentEffect::Remove { member: id }));
        }
        purge.then(|| self.purge(id))
    }

    fn purge(&self, id: MemberId) -> (Act, AgentEffect) {
        let (member, slot) = (id, self.slot);
        (Act::Purge, AgentEffect::Purge { member, slot })
    }

    fn make_directory(
        &mut self,
        id: MemberId,
        room: &mut Room,
        out: &mut Vec<AgentEffect>,
    ) -> Option<(Act, AgentEffect)> {
        let Some(slot) = self.slot.or_else(|| room.take_slot()) else {
            let reason = "every range of user ids is in use on this node".to_owned();
            self.fail(ExitCause::PrepareFailed, reason, StartDoubt::NeverRan);
            self.decided = Some(Box::new(never_ran(id, &self.reasons, room.wall)));
            self.exit(out);
            return None;
        };
        self.slot = Some(slot);
        let effect = AgentEffect::MakeDirectory {
            member: id,
            spec: self.spec.clone(),
            slot,
            generation: room.generation,
        };
        Some((Act::MakeDirectory, effect))
    }

    /// The decided record becomes the state.
    fn exit(&mut self, out: &mut Vec<AgentEffect>) {
        if let (true, Some(record)) = (self.state.occupies(), &self.decided) {
            let record = (**record).clone();
            self.apply(MemberEvent::Exit { record });
            out.push(AgentEffect::Report);
        }
    }
}

/// Stopping.
impl Member {
    /// The order to stop that holds now, if any; the sharpest first.
    fn wanted_order(&self, now: Now) -> Option<(i32, u64)> {
        if self.reasons.disk_limit.is_some() {
            return Some((SIGKILL, 0));
        }
        match &self.want {
            Some(Want::Stop { signal, grace_ms } | Want::Purge { signal, grace_ms }) => {
                Some((*signal, *grace_ms))
            }
            Some(Want::Run) => None,
            None => {
                let since = self.unclaimed_since?;
                let long = now.monotonic.micros_since(since) >= UNCLAIMED_GRACE_MICROS;
                long.then_some((SIGTERM, UNCLAIMED_STOP_GRACE_MS))
            }
        }
    }

    fn pursue_stop(&mut self, id: MemberId, now: Now, out: &mut Vec<AgentEffect>) {
        let purge = matches!(self.want, Some(Want::Purge { .. }));
        let nothing_there = self.state == MemberState::Assigned && self.is_untouched();
        let going = self.act == Some(Act::Purge);
        if !self.state.occupies() || going || purge && nothing_there {
            return;
        }
        if let Some((signal, grace_ms)) = self.wanted_order(now) {
            self.take_order(signal, grace_ms, out);
        }
        if self.stop.is_some() && self.act == Some(Act::Prepare) && !self.abandoned {
            self.abandoned = true;
            out.push(AgentEffect::AbandonPrepare { member: id });
        }
    }

    fn take_order(&mut self, signal: i32, grace_ms: u64, out: &mut Vec<AgentEffect>) {
        match &mut self.stop {
            None => {
                self.apply(MemberEvent::Stop);
                out.push(AgentEffect::Report);
                self.stop = Some(Stop {
                    signal,
                    grace_ms,
                    deadline: None,
                    grace_over: None,
                    late: false,
                    order: Order::ToSend { not_before: None },
                    kill_again_at: None,
                });
            }
            Some(stop) if (stop.signal, stop.grace_ms) != (signal, grace_ms) => {
                (stop.signal, stop.grace_ms) = (signal, grace_ms);
                stop.order = Order::ToSend { not_before: None };
            }
            Some(_) => {}
        }
    }

    /// Sends the order to a living guest, and kills when its time is over.
    fn press(&mut self, id: MemberId, now: Now, out: &mut Vec<AgentEffect>) {
        let Some(stop) = &mut self.stop else { return };
        let to_send = match stop.order {
            Order::ToSend { not_before } => not_before.is_none_or(|at| now.monotonic >= at),
            Order::Sent | Order::Taken => false,
        };
        if to_send {
            let grace_micros = stop.grace_ms.saturating_mul(1_000);
            let grace_over = after(now.monotonic, grace_micros);
            let deadline = after(grace_over, KILL_MARGIN_MICROS);
            // A later order may only shorten, and a guest that cannot be reached gets no more.
            let shorter = |known: Option<Monotonic>, new| {
                let known = known.filter(|_| !planted(Planted::TriesPutOffTheKill));
                known.map_or(new, |old| old.min(new))
            };
            stop.grace_over = Some(shorter(stop.grace_over, grace_over));
            stop.deadline = Some(shorter(stop.deadline, deadline));
            stop.order = Order::Sent;
            out.push(AgentEffect::OrderStop {
                member: id,
                signal: stop.signal,
                grace_ms: stop.grace_ms,
                disk_bytes: self.reasons.disk_limit,
            });
        }
        let deadline = if stop.late {
            stop.grace_over
        } else {
            stop.deadline
        };
        let over = deadline.is_some_and(|deadline| now.monotonic >= deadline);
        if over && stop.kill_again_at.is_none_or(|at| now.monotonic >= at) {
            stop.kill_again_at = Some(after(now.monotonic, RETRY_MICROS));
            if planted(Planted::KillOnce) {
                stop.kill_again_at = Some(Monotonic(u64::MAX));
            }
            out.push(AgentEffect::Kill { member: id });
        }
    }
}
