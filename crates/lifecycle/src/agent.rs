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
mod messages;
mod obeying;
mod recovery;

use crate::agent::member::Member;
use crate::planted::{Planted, planted};
use domain::{MemberEvent, MemberId, MemberPause, MemberState, Monotonic, NodeId, Now};
use node_api::{Desired, MemberSpec, Report, ReportedMember};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use disk::{
    DISK_LOOK_MOST_MICROS, DiskBegan, DiskUsage, OwnDisk, disk_line, disk_look_micros,
    disk_unpromised,
};
pub use member::RecoveredPause;
pub use messages::{AgentEffect, AgentEvent, AgentEventKind, Ending, StartDoubt};
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

    /// The ranges of user ids that the next members get, if nothing changes before.
    pub fn next_slots(&self, count: usize) -> Vec<u32> {
        let used = self.used_slots();
        let free = (0..SLOT_LIMIT).filter(|slot| !used.contains(slot));
        free.take(count).collect()
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
                pause: found.shown_pause(),
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
                pause: MemberPause::Off,
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
            E::Paused { member } => self.tell(member, |found| found.paused(out)),
            E::PauseFailed { member, reason } => {
                self.tell(member, |found| found.pause_failed(reason, now, out))
            }
            E::Resumed { member } => self.tell(member, |found| found.resumed(out)),
            E::ResumeFailed { member } => self.tell(member, |found| found.resume_failed(now)),
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
        let used_slots = if begins {
            self.used_slots()
        } else {
            BTreeSet::new()
        };
        member::Room {
            generation: self.obeyed.as_ref().map_or(0, |obeyed| obeyed.generation),
            wall: now.wall,
            used_slots,
            next_slot: 0,
        }
    }

    fn used_slots(&self) -> BTreeSet<u32> {
        let members = self.members.values().filter_map(|found| found.slot);
        let leftovers = self.leftovers.values().filter_map(|leftover| leftover.slot);
        let leftovers = leftovers.filter(|_| !planted(Planted::IdsOfLeftoverAreFree));
        let used = members.chain(leftovers);
        used.chain(self.reserved_slots.iter().copied()).collect()
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
