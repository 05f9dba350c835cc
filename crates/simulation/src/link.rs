//! The network between agents and managers.
//!
//! A connection carries messages that may be lost, doubled, late and out of order. The manager takes
//! nothing in that comes by another connection than the node's present one; an agent obeys whatever
//! arrives, however late, for the fence is in the message.

use crate::clock::{MILLI, MINUTE, Micros, SECOND};
use crate::machine::{Doing, HELLO_PAUSE, HELLO_PAUSE_LIMIT};
use crate::manager::{Command, ManagerId};
use crate::world::{Happening, World};
use domain::NodeId;
use node_api::Desired;

/// How long an agent waits for an answer.
const ANSWER_LIMIT: Micros = 12 * SECOND;
/// A report is sent at least this often.
const BEAT: Micros = 10 * SECOND;
/// A report is sent at most this often.
const REPORT_PAUSE: Micros = 20 * MILLI;
/// From a hello that nobody waits for the answer of until its connection is seen to be gone.
const BREAK_SEEN: Micros = 15 * SECOND;
/// Longest pause between two tries to tell a node.
const TELL_PAUSE_LIMIT: Micros = 5 * SECOND;

/// One connection of one agent process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) node: usize,
    pub(crate) process: u64,
    pub(crate) connection: u64,
}

/// What becomes of a message.
enum Fate {
    Lost,
    Arrives {
        after: Micros,
        again: Option<Micros>,
    },
}

impl World {
    fn fate(&mut self, node: usize) -> Fate {
        let now = self.now;
        let suffers = &self.machines[node].suffers;
        if now < suffers.cut_until {
            return Fate::Lost;
        }
        let bad = now < suffers.bad_network_until;
        let latency = self.latency();
        let random = &mut self.random;
        if bad {
            if random.chance(1, 5) {
                return Fate::Lost;
            }
            let again = random.chance(1, 4).then(|| random.delay(MILLI, 5 * MINUTE));
            let after = random.delay(MILLI, 20 * SECOND);
            return Fate::Arrives { after, again };
        }
        let again = random
            .chance(1, 500)
            .then(|| random.delay(MILLI, 5 * MINUTE));
        Fate::Arrives {
            after: latency,
            again,
        }
    }

    /// The agent presents itself, on a new connection.
    pub(crate) fn say_hello(&mut self, node: usize, process: u64) {
        let offers = Self::offers();
        let machine = &mut self.machines[node];
        if machine.process != process {
            return;
        }
        let (Some(hello), Some(agent)) = (machine.hello(&offers), machine.agent.as_mut()) else {
            return;
        };
        if agent.connection.is_some() || agent.greeting.is_some() {
            return;
        }
        let connection = self.random.next();
        agent.greeting = Some(connection);
        self.after(
            ANSWER_LIMIT,
            Happening::NotWelcomed(Line {
                node,
                process,
                connection,
            }),
        );
        let Some(manager) = self.managers.leader else {
            return;
        };
        if let Fate::Arrives { after, .. } = self.fate(node) {
            let hello = Box::new(hello);
            let command = Box::new(Command::Hello { hello, connection });
            self.after(after, Happening::ToManager { manager, command });
        }
    }

    /// No welcome has come in time.
    pub(crate) fn not_welcomed(&mut self, line: Line) {
        let Line {
            node, connection, ..
        } = line;
        let agent = self.machines[node].agent.as_ref();
        if agent.is_some_and(|agent| agent.greeting == Some(connection)) {
            self.unanswered(line);
        }
    }

    /// The agent has heard nothing on a connection for too long.
    pub(crate) fn unanswered(&mut self, line: Line) {
        let Line {
            node,
            process,
            connection,
        } = line;
        let machine = &mut self.machines[node];
        if machine.process != process {
            return;
        }
        let Some(agent) = machine.agent.as_mut() else {
            return;
        };
        let waits = agent.greeting == Some(connection) || agent.connection == Some(connection);
        if waits {
            agent.greeting = None;
            agent.connection = None;
            let pause = agent.pause;
            agent.pause = (pause * 2).min(HELLO_PAUSE_LIMIT);
            self.after(pause, Happening::SayHello { node, process });
        }
    }

