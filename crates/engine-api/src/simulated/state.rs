//! The containers of a simulated engine, and what was left of former ones.

use super::life::{Ending, Life, Output};
use crate::capability::Fingerprint;
use crate::container::ContainerSpec;
use crate::engine::{EngineError, Found, Pause, RemoveReport, StartError, Started, Usage};
use domain::amounts::WHOLE;
use domain::{Capability, ExitRecord, MemberId, Network, Timestamp};
use std::collections::BTreeMap;
use std::task::Waker;

/// Everything behind the engine's lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) fingerprint: Fingerprint,
    pub(super) launcher_gone: bool,
    pub(super) left: BTreeMap<MemberId, Left>,
    pub(super) starts: BTreeMap<MemberId, u32>,
    containers: BTreeMap<MemberId, Container>,
    now: Timestamp,
}

/// What a guest left on the disk.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) record: ExitRecord,
    pub(super) output: Output,
}

#[derive(Debug)]
struct Container {
    life: Life,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// Since when it stands still.
    paused_at: Option<Timestamp>,
    /// How long it stood still before that, in microseconds.
    stood_micros: u64,
    was_paused: bool,
    waiting: Vec<Waker>,
}

impl Container {
    /// How long it has run by `now`, without the time in which it stood still.
    fn ran_micros(&self, now: Timestamp) -> u64 {
        let until = [self.ended_at, self.paused_at].into_iter().flatten();
        let until = until.fold(now, Timestamp::min);
        let lived = until.micros_since(self.started_at);
        lived.saturating_sub(self.stood_micros)
    }

    fn pause(&self) -> Pause {
        match self.paused_at {
            Some(_) => Pause::Now,
            None if self.was_paused => Pause::Over,
            None => Pause::Never,
        }
    }

    /// When it ends by itself.
    fn ends_at(&self) -> Option<Timestamp> {
        if self.paused_at.is_some() {
            return None;
        }
        let lasts = self.life.lasts_micros?.saturating_add(self.stood_micros);
        let lasts = i64::try_from(lasts).unwrap_or(i64::MAX);
        Some(Timestamp(self.started_at.0.saturating_add(lasts)))
    }

    /// What it uses at `now`, or used until it ended.
    fn usage(&self, now: Timestamp) -> Usage {
        let cpu = self.ran_micros(now).saturating_mul(self.life.cpu) / WHOLE;
        let usage = self.life.usage.clone();
        Usage {
            cpu_micros: usage.cpu_micros.saturating_add(cpu),
            ..usage
        }
    }
}

impl State {
    pub(super) fn new(fingerprint: Fingerprint, now: Timestamp) -> Self {
        Self {
            fingerprint,
            launcher_gone: false,
            left: BTreeMap::new(),
            starts: BTreeMap::new(),
            containers: BTreeMap::new(),
            now,
        }
    }

    pub(super) fn start(
        &mut self,
        container: &ContainerSpec,
        life: Life,
    ) -> Result<Started, StartError> {
        let member = container.member;
        if self.is_alive(member) {
            return Ok(Started { already: true });
        }
        if self.containers.contains_key(&member) || self.left.contains_key(&member) {
            return Err(StartError::Act {
                act: "start a member".to_owned(),
                reason: "it has run and ended".to_owned(),
            });
        }
        if let Some((row, reason)) = self.not_enforceable(container) {
            return Err(StartError::NotEnforceable { row, reason });
        }
        if let Some(reason) = life.refused {
            return Err(StartError::Act {
                act: "start the container".to_owned(),
                reason,
            });
        }
        *self.starts.entry(member).or_default() += 1;
        let made = Container {
            life,
            started_at: self.now,
            ended_at: None,
            paused_at: None,
            stood_micros: 0,
            was_paused: false,
            waiting: Vec::new(),
        };
        self.containers.insert(member, made);
        // A life without length is over at once.
        self.advance(0);
        Ok(Started { already: false })
    }

    /// The first limit that was asked for and is not had.
    fn not_enforceable(&self, container: &ContainerSpec) -> Option<(&'static str, String)> {
        if container.limits.best_effort {
            return None;
        }
        let network = match container.network {
            Network::None => "network.none",
            Network::Host => "network.host",
            Network::Egress => "network.egress",
        };
        let limits = container.limits.asked;
        let limits = [
            ("limit.cpu", limits.cpu),
            ("limit.memory", limits.memory),
            ("limit.pids", limits.pids),
        ];
        let limits = limits.into_iter().filter(|(_, asked)| *asked);
        let mut asked: Vec<&'static str> = limits.map(|(row, _)| row).collect();
        asked.push(network);
        if container.root.read_only {
            asked.push("root.read-only");
        }
        asked
            .into_iter()
            .find_map(|row| match self.fingerprint.capabilities.get(row) {
                Some(Capability::Yes) => None,
                Some(Capability::No { reason }) => Some((row, reason.clone())),
                None => Some((row, "the engine does not know this row".to_owned())),
            })
    }

