//! Acts of the agent, step by step.

use super::disk::Directory;
use super::{Deed, Doing, Machine, Running};
use crate::clock::{HOUR, MILLI, Micros, SECOND};
use crate::violation::Violation;
use domain::{ExitCause, ExitHow, MemberId};
use lifecycle::agent::{AgentEffect, AgentEventKind, Ending, StartDoubt};
use node_api::MemberSpec;

/// A preparation that hangs ends only when it is abandoned.
const HANGS: Micros = 1_000 * HOUR;

/// How a step of an act went.
enum Step {
    /// There is another one.
    Next,
    /// It was the last; its result, if it has one.
    Done(Option<AgentEventKind>),
}

impl Machine {
    /// Takes an act up: its first step is done after a while.
    pub(super) fn begin(&mut self, effect: AgentEffect, truth: Micros) -> Doing {
        let delay = self.delay(&effect, truth);
        let process = self.process;
        let agent = self.agent.as_mut().expect("its core has just asked");
        let act = agent.next_act;
        agent.next_act += 1;
        agent.acts.insert(act, Running { effect, step: 0 });
        let deed = Deed::Work { process, act };
        Doing::After { delay, deed }
    }

    /// How long a step takes.
    fn delay(&mut self, effect: &AgentEffect, truth: Micros) -> Micros {
        if truth < self.suffers.slow_until {
            if let AgentEffect::Prepare { member } = effect
                && self.random.chance(1, 3)
            {
                let agent = self.agent.as_mut().expect("it works");
                agent.hangs.insert(*member);
                return HANGS;
            }
            return self.random.delay(SECOND, 200 * SECOND);
        }
        match effect {
            AgentEffect::Prepare { .. } => self.random.delay(MILLI, 20 * SECOND),
            AgentEffect::Start { .. } => self.random.delay(MILLI, 200 * MILLI),
            _ => self.random.delay(100, 20 * MILLI),
        }
    }

    /// One step of an act.
    pub(super) fn work(&mut self, act: u64, truth: Micros) -> Vec<Doing> {
        let Some(agent) = &mut self.agent else {
            return Vec::new();
        };
        let Some(running) = agent.acts.remove(&act) else {
            return Vec::new();
        };
        let Running { effect, step } = running;
        let mut doings = Vec::new();
        let failed = self
            .fails(truth)
            .then(|| self.failure(&effect, step, truth, &mut doings));
        let done = match failed.flatten() {
            Some(kind) => Step::Done(Some(kind)),
            None => self.act(&effect, step, truth, &mut doings),
        };
        match done {
            Step::Next => {
                let delay = self.delay(&effect, truth);
                let process = self.process;
                let step = step + 1;
                if let Some(agent) = &mut self.agent {
                    agent.acts.insert(act, Running { effect, step });
                }
                let deed = Deed::Work { process, act };
                doings.push(Doing::After { delay, deed });
            }
            Step::Done(Some(kind)) => doings.extend(self.tell(kind, truth)),
            Step::Done(None) => {}
        }
        doings
    }

