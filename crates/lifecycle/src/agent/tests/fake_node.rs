//! A tiny node: directories, containers, and a service that carries effects out one small step at
//! a time and may be killed between any two of them.

use crate::agent::{
    AgentEffect, AgentEvent, AgentEventKind, Ending, Leftover, NodeCore, Obeyed, Recovered,
    RecoveredGuest, RecoveredMember, RecoveredPause, StartDoubt,
};
use domain::{
    ExitCause, ExitHow, ExitRecord, MemberId, Monotonic, Network, NodeId, NodeLostPolicy, Now,
    Owner, SessionId, SessionSpec, Slots, StdinMode, Timestamp,
};
use node_api::MemberSpec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct FakeDirectory {
    pub(super) slot: u32,
    pub(super) prepared: bool,
    pub(super) marker: bool,
    /// The engine has begun: a guest may have been told *go*.
    pub(super) guest_seen: bool,
    pub(super) started_at: Option<Timestamp>,
    pub(super) guest_record: Option<ExitRecord>,
    pub(super) final_record: Option<ExitRecord>,
    pub(super) upper: bool,
    pub(super) disk_limit: Option<u64>,
}

/// Everything that outlives the agent's process.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) directories: BTreeMap<MemberId, FakeDirectory>,
    pub(super) half_made: BTreeSet<MemberId>,
    pub(super) leftovers: BTreeMap<MemberId, u32>,
    pub(super) gone: Vec<MemberId>,
    /// Of directories that cannot be understood.
    pub(super) reserved_slots: BTreeSet<u32>,
    pub(super) obeyed: Option<Obeyed>,
    pub(super) alive: BTreeSet<MemberId>,
    pub(super) starts: BTreeMap<MemberId, u32>,
    /// Members that were paused once, and whether they stand still now: the engine's groups.
    pub(super) frozen: BTreeMap<MemberId, bool>,
    /// Members whose guests know that they are paused.
    pub(super) told_paused: BTreeSet<MemberId>,
    /// Members that were killed or ordered to stop.
    pub(super) hurt: BTreeSet<MemberId>,
}

/// An effect on its way, and how many of its steps are done.
type Running = (AgentEffect, u32);

#[derive(Debug)]
pub(super) struct FakeNode {
    pub(super) core: NodeCore,
    pub(super) disk: Disk,
    pub(super) running: VecDeque<Running>,
    pub(super) refused: u32,
    pub(super) clock: u64,
    /// Acts of this kind fail once.
    pub(super) fail_next: BTreeSet<&'static str>,
    watched: BTreeSet<MemberId>,
    /// Orders to stop that reached a guest whose command stood still.
    pub(super) orders_while_frozen: u32,
}

pub(super) fn id(number: u64) -> MemberId {
    MemberId {
        session: SessionId(number),
        attempt: 1,
        index: 0,
    }
}

pub(super) fn spec() -> MemberSpec {
    MemberSpec {
        name: "a-session".parse().expect("a name"),
        owner: Owner {
            domain: "default".into(),
            project: "default".into(),
            user: "user".into(),
        },
        array_index: None,
        array_size: None,
        session: Arc::new(SessionSpec {
            image: "host".into(),
            command: vec!["true".into()],
            env: BTreeMap::new(),
            workdir: None,
            slots: Slots::of(10_000, 1 << 30),
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
        }),
    }
}

pub(super) fn guests_record(member: MemberId, cause: ExitCause, at: Timestamp) -> ExitRecord {
    ExitRecord {
        member,
        started_at: Some(at),
        ended_at: at,
        how: ExitHow::Exited { code: 0 },
        cause,
        stdout_bytes: 3,
        stderr_bytes: 0,
        out_of_memory: None,
        reason: None,
        disk_bytes: None,
        limits_reached: None,
        system: None,
    }
}

