//! The agent core: the manager core's twin for one node.
//!
//! [`NodeCore::step`] takes what happened and gives the acts that follow; it does no I/O. The
//! service around it carries the acts out and tells the results as further events. What is on
//! disk is the truth: a new process tells the core what it found ([`Recovered`]) and everything
//! goes on from there, so the service may be killed between any two instructions.
//!
//! What this core promises:
//! * **A member is started at most once, ever.** Its directory is there before its first act, a
//!   marker before it is started, and its id is remembered after its directory is gone.
//! * **Nothing is killed by ignorance.** Only an obeyed desired set that says so, a full disk, or
//!   [`UNCLAIMED_GRACE_MICROS`] without being named ends a member. Before the first desired set
//!   of a process nothing is begun, and nothing is ended but for the disk.
//! * **At most one act of a member runs at a time**, so acts of one member never race; orders to
//!   a living guest go beside them.

mod disk;
mod ending;
mod member;
mod obeying;
mod recovery;

use crate::agent::member::Member;
use domain::{ExitRecord, MemberEvent, MemberId, MemberState, Monotonic, NodeId, Now};
use domain::{LimitsReached, OomEvidence, Timestamp};
use node_api::{Desired, MemberSpec, Report, ReportedMember};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use disk::{
    DISK_ACCOUNTED_DIVISOR, DISK_BLAME_DIVISOR, DISK_BLAME_LEAST_BYTES, DISK_FASTEST_BYTES,
    DISK_LOOK_LEAST_MICROS, DISK_LOOK_MOST_MICROS, DISK_MARGIN_BYTES, DISK_MARGIN_DIVISOR,
    DISK_WARNING_MICROS, DiskBegan, DiskUsage, disk_line, disk_look_micros,
};
pub use obeying::{NotObeyed, Obeyed};
pub use recovery::{Leftover, Recovered, RecoveredGuest, RecoveredMember};

/// Most members of a node, kept ones included; a larger desired set is refused.
pub const MEMBERS_LIMIT: usize = 20_000;
/// Ranges of user ids: with 65,536 ids each and a base of 2,000,000,000 they stay below 2^32 - 1.
pub const SLOT_LIMIT: u32 = 32_768;
/// Most ids of purged members that are remembered; the oldest that no desired set names go first.
pub const GONE_LIMIT: usize = 65_536;
/// From the end of a stop's grace, which the guest enforces, to the agent's own SIGKILL.
pub const KILL_MARGIN_MICROS: u64 = 15_000_000;
/// Between two tries of an act that failed, and between two kills of a guest that does not go.
pub const RETRY_MICROS: u64 = 2_000_000;
/// Tries to make a member's directory before the member fails.
pub const DIRECTORY_TRIES: u32 = 3;
/// How long a member runs on that the manager does not name.
pub const UNCLAIMED_GRACE_MICROS: u64 = 24 * 3_600 * 1_000_000;
/// Grace of a member that is ended because it was unclaimed for too long.
pub const UNCLAIMED_STOP_GRACE_MS: u64 = 10_000;
/// Something that happened.
#[derive(Clone, Debug)]
pub struct AgentEvent {
    /// When.
    pub now: Now,
    /// What.
    pub kind: AgentEventKind,
}