    pub(super) fn list(&self) -> Vec<Found> {
        let containers = self.containers.iter();
        containers
            .map(|(member, each)| Found {
                member: *member,
                alive: each.ended_at.is_none(),
                pause: each.pause(),
            })
            .collect()
    }

    pub(super) fn usage(&self, member: MemberId) -> Result<Usage, EngineError> {
        let container = self
            .containers
            .get(&member)
            .ok_or(EngineError::Absent { member })?;
        Ok(container.usage(self.now))
    }

    /// Only one that lives; its time is not counted on.
    pub(super) fn pause(&mut self, member: MemberId) -> Result<(), EngineError> {
        let lacks = |row: &Capability| matches!(row, Capability::No { .. });
        if self.fingerprint.capabilities.get("pause").is_none_or(lacks) {
            return Err(EngineError::Unsupported { row: "pause" });
        }
        let now = self.now;
        let living = self.containers.get_mut(&member);
        let living = living.filter(|each| each.ended_at.is_none());
        let container = living.ok_or(EngineError::Absent { member })?;
        container.paused_at.get_or_insert(now);
        container.was_paused = true;
        Ok(())
    }

    pub(super) fn resume(&mut self, member: MemberId) -> Result<(), EngineError> {
        let now = self.now;
        if let Some(container) = self.containers.get_mut(&member)
            && let Some(at) = container.paused_at.take()
        {
            container.stood_micros += now.micros_since(at);
        }
        Ok(())
    }

    /// What a command has written by now.
    pub(super) fn output(&self, member: MemberId) -> Option<Output> {
        if let Some(left) = self.left.get(&member) {
            return Some(left.output.clone());
        }
        let container = self.containers.get(&member)?;
        let every = container.life.line_every_micros?;
        let lines = container.ran_micros(self.now) / every.max(1);
        let stdout: String = (1..=lines).map(|line| format!("{line}\n")).collect();
        Some(Output {
            stdout: stdout.into_bytes(),
            stderr: Vec::new(),
        })
    }

    pub(super) fn remove(&mut self, member: MemberId) -> RemoveReport {
        let ended_by_itself = self.left.contains_key(&member);
        self.end(member, None);
        let Some(container) = self.containers.remove(&member) else {
            return RemoveReport::default();
        };
        let usage = container.usage(self.now);
        let ending = ended_by_itself.then_some(container.life.ending);
        RemoveReport {
            out_of_memory: ending.and_then(|ending| ending.out_of_memory),
            usage: Some(usage),
        }
    }

    /// Lets time pass, one end after the other, so that each has its own moment.
    pub(super) fn advance(&mut self, micros: u64) {
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        let target = Timestamp(self.now.0.saturating_add(micros));
        while let Some((at, member)) = self.next_end().filter(|(at, _)| *at <= target) {
            self.now = self.now.max(at);
            let ending = self
                .containers
                .get(&member)
                .map(|each| each.life.ending.clone());
            self.end(member, ending);
        }
        self.now = target;
    }

    fn next_end(&self) -> Option<(Timestamp, MemberId)> {
        let living = self
            .containers
            .iter()
            .filter(|(_, each)| each.ended_at.is_none());
        living
            .filter_map(|(member, each)| Some((each.ends_at()?, *member)))
            .min()
    }

    /// Ends a life; with `None` the guest had no time to leave a record.
    pub(super) fn end(&mut self, member: MemberId, ending: Option<Ending>) {
        let Some(container) = self
            .containers
            .get_mut(&member)
            .filter(|each| each.ended_at.is_none())
        else {
            return;
        };
        container.ended_at = Some(self.now);
        container.waiting.drain(..).for_each(Waker::wake);
        if let Some(ending) = ending {
            let length = |bytes: &[u8]| u64::try_from(bytes.len()).expect("memory is smaller");
            let record = ExitRecord {
                member,
                started_at: Some(container.started_at),
                ended_at: self.now,
                how: ending.how,
                cause: ending.cause,
                stdout_bytes: length(&ending.output.stdout),
                stderr_bytes: length(&ending.output.stderr),
                // Only the engine reads the kernel's counts, when it removes the group.
                out_of_memory: None,
                reason: None,
                disk_bytes: None,
                limits_reached: None,
                system: None,
            };
            self.left.insert(
                member,
                Left {
                    record,
                    output: ending.output,
                },
            );
        }
    }

    pub(super) fn reboot(&mut self) {
        for container in std::mem::take(&mut self.containers).into_values() {
            container.waiting.into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn is_alive(&self, member: MemberId) -> bool {
        self.containers
            .get(&member)
            .is_some_and(|container| container.ended_at.is_none())
    }

    /// Wakes `waker` when `member` ends; it must be alive. A waker that would wake the same task
    /// as one that waits already is not added again.
    pub(super) fn wake_at_end(&mut self, member: MemberId, waker: &Waker) {
        let container = self.containers.get_mut(&member).expect("it is alive");
        if !container
            .waiting
            .iter()
            .any(|waiting| waiting.will_wake(waker))
        {
            container.waiting.push(waker.clone());
        }
    }
}