impl FakeNode {
    pub(super) fn new() -> Self {
        let mut node = Self {
            core: NodeCore::new(NodeId(1)),
            disk: Disk::default(),
            running: VecDeque::new(),
            refused: 0,
            clock: 0,
            fail_next: BTreeSet::new(),
            watched: BTreeSet::new(),
            orders_while_frozen: 0,
        };
        node.crash();
        node
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: Timestamp(i64::try_from(self.clock).expect("a small clock")),
            monotonic: Monotonic(self.clock),
        }
    }

    pub(super) fn tell(&mut self, kind: AgentEventKind) {
        self.clock += 1;
        let now = self.now();
        let effects = self.core.step(AgentEvent { now, kind });
        for effect in effects {
            match effect {
                AgentEffect::Refuse { .. } => self.refused += 1,
                // The service saves before it does anything else.
                AgentEffect::SaveObeyed { obeyed, .. } => {
                    self.disk.obeyed = Some(obeyed);
                    self.tell(AgentEventKind::ObeyedSaved);
                }
                AgentEffect::Report => {}
                effect => self.running.push_back((effect, 0)),
            }
        }
    }

    /// The process is killed, and a new one looks at what is there.
    pub(super) fn crash(&mut self) {
        self.running.clear();
        self.watched.clear();
        self.core = NodeCore::new(NodeId(1));
        self.disk.half_made.clear();
        for member in self.disk.gone.clone() {
            if let Some(directory) = self.disk.directories.remove(&member) {
                self.disk.leftovers.insert(member, directory.slot);
            }
        }
        let members = self
            .disk
            .directories
            .iter()
            .map(|(id, directory)| RecoveredMember {
                id: *id,
                spec: Box::new(spec()),
                slot: directory.slot,
                record: directory.final_record.clone(),
                guest: guest_of(directory, self.disk.alive.contains(id)),
                disk_limit: directory.disk_limit,
                pause: match self.disk.frozen.get(id) {
                    None => RecoveredPause::Never,
                    Some(false) => RecoveredPause::Over,
                    Some(true) => RecoveredPause::Now,
                },
                removed: !directory.upper,
            });
        let leftover = |slot: &u32| Leftover {
            slot: Some(*slot),
            retry_at: None,
        };
        let found = Recovered {
            obeyed: self.disk.obeyed,
            gone: self.disk.gone.clone(),
            leftovers: self
                .disk
                .leftovers
                .iter()
                .map(|(id, s)| (*id, leftover(s)))
                .collect(),
            members: members.collect(),
            reserved_slots: self.disk.reserved_slots.clone(),
        };
        self.tell(AgentEventKind::Recovered {
            found: Box::new(found),
        });
    }

    /// A guest's command ends by itself.
    pub(super) fn guest_ends(&mut self, member: MemberId, cause: ExitCause) {
        if self.disk.frozen.get(&member) == Some(&true) {
            return;
        }
        if self.disk.alive.remove(&member) {
            let record = guests_record(member, cause, self.now().wall);
            let directory = self
                .disk
                .directories
                .get_mut(&member)
                .expect("a guest has one");
            directory.guest_record = Some(record);
            self.see_gone(member);
        }
    }

    /// The kernel kills a guest.
    pub(super) fn guest_dies(&mut self, member: MemberId) {
        self.disk.frozen.remove(&member);
        if self.disk.alive.remove(&member) {
            self.see_gone(member);
        }
    }

    fn see_gone(&mut self, member: MemberId) {
        if self.watched.remove(&member) {
            self.tell(AgentEventKind::GuestGone { member });
        }
    }

    /// Does one small step of the `nth` running effect.
    pub(super) fn work(&mut self, nth: usize) {
        if self.running.is_empty() {
            return;
        }
        let nth = nth % self.running.len();
        let (effect, step) = self.running.remove(nth).expect("below the length");
        let failing = self.fail_next.remove(word(&effect));
        if let Some(kind) = failing.then(|| self.failure(&effect, step)).flatten() {
            return self.tell(kind);
        }
        if !self.act(&effect, step) {
            self.running.insert(nth, (effect, step + 1));
        }
    }

    /// Works until exactly these acts run.
    pub(super) fn work_until(&mut self, acts: &[&str]) {
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen = self.running.iter().map(|(act, _)| word(act)).collect();
            if seen == acts {
                return;
            }
            self.work(0);
        }
        panic!("it does not come to {acts:?}, it does {seen:?}");
    }

    /// One step; true if it was the last.
    fn act(&mut self, effect: &AgentEffect, step: u32) -> bool {
        use AgentEffect as A;
        use AgentEventKind as E;
        match effect {
            A::MakeDirectory { member, slot, .. } => return self.make(*member, *slot, step),
            A::Prepare { member } => {
                self.directory(*member).prepared = true;
                self.tell(E::Prepared { member: *member });
            }
            A::Start { member } => return self.start(*member, step),
            A::Watch { member } => {
                if self.disk.alive.contains(member) {
                    self.watched.insert(*member);
                } else {
                    self.tell(E::GuestGone { member: *member });
                }
            }
            A::OrderStop {
                member,
                disk_bytes: Some(bytes),
                ..
            } if step == 0 => {
                if let Some(directory) = self.disk.directories.get_mut(member) {
                    directory.disk_limit = Some(*bytes);
                }
                return false;
            }
            A::Pause { member } => return self.hold(*member, true, step),
            A::Resume { member } => return self.hold(*member, false, step),
            A::OrderStop { member, .. } => {
                self.orders_while_frozen += u32::from(self.disk.frozen.get(member) == Some(&true));
                self.disk.hurt.insert(*member);
                self.tell(E::StopOrdered { member: *member });
                self.guest_ends(*member, ExitCause::Stopped);
            }
            A::Kill { member } => {
                self.disk.hurt.insert(*member);
                self.guest_dies(*member);
            }
            A::End { member } => {
                assert!(
                    !self.disk.alive.contains(member),
                    "looked at while it lives"
                );
                let record = self.directory(*member).guest_record.clone();
                let ending = Box::new(Ending {
                    record,
                    ..Ending::default()
                });
                self.tell(E::Ended {
                    member: *member,
                    ending,
                });
            }
            A::WriteRecord { record } => {
                let member = record.member;
                self.directory(member).final_record = Some((**record).clone());
                self.tell(E::RecordWritten { member });
            }
            A::Remove { member } => {
                assert!(!self.disk.alive.contains(member), "removed while it lives");
                self.directory(*member).upper = false;
                self.tell(E::Removed { member: *member });
            }
            A::Purge { member, .. } => return self.purge(*member, step),
            A::AbandonPrepare { .. } | A::WarnOfDisk { .. } => {}
            A::Refuse { .. } | A::SaveObeyed { .. } | A::Report => unreachable!("done at once"),
        }
        true
    }

    fn directory(&mut self, member: MemberId) -> &mut FakeDirectory {
        self.disk
            .directories
            .get_mut(&member)
            .expect("the directory comes first, and goes last")
    }

    fn make(&mut self, member: MemberId, slot: u32, step: u32) -> bool {
        if step == 0 {
            self.disk.half_made.insert(member);
            return false;
        }
        self.disk.half_made.remove(&member);
        let taken = self
            .disk
            .directories
            .values()
            .any(|other| other.slot == slot);
        let left = self.disk.leftovers.values().any(|other| *other == slot);
        assert!(!taken && !left, "slot {slot} given twice");
        let directory = FakeDirectory {
            slot,
            ..FakeDirectory::default()
        };
        let before = self.disk.directories.insert(member, directory);
        assert!(before.is_none(), "a directory is made once");
        self.tell(AgentEventKind::DirectoryMade { member });
        true
    }

    fn start(&mut self, member: MemberId, step: u32) -> bool {
        match step {
            0 => self.directory(member).marker = true,
            1 => {
                let directory = self.directory(member);
                directory.guest_seen = true;
                directory.upper = true;
                *self.disk.starts.entry(member).or_default() += 1;
                self.disk.alive.insert(member);
            }
            2 => self.directory(member).started_at = Some(self.now().wall),
            _ => {
                let at = self.now().wall;
                self.tell(AgentEventKind::Started { member, at });
                return true;
            }
        }
        false
    }

    /// The engine first, then the guest.
    fn hold(&mut self, member: MemberId, paused: bool, step: u32) -> bool {
        use AgentEventKind as E;
        if !self.disk.alive.contains(&member) {
            let reason = "its guest is gone".to_owned();
            self.tell(match paused {
                true => E::PauseFailed { member, reason },
                false => E::ResumeFailed { member },
            });
            return true;
        }
        match (step, paused) {
            (0, true) => {
                self.disk.frozen.insert(member, true);
                return false;
            }
            (0, false) => {
                self.disk
                    .frozen
                    .entry(member)
                    .and_modify(|held| *held = false);
                return false;
            }
            (1, true) => {
                self.disk.told_paused.insert(member);
                return false;
            }
            (1, false) => {
                self.disk.told_paused.remove(&member);
                return false;
            }
            (_, true) => self.tell(E::Paused { member }),
            (_, false) => self.tell(E::Resumed { member }),
        }
        true
    }

    fn purge(&mut self, member: MemberId, step: u32) -> bool {
        assert!(!self.disk.alive.contains(&member), "purged while it lives");
        match step {
            0 => {
                if !self.disk.gone.contains(&member) {
                    self.disk.gone.push(member);
                }
            }
            1 => {
                if let Some(directory) = self.disk.directories.remove(&member) {
                    assert!(!directory.upper, "the engine's part goes first");
                    self.disk.leftovers.insert(member, directory.slot);
                }
            }
            _ => {
                self.disk.leftovers.remove(&member);
                self.tell(AgentEventKind::Purged { member });
                return true;
            }
        }
        false
    }

    /// Works and lets time pass until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..40 {
            for _ in 0..10_000 {
                if self.running.is_empty() {
                    break;
                }
                self.work(0);
            }
            assert!(self.running.is_empty(), "it goes round: {:?}", self.running);
            self.clock += 3_000_000;
            self.tell(AgentEventKind::Tick);
        }
    }
}