/// What happened. Results of acts name the member; one of a member that is not known is passed
/// over.
#[derive(Clone, Debug)]
pub enum AgentEventKind {
    /// What a new process found on disk; the first event of every process.
    Recovered {
        /// All of it.
        found: Box<Recovered>,
    },
    /// The manager told what it wants. Answered by [`AgentEffect::Refuse`] or
    /// [`AgentEffect::SaveObeyed`]; nothing else follows before [`AgentEventKind::ObeyedSaved`].
    Desired {
        /// All of it.
        desired: Box<Desired>,
    },
    /// The last [`AgentEffect::SaveObeyed`] is on disk (or need not be, see there).
    ObeyedSaved,
    /// It is not; the desired set is forgotten.
    ObeyedNotSaved,
    /// The member's directory is there.
    DirectoryMade {
        /// Whose.
        member: MemberId,
    },
    /// It could not be made.
    DirectoryFailed {
        /// Whose.
        member: MemberId,
        /// Why, as a whole chain.
        reason: String,
    },
    /// Files and root are there.
    Prepared {
        /// Whose.
        member: MemberId,
    },
    /// They could not be made, or the preparation was abandoned.
    PrepareFailed {
        /// Whose.
        member: MemberId,
        /// Why, as a whole chain.
        reason: String,
    },
    /// The guest was told *go*.
    Started {
        /// Which.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// The engine could not start it; nothing of it lives.
    StartFailed {
        /// Which.
        member: MemberId,
        /// Why, as a whole chain.
        reason: String,
        /// Whether the command may have run for a moment.
        doubt: StartDoubt,
    },
    /// The guest took the order to stop.
    StopOrdered {
        /// Whose guest.
        member: MemberId,
    },
    /// The guest could not be reached with it.
    StopNotOrdered {
        /// Whose guest.
        member: MemberId,
        /// It was there and did not answer in time: it hangs, or was stopped from outside.
        late: bool,
    },
    /// The guest no longer lives.
    GuestGone {
        /// Whose.
        member: MemberId,
    },
    /// What is left of a member that ran was looked at.
    Ended {
        /// Whose.
        member: MemberId,
        /// What was found.
        ending: Box<Ending>,
    },
    /// The final record is on disk.
    RecordWritten {
        /// Whose.
        member: MemberId,
    },
    /// The engine has nothing of it any more.
    Removed {
        /// Whose.
        member: MemberId,
    },
    /// Nothing of it is on disk, and its id is remembered as gone.
    Purged {
        /// Whose.
        member: MemberId,
    },
    /// An act that is tried again failed; the service has logged why.
    ActFailed {
        /// Whose.
        member: MemberId,
    },
    /// The node's file system was measured.
    DiskMeasured {
        /// What was found.
        disk: DiskUsage,
    },
    /// Time has passed. At least once a second.
    Tick,
}

/// Whether a failed start may have run the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartDoubt {
    /// The guest was never told *go*.
    NeverRan,
    /// Nobody knows: the engine failed in between. What was there has been killed.
    MayHaveRun,
}

/// What is left of a member that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The guest's record, if there is one.
    pub record: Option<ExitRecord>,
    /// What the engine knows of out-of-memory kills.
    pub out_of_memory: Option<OomEvidence>,
    /// Limits that the engine and the log tell of; what only the guest sees is in its record.
    pub limits_reached: LimitsReached,
    /// The node's system, where that was its image.
    pub system: Option<String>,
    /// Bytes of stdout on disk, from the first; for a guest that left no record.
    pub stdout_bytes: u64,
    /// Bytes of stderr on disk, from the first.
    pub stderr_bytes: u64,
    /// The engine has removed its part already.
    pub removed: bool,
}