    /// The agent notices at once that its connection is gone.
    pub(crate) fn agent_loses(&mut self, node: usize, connection: u64) {
        let process = self.machines[node].process;
        let delay = self.random.delay(MILLI, 3 * SECOND);
        self.after(
            delay,
            Happening::Unanswered(Line {
                node,
                process,
                connection,
            }),
        );
    }

    /// A process or machine at one end is gone: the manager notices, sooner or later.
    pub(crate) fn connection_breaks(&mut self, node: usize) {
        let id = self.machines[node].id;
        let ids: Vec<ManagerId> = self.managers.all.keys().copied().collect();
        for manager in ids {
            let connections = &self.managers.all[&manager].connections;
            if let Some(connection) = connections.get(&id).copied() {
                let delay = self.random.delay(MILLI, 15 * SECOND);
                self.after(
                    delay,
                    Happening::Misses {
                        manager,
                        node,
                        connection,
                    },
                );
            }
        }
    }

    /// A manager has taken a hello in: it came late if nobody is at the other end any more, which is
    /// noticed.
    pub(crate) fn greets(&mut self, manager: ManagerId, node: NodeId, connection: u64) {
        let node = usize::try_from(node.0 - 1).expect("a node");
        let agent = self.machines[node].agent.as_ref();
        let is_there = agent.is_some_and(|agent| {
            agent.greeting == Some(connection) || agent.connection == Some(connection)
        });
        if !is_there {
            let missed = Happening::Misses {
                manager,
                node,
                connection,
            };
            self.after(BREAK_SEEN, missed);
        }
    }

    pub(crate) fn misses(&mut self, manager: ManagerId, node: usize, connection: u64) {
        let node = self.machines[node].id;
        let command = Command::Disconnected { node, connection };
        self.reaches_manager(manager, command);
    }

    /// The answer to a hello.
    pub(crate) fn welcome(&mut self, node: usize, connection: u64, desired: Desired) {
        if let Fate::Arrives { after, .. } = self.fate(node) {
            let desired = Box::new(desired);
            let is_welcome = true;
            self.after(
                after,
                Happening::ToNode {
                    node,
                    connection,
                    desired,
                    is_welcome,
                },
            );
        }
    }

    /// The manager tells a node the latest of what is wanted, until it has an answer.
    pub(crate) fn tell_node(
        &mut self,
        manager: ManagerId,
        node: usize,
        connection: u64,
        pause: Micros,
    ) {
        let id = self.machines[node].id;
        let Some(teller) = self.managers.all.get_mut(&manager) else {
            return;
        };
        if teller.connections.get(&id) != Some(&connection) {
            teller.outbox.remove(&id);
            return;
        }
        let Some(desired) = teller.outbox.get(&id).cloned() else {
            return;
        };
        let generation = desired.generation;
        let mut answered = false;
        if let Fate::Arrives { after, again } = self.fate(node) {
            let is_welcome = false;
            for delay in [Some(after), again].into_iter().flatten() {
                let desired = Box::new(desired.clone());
                self.after(
                    delay,
                    Happening::ToNode {
                        node,
                        connection,
                        desired,
                        is_welcome,
                    },
                );
            }
            // The answer comes back, or it does not and the node is told once more.
            answered = matches!(self.fate(node), Fate::Arrives { .. });
        }
        let Some(teller) = self.managers.all.get_mut(&manager) else {
            return;
        };
        let latest = teller.outbox.get(&id).map(|latest| latest.generation);
        if answered && latest == Some(generation) {
            teller.outbox.remove(&id);
            return;
        }
        let next = (pause * 2).min(TELL_PAUSE_LIMIT);
        let retell = Happening::Retell {
            manager,
            node,
            connection,
            pause: next,
        };
        self.after(pause, retell);
    }

