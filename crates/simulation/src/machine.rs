//! One simulated machine: a real agent core, its disk, and guests with scripted lives.
//!
//! The agent's acts go on in small steps, between which its process may be killed, the power cut, or
//! the machine suspended. The disk keeps what was synced; of the rest a power cut takes a part back.

mod acts;
mod disk;
pub(crate) mod guests;

use crate::clock::{Clocks, MILLI, Micros, SECOND};
use crate::random::Random;
use crate::violation::Violation;
use disk::Disk;
use domain::{ExitCause, ExitHow, MemberId, NodeId, SessionId, Slots};
use guests::Guest;
use lifecycle::agent::{AgentEffect, AgentEvent, AgentEventKind, NodeCore};
use node_api::{Desired, Hello, Obeyed, Report};
use std::collections::{BTreeMap, BTreeSet};

/// What a machine wants of the world around it.
#[derive(Debug)]
pub(crate) enum Doing {
    /// Come back with `deed` after a while.
    After { delay: Micros, deed: Deed },
    /// The report has changed.
    Report,
    /// A desired set was refused.
    Refused,
    /// Whom it obeys could not be saved, so it does not.
    NotSaved,
    /// A guest was told *go*.
    Began { member: MemberId },
    /// A living member was ordered to end, or killed, by the agent.
    Hurt { member: MemberId },
    /// A promise was broken.
    Broken { violation: Violation },
}

/// Something that goes on later on the same machine, unless what it is about is gone.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A step of an act of one agent process.
    Work { process: u64, act: u64 },
    /// A guest's command ends by itself.
    GuestEnds { boot: u64, member: MemberId },
    /// A guest that was asked to stop obeys.
    GuestObeys { boot: u64, member: MemberId },
}

/// For how long the machine suffers from what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suffering {
    pub(crate) acts_fail_until: Micros,
    pub(crate) disk_full_until: Micros,
    pub(crate) slow_until: Micros,
    pub(crate) cut_until: Micros,
    pub(crate) bad_network_until: Micros,
    pub(crate) late_reports_until: Micros,
    /// How late its reports are meanwhile.
    pub(crate) reports_late_by: Micros,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) clocks: Clocks,
    pub(crate) random: Random,
    pub(crate) has_power: bool,
    /// Its operator has switched it off.
    pub(crate) is_off: bool,
    /// It is gone for ever.
    pub(crate) is_destroyed: bool,
    pub(crate) suffers: Suffering,
    pub(crate) agent: Option<Agent>,
    /// Counts agent processes: what an earlier one began comes to nothing.
    pub(crate) process: u64,
    /// Since when its process runs, it was not suspended, and nothing was mended.
    pub(crate) runs_since: Micros,
    boot: u64,
    disk: Disk,
    pub(crate) guests: BTreeMap<MemberId, Guest>,
    /// Greatest desired set that was obeyed and saved for good, to see that it never falls.
    fence: Option<lifecycle::agent::Obeyed>,
}

/// A process of the agent.
#[derive(Debug)]
pub(crate) struct Agent {
    core: NodeCore,
    acts: BTreeMap<u64, Running>,
    next_act: u64,
    watched: BTreeSet<MemberId>,
    /// Those whose preparation hangs until it is abandoned.
    hangs: BTreeSet<MemberId>,
    sequence: u64,
    /// The connection that it believes to have.
    pub(crate) connection: Option<u64>,
    /// It has said hello on this connection, and waits.
    pub(crate) greeting: Option<u64>,
    pub(crate) report_is_due: bool,
    pub(crate) pause: Micros,
}

/// An act on its way, and how many of its steps are done.
#[derive(Clone, Debug)]
struct Running {
    effect: AgentEffect,
    step: u32,
}

/// The pause before the second hello.
pub(crate) const HELLO_PAUSE: Micros = 100 * MILLI;
/// The longest pause between two.
pub(crate) const HELLO_PAUSE_LIMIT: Micros = 10 * SECOND;