    fn act(
        &mut self,
        effect: &AgentEffect,
        step: u32,
        truth: Micros,
        doings: &mut Vec<Doing>,
    ) -> Step {
        use AgentEffect as A;
        use AgentEventKind as E;
        match effect {
            A::MakeDirectory {
                member, spec, slot, ..
            } => {
                return self.make(*member, spec, *slot, step, doings);
            }
            A::Prepare { member } => return done(E::Prepared { member: *member }),
            A::Start { member } => return self.start(*member, step, truth, doings),
            A::Watch { member } => {
                if !self.guests.contains_key(member) {
                    return done(E::GuestGone { member: *member });
                }
                if let Some(agent) = &mut self.agent {
                    agent.watched.insert(*member);
                }
            }
            A::OrderStop {
                member,
                grace_ms,
                disk_bytes,
                ..
            } => {
                return self.order_stop(*member, *grace_ms, *disk_bytes, doings);
            }
            A::Pause { member } => return self.hold(*member, true, step, truth, doings),
            A::Resume { member } => return self.hold(*member, false, step, truth, doings),
            A::Kill { member } => {
                doings.push(Doing::Hurt { member: *member });
                // A kill may be late; the core asks again.
                if self.random.chance(9, 10) {
                    let gone = self.guest_dies(*member, truth);
                    doings.extend(gone);
                }
            }
            A::End { member } => return self.end(*member, doings),
            A::WriteRecord { record } => {
                let member = record.member;
                if let Some(directory) = self.disk.directory(member) {
                    directory.final_record = Some((**record).clone());
                }
                return done(E::RecordWritten { member });
            }
            A::Remove { member } => {
                self.expect_dead(*member, "its container is removed", doings);
                if let Some(directory) = self.disk.directory(*member) {
                    directory.has_container = false;
                }
                return done(E::Removed { member: *member });
            }
            A::Purge { member, .. } => return self.purge(*member, step, doings),
            A::AbandonPrepare { member } => return self.abandon(*member),
            A::WarnOfDisk { .. } => {}
            A::Refuse { .. } | A::SaveObeyed { .. } | A::Report => unreachable!("done at once"),
        }
        Step::Done(None)
    }

    fn make(
        &mut self,
        member: MemberId,
        spec: &MemberSpec,
        slot: u32,
        step: u32,
        doings: &mut Vec<Doing>,
    ) -> Step {
        if step == 0 {
            // Made aside: nothing of it is found after a crash.
            return Step::Next;
        }
        if step > 1 {
            self.disk.sync(member);
            return done(AgentEventKind::DirectoryMade { member });
        }
        let own = self.disk.directory(member);
        let is_own = own.is_some_and(|own| !own.is_synced && own.slot == slot);
        if !is_own && self.disk.is_slot_used(slot) {
            broken(
                doings,
                format!(
                    "range {slot} of user ids of node {} is given twice",
                    self.id
                ),
            );
        }
        let directory = Directory {
            spec: Box::new(spec.clone()),
            slot,
            boot: self.boot,
            is_marked: false,
            has_traces: false,
            started_at: None,
            guest_record: None,
            final_record: None,
            has_container: false,
            disk_limit: None,
            was_paused: false,
            is_synced: false,
        };
        if !self.disk.make(member, directory) {
            broken(doings, format!("the directory of {member} is made twice"));
        }
        Step::Next
    }

    fn start(
        &mut self,
        member: MemberId,
        step: u32,
        truth: Micros,
        doings: &mut Vec<Doing>,
    ) -> Step {
        let at = self.clocks.now(truth).wall;
        let Some(directory) = self.disk.directory(member) else {
            broken(doings, format!("{member} is started without a directory"));
            return Step::Done(None);
        };
        match step {
            0 => directory.is_marked = true,
            1 => {
                directory.has_traces = true;
                directory.has_container = true;
                let spec = directory.spec.clone();
                doings.extend(self.guest_begins(member, &spec));
            }
            2 => directory.started_at = Some(at),
            _ => return done(AgentEventKind::Started { member, at }),
        }
        Step::Next
    }

    fn order_stop(
        &mut self,
        member: MemberId,
        grace_ms: u64,
        disk_bytes: Option<u64>,
        doings: &mut Vec<Doing>,
    ) -> Step {
        doings.push(Doing::Hurt { member });
        if let (Some(directory), Some(_)) = (self.disk.directory(member), disk_bytes) {
            directory.disk_limit = disk_bytes;
        }
        let Some(guest) = self.guests.get(&member) else {
            return done(AgentEventKind::StopNotOrdered {
                member,
                late: false,
            });
        };
        if guest.hangs {
            return done(AgentEventKind::StopNotOrdered { member, late: true });
        }
        let grace = grace_ms * MILLI;
        let delay = match self.random.within(0, 4) {
            // It does not mind the signal.
            0 => grace,
            _ => self.random.delay(MILLI, 2 * SECOND).min(grace),
        };
        let boot = self.boot;
        let deed = Deed::GuestObeys { boot, member };
        doings.push(Doing::After { delay, deed });
        done(AgentEventKind::StopOrdered { member })
    }