    /// A desired set arrives at a machine.
    pub(crate) fn reaches_node(
        &mut self,
        node: usize,
        connection: u64,
        desired: Desired,
        is_welcome: bool,
    ) {
        let machine = &mut self.machines[node];
        let process = machine.process;
        let Some(agent) = machine.agent.as_mut() else {
            return;
        };
        let welcomed = is_welcome && agent.greeting == Some(connection);
        if is_welcome && !welcomed {
            // It has given up on that connection.
            return;
        }
        if welcomed {
            agent.greeting = None;
            agent.connection = Some(connection);
            agent.pause = HELLO_PAUSE;
            self.after(
                0,
                Happening::SendReport(Line {
                    node,
                    process,
                    connection,
                }),
            );
            self.after(
                BEAT,
                Happening::Beat(Line {
                    node,
                    process,
                    connection,
                }),
            );
        }
        let doings = self.machines[node].take_desired(desired.clone(), self.now);
        let is_saved = !doings.iter().any(|doing| matches!(doing, Doing::NotSaved));
        self.follow(node, doings);
        if !is_saved {
            self.tells_of_failure(node, connection, desired, welcomed);
        }
    }

    /// Whom it obeys could not be saved: after a hello it says another one, and else the manager tells
    /// it once more.
    fn tells_of_failure(&mut self, node: usize, connection: u64, desired: Desired, welcomed: bool) {
        let process = self.machines[node].process;
        if welcomed {
            return self.unanswered(Line {
                node,
                process,
                connection,
            });
        }
        let id = self.machines[node].id;
        if let Some(manager) = self.manager_of(id, connection)
            && let Some(teller) = self.managers.all.get_mut(&manager)
        {
            teller.outbox.entry(id).or_insert(desired);
            let pause = TELL_PAUSE_LIMIT;
            let retell = Happening::Retell {
                manager,
                node,
                connection,
                pause,
            };
            self.after(pause, retell);
        }
    }

    /// The report has changed: it is sent, together with what changes until then.
    pub(crate) fn report_soon(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let process = machine.process;
        let Some(agent) = machine.agent.as_mut() else {
            return;
        };
        let Some(connection) = agent.connection.filter(|_| !agent.report_is_due) else {
            return;
        };
        agent.report_is_due = true;
        self.after(
            REPORT_PAUSE,
            Happening::SendReport(Line {
                node,
                process,
                connection,
            }),
        );
    }

    pub(crate) fn beat(&mut self, line: Line) {
        let Line {
            node,
            process,
            connection,
        } = line;
        let machine = &self.machines[node];
        let connected = machine.agent.as_ref().and_then(|agent| agent.connection);
        if machine.process == process && connected == Some(connection) {
            self.send_report(line);
            self.after(
                BEAT,
                Happening::Beat(Line {
                    node,
                    process,
                    connection,
                }),
            );
        }
    }

    pub(crate) fn send_report(&mut self, line: Line) {
        let Line {
            node,
            process,
            connection,
        } = line;
        let machine = &mut self.machines[node];
        let connected = machine.agent.as_ref().and_then(|agent| agent.connection);
        if machine.process != process || connected != Some(connection) {
            return;
        }
        let Some(report) = machine.report() else {
            return;
        };
        let manager = self.manager_of(machine_id(node), connection);
        let (Some(manager), Fate::Arrives { after, again }) = (manager, self.fate(node)) else {
            // No answer comes: the agent gives the connection up.
            self.after(
                ANSWER_LIMIT,
                Happening::Unanswered(Line {
                    node,
                    process,
                    connection,
                }),
            );
            return;
        };
        let suffers = &self.machines[node].suffers;
        let later = match self.now < suffers.late_reports_until {
            true => suffers.reports_late_by,
            false => 0,
        };
        for delay in [Some(after + later), again].into_iter().flatten() {
            let report = Box::new(report.clone());
            let command = Box::new(Command::Report { report, connection });
            self.after(delay, Happening::ToManager { manager, command });
        }
    }

    /// The process at the other end of a connection, if it still has it.
    fn manager_of(&self, node: NodeId, connection: u64) -> Option<ManagerId> {
        let mut all = self.managers.all.iter();
        let has = |(_, manager): &(&ManagerId, &crate::manager::Manager)| {
            manager.connections.get(&node) == Some(&connection)
        };
        all.find(has).map(|(id, _)| *id)
    }
}

fn machine_id(node: usize) -> NodeId {
    NodeId(u64::try_from(node).expect("a place") + 1)
}