fn guest_of(directory: &FakeDirectory, alive: bool) -> RecoveredGuest {
    if alive {
        let since = directory.started_at.unwrap_or(Timestamp(0));
        RecoveredGuest::Alive { since }
    } else if directory.marker && directory.guest_seen {
        RecoveredGuest::Gone {
            since: directory.started_at,
        }
    } else {
        RecoveredGuest::NeverStarted
    }
}

pub(super) fn word(effect: &AgentEffect) -> &'static str {
    match effect {
        AgentEffect::Refuse { .. } => "refuse",
        AgentEffect::SaveObeyed { .. } => "save",
        AgentEffect::MakeDirectory { .. } => "make",
        AgentEffect::Prepare { .. } => "prepare",
        AgentEffect::AbandonPrepare { .. } => "abandon",
        AgentEffect::Start { .. } => "start",
        AgentEffect::Watch { .. } => "watch",
        AgentEffect::OrderStop { .. } => "order",
        AgentEffect::Pause { .. } => "pause",
        AgentEffect::Resume { .. } => "resume",
        AgentEffect::WarnOfDisk { .. } => "warn",
        AgentEffect::Kill { .. } => "kill",
        AgentEffect::End { .. } => "end",
        AgentEffect::WriteRecord { .. } => "record",
        AgentEffect::Remove { .. } => "remove",
        AgentEffect::Purge { .. } => "purge",
        AgentEffect::Report => "report",
    }
}