    /// The engine first, then the guest.
    fn hold(
        &mut self,
        member: MemberId,
        is_paused: bool,
        step: u32,
        truth: Micros,
        doings: &mut Vec<Doing>,
    ) -> Step {
        use AgentEventKind as E;
        let Some(guest) = self.guests.get_mut(&member) else {
            let reason = "its guest is gone".to_owned();
            return done(match is_paused {
                true => E::PauseFailed { member, reason },
                false => E::ResumeFailed { member },
            });
        };
        if step == 0 {
            guest.is_frozen = is_paused;
            let ends = !is_paused && guest.is_due;
            let code = guest.exits;
            if let Some(directory) = self.disk.directory(member) {
                directory.was_paused = true;
            }
            if ends {
                let how = ExitHow::Exited { code };
                doings.extend(self.guest_ends(member, ExitCause::Own, how, truth));
            }
            return Step::Next;
        }
        done(match is_paused {
            true => E::Paused { member },
            false => E::Resumed { member },
        })
    }

    fn end(&mut self, member: MemberId, doings: &mut Vec<Doing>) -> Step {
        self.expect_dead(member, "its end is looked at", doings);
        let record = self
            .disk
            .directory(member)
            .and_then(|d| d.guest_record.clone());
        let ending = Box::new(Ending {
            record,
            ..Ending::default()
        });
        done(AgentEventKind::Ended { member, ending })
    }

    fn purge(&mut self, member: MemberId, step: u32, doings: &mut Vec<Doing>) -> Step {
        self.expect_dead(member, "it is purged", doings);
        match step {
            0 => {
                if !self.disk.gone.contains(&member) {
                    self.disk.gone.push(member);
                }
            }
            1 => self.disk.set_aside(member),
            _ => {
                self.disk.remove(member);
                return done(AgentEventKind::Purged { member });
            }
        }
        Step::Next
    }

    /// The preparation that runs answers soon.
    fn abandon(&mut self, member: MemberId) -> Step {
        let Some(agent) = &mut self.agent else {
            return Step::Done(None);
        };
        let prepares = |running: &Running| running.effect == AgentEffect::Prepare { member };
        let before = agent.acts.len();
        agent.acts.retain(|_, running| !prepares(running));
        agent.hangs.remove(&member);
        if agent.acts.len() == before {
            return Step::Done(None);
        }
        let reason = "it was abandoned".to_owned();
        done(AgentEventKind::PrepareFailed { member, reason })
    }

    fn expect_dead(&self, member: MemberId, what: &str, doings: &mut Vec<Doing>) {
        if self.guests.contains_key(&member) {
            broken(doings, format!("{what} while {member} lives"));
        }
    }

    /// What the service tells when an act fails before its `step`; none where it cannot.
    fn failure(
        &mut self,
        effect: &AgentEffect,
        step: u32,
        truth: Micros,
        doings: &mut Vec<Doing>,
    ) -> Option<AgentEventKind> {
        use AgentEventKind as E;
        let reason = "the plan says so".to_owned();
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
                // The engine removes what it made, and kills what it began.
                doings.extend(self.guest_dies(*member, truth));
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
                if let Some(guest) = self.guests.get_mut(member) {
                    guest.is_frozen = false;
                }
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

fn done(kind: AgentEventKind) -> Step {
    Step::Done(Some(kind))
}

fn broken(doings: &mut Vec<Doing>, message: String) {
    let violation = Violation::new(message);
    doings.push(Doing::Broken { violation });
}