/// Something to do. Each act's result comes back as the event it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEffect {
    /// Answer the desired set with a refusal.
    Refuse {
        /// Why.
        why: NotObeyed,
    },
    /// Save whom the agent obeys, before anything else. → `ObeyedSaved`, `ObeyedNotSaved`.
    SaveObeyed {
        /// What to save.
        obeyed: Obeyed,
        /// It must survive a loss of power, and the desired set is refused if it cannot be saved.
        /// Otherwise only the generation rose: then it has to outlive this process only, and
        /// where it cannot be saved (a full disk) the set is obeyed all the same, because it may
        /// be the one that frees the disk.
        must: bool,
    },
    /// Make the member's directory: written aside, renamed, durable.
    /// → `DirectoryMade`, `DirectoryFailed`.
    MakeDirectory {
        /// Whose.
        member: MemberId,
        /// What it is.
        spec: Box<MemberSpec>,
        /// Its range of user ids.
        slot: u32,
        /// The generation that asked for it.
        generation: u64,
    },
    /// Fetch and unpack files; again from the start if it was begun before.
    /// → `Prepared`, `PrepareFailed`.
    Prepare {
        /// Whose.
        member: MemberId,
    },
    /// Give up a preparation that runs; it answers `PrepareFailed` (or `Prepared`) soon.
    AbandonPrepare {
        /// Whose.
        member: MemberId,
    },
    /// Write the marker that says it may have been started, then start it.
    /// → `Started`, `StartFailed`.
    Start {
        /// Which.
        member: MemberId,
    },
    /// Watch the guest. → `GuestGone`.
    Watch {
        /// Whose.
        member: MemberId,
    },
    /// Tell the guest to end the command. Where the disk is the reason, that is noted on disk
    /// before, for the guest sees a stop like any other and a later process has to tell them
    /// apart. → `StopOrdered`, `StopNotOrdered`.
    OrderStop {
        /// Whose guest.
        member: MemberId,
        /// The first signal.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
        /// What to note: the bytes that it has on disk, if it is ended for them.
        disk_bytes: Option<u64>,
    },
    /// Warn the operator: the disk is nearly full, and what the members wrote does not account
    /// for it, so that none of them is ended. No answer.
    WarnOfDisk {
        /// Bytes that can still be written.
        free_bytes: u64,
        /// Bytes that were lost since the member that wrote most was first measured.
        lost_bytes: u64,
        /// Bytes that members which are still there were seen to have written.
        written_bytes: u64,
    },
    /// Kill the whole container. No answer; the guest's end is seen by the watch.
    Kill {
        /// Which.
        member: MemberId,
    },
    /// Look at what a guest left. → `Ended`, `ActFailed`.
    End {
        /// Whose.
        member: MemberId,
    },
    /// Write the final record, durably. → `RecordWritten`, `ActFailed`.
    WriteRecord {
        /// The record; it names the member.
        record: Box<ExitRecord>,
    },
    /// Let the engine remove its part. → `Removed`, `ActFailed`.
    Remove {
        /// Whose.
        member: MemberId,
    },
    /// Remember the id as gone, then remove the directory. → `Purged`, `ActFailed`.
    Purge {
        /// Whose.
        member: MemberId,
        /// Its range of user ids, if it had a directory.
        slot: Option<u32>,
    },
    /// Send [`NodeCore::report`] soon; reports may be merged.
    Report,
}

/// The node's side of every member's life.
#[derive(Clone, Debug)]
pub struct NodeCore {
    node: NodeId,
    obeyed: Option<Obeyed>,
    /// A desired set that waits until it is known to be saved.
    pending: Option<Box<Desired>>,
    /// Members of the last obeyed desired set of this process, but for those that it only keeps;
    /// `None` before the first.
    named: Option<BTreeSet<MemberId>>,
    members: BTreeMap<MemberId, Member>,
    /// Directories of purged members that are still being removed, with their slots.
    leftovers: BTreeMap<MemberId, Leftover>,
    gone: BTreeSet<MemberId>,
    gone_order: VecDeque<MemberId>,
    /// Slots of directories that cannot be understood and are kept: nobody else gets them.
    reserved_slots: BTreeSet<u32>,
    warned_of_disk_at: Option<Monotonic>,
}