impl Machine {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut random = Random::split(seed, "machine", number);
        let ahead = i64::try_from(random.within(0, 4 * SECOND)).expect("seconds");
        let reading = random.within(1, 1 << 40);
        Self {
            id: NodeId(number + 1),
            clocks: Clocks::new(ahead, reading, 0),
            random,
            has_power: true,
            is_off: false,
            is_destroyed: false,
            suffers: Suffering::default(),
            agent: None,
            process: 0,
            runs_since: 0,
            boot: 1,
            disk: Disk::default(),
            guests: BTreeMap::new(),
            fence: None,
        }
    }

    /// It can act now.
    pub(crate) fn is_up(&self) -> bool {
        self.has_power && !self.clocks.is_suspended() && self.agent.is_some()
    }

    /// Something goes on at it.
    pub(crate) fn is_busy(&self) -> bool {
        let acts = self
            .agent
            .as_ref()
            .is_some_and(|agent| !agent.acts.is_empty());
        acts || !self.guests.is_empty()
    }

    /// It can act, and nothing makes it slower or fail.
    pub(crate) fn is_well(&self, truth: Micros) -> bool {
        self.well_since().is_some_and(|since| since <= truth)
    }

    /// Since when that is so, or from when on it will be; `None` while it cannot act.
    pub(crate) fn well_since(&self) -> Option<Micros> {
        let suffers = &self.suffers;
        let ills = [
            suffers.acts_fail_until,
            suffers.disk_full_until,
            suffers.slow_until,
            suffers.cut_until,
            suffers.bad_network_until,
            suffers.late_reports_until,
        ];
        let until = ills.into_iter().fold(self.runs_since, Micros::max);
        self.is_up().then_some(until)
    }

    /// The preparation of a member of `session` hangs.
    pub(crate) fn hangs(&self, session: SessionId) -> bool {
        let agent = self.agent.as_ref();
        agent.is_some_and(|agent| agent.hangs.iter().any(|member| member.session == session))
    }

    /// A new agent process begins.
    pub(crate) fn start_agent(&mut self, truth: Micros) -> Vec<Doing> {
        self.process += 1;
        self.runs_since = truth;
        self.agent = Some(Agent {
            core: NodeCore::new(self.id),
            acts: BTreeMap::new(),
            next_act: 0,
            watched: BTreeSet::new(),
            hangs: BTreeSet::new(),
            sequence: 0,
            connection: None,
            greeting: None,
            report_is_due: false,
            pause: HELLO_PAUSE,
        });
        let found = Box::new(self.disk.recover(self.boot, &self.guests));
        self.tell(AgentEventKind::Recovered { found }, truth)
    }

    /// The agent's process is killed.
    pub(crate) fn kill_agent(&mut self) {
        self.agent = None;
        self.process += 1;
    }

    /// The power goes: no process lives, and what was not synced may be lost.
    pub(crate) fn cut_power(&mut self) {
        self.kill_agent();
        self.has_power = false;
        self.boot += 1;
        self.guests.clear();
        self.disk.cut_power(&mut self.random);
        // That the generation rose is not synced.
        if let Some(fence) = &mut self.fence {
            fence.generation = 0;
        }
    }

    /// It burns, with all that is on it.
    pub(crate) fn destroy(&mut self) {
        self.is_destroyed = true;
        self.disk = Disk::default();
    }

    /// Tells the core something, and takes its acts up.
    pub(crate) fn tell(&mut self, kind: AgentEventKind, truth: Micros) -> Vec<Doing> {
        let mut doings = Vec::new();
        let mut next = Some(kind);
        while let Some(kind) = next.take() {
            let now = self.clocks.now(truth);
            let Some(agent) = &mut self.agent else {
                return doings;
            };
            for effect in agent.core.step(AgentEvent {
                now,
                kind: kind.clone(),
            }) {
                match effect {
                    AgentEffect::Refuse { .. } => doings.push(Doing::Refused),
                    AgentEffect::SaveObeyed { obeyed, must } => {
                        next = Some(self.save_obeyed(obeyed, must, truth, &mut doings));
                    }
                    AgentEffect::Report => doings.push(Doing::Report),
                    effect => doings.push(self.begin(effect, truth)),
                }
            }
        }
        doings
    }

    /// The owner saves whom it obeys before it does anything else.
    fn save_obeyed(
        &mut self,
        obeyed: lifecycle::agent::Obeyed,
        must: bool,
        truth: Micros,
        doings: &mut Vec<Doing>,
    ) -> AgentEventKind {
        if must && self.fails(truth) {
            doings.push(Doing::NotSaved);
            return AgentEventKind::ObeyedNotSaved;
        }
        let known = self
            .fence
            .filter(|known| known.incarnation == obeyed.incarnation);
        if let Some(known) = known.filter(|known| obeyed.epoch < known.epoch) {
            let message = format!(
                "node {} obeys epoch {} after {}",
                self.id, obeyed.epoch, known.epoch
            );
            let violation = Violation::new(message);
            doings.push(Doing::Broken { violation });
        }
        let overtaken = |known: &lifecycle::agent::Obeyed| {
            known.epoch == obeyed.epoch && obeyed.generation < known.generation
        };
        if let Some(known) = known.filter(overtaken) {
            let (id, newer, older) = (self.id, known.generation, obeyed.generation);
            let message = format!("node {id} obeys generation {older} after {newer}");
            let violation = Violation::new(message);
            doings.push(Doing::Broken { violation });
        }
        self.fence = Some(obeyed);
        self.disk.save_obeyed(obeyed, must);
        AgentEventKind::ObeyedSaved
    }

    /// A desired set arrives.
    pub(crate) fn take_desired(&mut self, desired: Desired, truth: Micros) -> Vec<Doing> {
        let desired = Box::new(desired);
        self.tell(AgentEventKind::Desired { desired }, truth)
    }

    pub(crate) fn report(&mut self) -> Option<Report> {
        let agent = self.agent.as_mut()?;
        agent.sequence += 1;
        agent.report_is_due = false;
        Some(agent.core.report(agent.sequence))
    }

    pub(crate) fn hello(&self, offers: &Slots) -> Option<Hello> {
        let agent = self.agent.as_ref()?;
        let obeyed = agent.core.obeyed();
        let rows = [
            "limit.cpu",
            "limit.memory",
            "limit.pids",
            "network.none",
            "pause",
        ];
        let yes = rows.map(|row| (row.to_owned(), domain::Capability::Yes));
        Some(Hello {
            node: self.id,
            name: format!("n{}", self.id.0),
            pool: "default".to_owned(),
            offers: offers.clone(),
            capabilities: BTreeMap::from(yes),
            site: obeyed.map(|obeyed| obeyed.site),
            obeyed: obeyed.map(|obeyed| Obeyed {
                incarnation: obeyed.incarnation,
                epoch: obeyed.epoch,
                generation: obeyed.generation,
            }),
        })
    }

    /// Carries a deed out that was put off.
    pub(crate) fn perform(&mut self, deed: &Deed, truth: Micros) -> Vec<Doing> {
        match *deed {
            Deed::Work { process, act } if process == self.process => self.work(act, truth),
            Deed::GuestEnds { boot, member } if boot == self.boot => {
                let Some(guest) = self.guests.get_mut(&member) else {
                    return Vec::new();
                };
                if guest.is_frozen {
                    guest.is_due = true;
                    return Vec::new();
                }
                let how = guest.exits;
                self.guest_ends(member, ExitCause::Own, ExitHow::Exited { code: how }, truth)
            }
            Deed::GuestObeys { boot, member } if boot == self.boot => {
                let how = ExitHow::Signalled {
                    signal: 15,
                    core_dumped: false,
                };
                self.guest_ends(member, ExitCause::Stopped, how, truth)
            }
            Deed::Work { .. } | Deed::GuestEnds { .. } | Deed::GuestObeys { .. } => Vec::new(),
        }
    }

    /// Everything that the node still has, for a look at the end.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        self.disk.leftovers()
    }

    /// Some act of the machine fails now.
    fn fails(&mut self, truth: Micros) -> bool {
        if truth < self.suffers.acts_fail_until {
            self.random.chance(1, 3)
        } else {
            truth < self.suffers.disk_full_until && self.random.chance(1, 2)
        }
    }
}