impl FakeNode {
    /// What the service tells when an effect fails before its `step`.
    fn failure(&mut self, effect: &AgentEffect, step: u32) -> Option<AgentEventKind> {
        use AgentEventKind as E;
        let reason = "it was told to fail".to_owned();
        Some(match effect {
            AgentEffect::MakeDirectory { member, .. } => E::DirectoryFailed {
                member: *member,
                reason,
            },
            AgentEffect::Prepare { member } => E::PrepareFailed {
                member: *member,
                reason,
            },
            AgentEffect::Start { member } => {
                // The engine cleans up after itself.
                self.disk.alive.remove(member);
                let doubt = if step < 2 {
                    StartDoubt::NeverRan
                } else {
                    StartDoubt::MayHaveRun
                };
                E::StartFailed {
                    member: *member,
                    reason,
                    doubt,
                }
            }
            AgentEffect::Pause { member } => {
                // Made to go on again, as far as it had come.
                self.disk
                    .frozen
                    .entry(*member)
                    .and_modify(|held| *held = false);
                self.disk.told_paused.remove(member);
                E::PauseFailed {
                    member: *member,
                    reason,
                }
            }
            AgentEffect::Resume { member } => E::ResumeFailed { member: *member },
            AgentEffect::OrderStop { member, .. } => E::StopNotOrdered {
                member: *member,
                late: false,
            },
            AgentEffect::WriteRecord { record } => E::ActFailed {
                member: record.member,
            },
            AgentEffect::End { member }
            | AgentEffect::Remove { member }
            | AgentEffect::Purge { member, .. } => E::ActFailed { member: *member },
            _ => return None,
        })
    }
}