impl NodeCore {
    /// The core of a node of which nothing is known yet: the first event is
    /// [`AgentEventKind::Recovered`].
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            obeyed: None,
            pending: None,
            named: None,
            members: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            gone: BTreeSet::new(),
            gone_order: VecDeque::new(),
            reserved_slots: BTreeSet::new(),
            warned_of_disk_at: None,
        }
    }

    /// Whom the agent obeys; `None` before the first desired set.
    pub fn obeyed(&self) -> Option<&Obeyed> {
        self.obeyed.as_ref()
    }

    /// The state of a member; `None` if the node has none of that id.
    pub fn state(&self, member: MemberId) -> Option<&MemberState> {
        self.members.get(&member).map(|found| &found.state)
    }

    /// What a member is and its range of user ids, where it has a directory.
    pub fn specification(&self, member: MemberId) -> Option<(&MemberSpec, u32)> {
        let found = self.members.get(&member)?;
        found.directory.then_some((&*found.spec, found.slot?))
    }

    /// Members whose command may be running: what is measured.
    pub fn living(&self) -> Vec<MemberId> {
        let alive = |found: &Member| found.guest == member::Guest::Alive;
        self.members
            .iter()
            .filter(|(_, m)| alive(m))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Takes in one event and gives what is to be done, in order; a report at most once, last.
    pub fn step(&mut self, event: AgentEvent) -> Vec<AgentEffect> {
        let now = event.now;
        let mut out = Vec::new();
        match self.take_in(event, &mut out) {
            Touched::Nothing => {}
            Touched::One { member } => {
                let begins = self.members.get(&member).is_some_and(|m| !m.directory);
                let mut room = self.room(now, begins);
                if let Some(found) = self.members.get_mut(&member) {
                    found.advance(member, &mut room, now, &mut out);
                }
            }
            Touched::All => {
                let mut members = self.members.values();
                let begins = members.any(|found| !found.directory && !found.is_at_rest());
                let mut room = self.room(now, begins);
                let members = self.members.iter_mut();
                for (member, found) in members.filter(|(_, found)| !found.is_at_rest()) {
                    found.advance(*member, &mut room, now, &mut out);
                }
                self.advance_leftovers(now, &mut out);
            }
        }
        let before = out.len();
        out.retain(|effect| *effect != AgentEffect::Report);
        if out.len() < before {
            out.push(AgentEffect::Report);
        }
        out
    }

    /// Everything that the node has, to be told to the manager.
    pub fn report(&self, sequence: u64) -> Report {
        let mut members: BTreeMap<MemberId, ReportedMember> = BTreeMap::new();
        let mut settled = Vec::new();
        for (id, found) in &self.members {
            if found.is_settled() {
                settled.push(*id);
                continue;
            }
            let unclaimed = self.named.is_some() && found.want.is_none();
            let reported = ReportedMember {
                id: *id,
                state: found.state.clone(),
                unclaimed,
                spec: unclaimed.then(|| (*found.spec).clone()),
            };
            members.insert(*id, reported);
        }
        for id in self
            .named
            .iter()
            .flatten()
            .filter(|id| self.gone.contains(id))
        {
            members.entry(*id).or_insert(ReportedMember {
                id: *id,
                state: MemberState::Gone,
                unclaimed: false,
                spec: None,
            });
        }
        Report {
            node: self.node,
            sequence,
            incarnation: self.obeyed.map_or(0, |obeyed| obeyed.incarnation),
            epoch: self.obeyed.map_or(0, |obeyed| obeyed.epoch),
            generation: self.obeyed.map_or(0, |obeyed| obeyed.generation),
            members: members.into_values().collect(),
            settled,
        }
    }
}

/// Whose next act has to be looked for after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touched {
    Nothing,
    One { member: MemberId },
    All,
}

impl NodeCore {
    fn take_in(&mut self, event: AgentEvent, out: &mut Vec<AgentEffect>) -> Touched {
        use AgentEventKind as E;
        let now = event.now;
        match event.kind {
            E::Recovered { found } => {
                self.recover(*found, out);
                Touched::All
            }
            E::Desired { desired } => {
                self.take_desired(desired, out);
                Touched::Nothing
            }
            E::ObeyedSaved => {
                self.obey(now, out);
                Touched::All
            }
            E::ObeyedNotSaved => {
                self.pending = None;
                Touched::Nothing
            }
            E::Purged { member } => {
                self.purged(member, out);
                Touched::Nothing
            }
            E::DiskMeasured { disk } => self.take_disk(&disk, now, out),
            E::Tick => Touched::All,
            E::DirectoryMade { member } => self.tell(member, |found| found.directory_made(out)),
            E::DirectoryFailed { member, reason } => {
                self.tell(member, |found| found.directory_failed(reason, now))
            }
            E::Prepared { member } => self.tell(member, Member::prepared),
            E::PrepareFailed { member, reason } => {
                self.tell(member, |found| found.prepare_failed(reason))
            }
            E::Started { member, at } => self.tell(member, |found| found.started(member, at, out)),
            E::StartFailed {
                member,
                reason,
                doubt,
            } => self.tell(member, |found| found.start_failed(reason, doubt)),
            E::StopOrdered { member } => self.tell(member, Member::stop_ordered),
            E::StopNotOrdered { member, late } => {
                self.tell(member, |found| found.stop_not_ordered(late, now))
            }
            E::GuestGone { member } => self.tell(member, Member::guest_gone),
            E::Ended { member, ending } => {
                self.tell(member, |found| found.ended(member, *ending, now))
            }
            E::RecordWritten { member } => self.tell(member, |found| found.record_written(out)),
            E::Removed { member } => self.tell(member, Member::removed),
            E::ActFailed { member } => {
                if let Some(leftover) = self.leftovers.get_mut(&member) {
                    leftover.retry_at = Some(member::after(now.monotonic, RETRY_MICROS));
                }
                self.tell(member, |found| found.act_failed(now, out))
            }
        }
    }

    /// Tells one member something, if it is known.
    fn tell(&mut self, member: MemberId, tell: impl FnOnce(&mut Member)) -> Touched {
        match self.members.get_mut(&member) {
            None => Touched::Nothing,
            Some(found) => {
                tell(found);
                Touched::One { member }
            }
        }
    }

    fn advance_leftovers(&mut self, now: Now, out: &mut Vec<AgentEffect>) {
        for (member, leftover) in &mut self.leftovers {
            let due = leftover.retry_at.is_none_or(|at| now.monotonic >= at);
            if due && !self.members.contains_key(member) {
                // Not again before it has answered; a failure sets the time of the next try.
                leftover.retry_at = Some(Monotonic(u64::MAX));
                out.push(AgentEffect::Purge {
                    member: *member,
                    slot: leftover.slot,
                });
            }
        }
    }

    /// What the node has for members that begin: slots are derived from what is there.
    /// They are looked up only if some member `begins`, for there may be thousands of members.
    fn room(&self, now: Now, begins: bool) -> member::Room {
        let members = self.members.values().filter_map(|found| found.slot);
        let leftovers = self.leftovers.values().filter_map(|leftover| leftover.slot);
        member::Room {
            generation: self.obeyed.as_ref().map_or(0, |obeyed| obeyed.generation),
            wall: now.wall,
            used_slots: members
                .chain(leftovers)
                .chain(self.reserved_slots.iter().copied())
                .filter(|_| begins)
                .collect(),
            next_slot: 0,
        }
    }

    fn purged(&mut self, member: MemberId, out: &mut Vec<AgentEffect>) {
        self.leftovers.remove(&member);
        if let Some(found) = self.members.remove(&member) {
            let state = found.state.after(MemberEvent::Purged);
            assert_eq!(state, Ok(MemberState::Gone), "purged from another state");
            out.push(AgentEffect::Report);
        }
        self.remember_gone(member);
    }

    fn remember_gone(&mut self, member: MemberId) {
        if self.gone.insert(member) {
            self.gone_order.push_back(member);
        }
        let named = |id: &MemberId| self.named.as_ref().is_some_and(|named| named.contains(id));
        while self.gone_order.len() > GONE_LIMIT {
            let Some(place) = self.gone_order.iter().position(|id| !named(id)) else {
                return;
            };
            if let Some(forgotten) = self.gone_order.remove(place) {
                self.gone.remove(&forgotten);
            }
        }
    }
}

#[cfg(test)]
mod tests;
