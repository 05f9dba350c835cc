//! The whole site: what happens next, and to whom.

use crate::clock::{Clocks, HOUR, MILLI, MINUTE, Micros, SECOND};
use crate::link::Line;
use crate::machine::{Deed, Doing, Machine};
use crate::manager::{Command, ManagerId, Managers};
use crate::operators::OperatorStep;
use crate::plan::{NODES, Plan};
use crate::random::Random;
use crate::store::Store;
use crate::trace::Trace;
use crate::users::Users;
use crate::violation::Violation;
use crate::watch::Watch;
use domain::{MemberId, Slots};
use node_api::Desired;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What each node offers: 8 CPUs and 1 GiB.
pub(crate) const NODE_CPUS: u64 = 8;
pub(crate) const MEMORY: u64 = 1 << 30;
/// Between two looks at everything.
const LOOK_EVERY: Micros = 10 * SECOND;
/// A machine ticks so often while it has something to do, and so often while not.
const TICK: Micros = SECOND;
const IDLE_TICK: Micros = 10 * SECOND;

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// An act of the plan, by its place there.
    Act {
        place: usize,
    },
    /// A user sends a request, again if it was not answered.
    Ask {
        request: usize,
    },
    /// Something goes on at a machine.
    Goes {
        node: usize,
        deed: Deed,
    },
    Tick {
        node: usize,
        process: u64,
    },
    AgentStarts {
        node: usize,
    },
    PowerComes {
        node: usize,
    },
    NodeResumes {
        node: usize,
    },
    /// An operator goes on with a machine.
    Operates {
        node: usize,
        step: OperatorStep,
    },
    SayHello {
        node: usize,
        process: u64,
    },
    /// The agent has waited for a welcome for long enough.
    NotWelcomed(Line),
    /// The agent has waited for an answer for long enough.
    Unanswered(Line),
    SendReport(Line),
    Beat(Line),
    ToNode {
        node: usize,
        connection: u64,
        desired: Box<Desired>,
        is_welcome: bool,
    },
    ToManager {
        manager: ManagerId,
        command: Box<Command>,
    },
    /// The manager tells a node again, if it has not heard.
    Retell {
        manager: ManagerId,
        node: usize,
        connection: u64,
        pause: Micros,
    },
    /// The manager notices that a connection is gone.
    Misses {
        manager: ManagerId,
        node: usize,
        connection: u64,
    },
    ManagerStarts {
        takes_over: bool,
    },
    ManagerResumes {
        manager: ManagerId,
    },
    LeaseIsLost {
        manager: ManagerId,
    },
    ManagerTick {
        manager: ManagerId,
    },
    Turn {
        manager: ManagerId,
    },
    Commits {
        manager: ManagerId,
        serial: u64,
    },
    Look,
}

/// An entry of the queue: by time, and by order of arrival where times are the same.
#[derive(Debug)]
struct Entry {
    at: Micros,
    number: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Micros,
    queue: BinaryHeap<Reverse<Entry>>,
    entries: u64,
    pub(crate) random: Random,
    pub(crate) store: Store,
    pub(crate) managers: Managers,
    pub(crate) machines: Vec<Machine>,
    /// What a suspended machine has not come to.
    deferred: BTreeMap<usize, Vec<Happening>>,
    pub(crate) users: Users,
    pub(crate) watch: Watch,
    pub(crate) trace: Trace,
    pub(crate) faults: u64,
    pub(crate) steps: u64,
    pub(crate) starts: BTreeMap<MemberId, u32>,
    /// No fault is made any more, and nothing is asked.
    pub(crate) is_calm: bool,
    pub(crate) violation: Option<Violation>,
}

impl World {
    pub(crate) fn new(plan: Plan, keeps_lines: bool) -> Self {
        let seed = plan.seed;
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            entries: 0,
            random: Random::split(seed, "world", 0),
            store: Store::new(),
            managers: Managers::new(seed),
            machines: (0..NODES)
                .map(|number| Machine::new(seed, number))
                .collect(),
            deferred: BTreeMap::new(),
            users: Users::new(seed),
            watch: Watch::default(),
            trace: Trace::new(keeps_lines),
            faults: 0,
            steps: 0,
            starts: BTreeMap::new(),
            is_calm: false,
            violation: None,
            plan,
        };
        world.after(0, Happening::ManagerStarts { takes_over: false });
        for node in 0..world.machines.len() {
            let delay = world.random.within(0, SECOND);
            world.after(delay, Happening::AgentStarts { node });
        }
        for place in 0..world.plan.acts.len() {
            let at = world.plan.acts[place].at;
            world.after(at, Happening::Act { place });
        }
        world.after(LOOK_EVERY, Happening::Look);
        world
    }

    pub(crate) fn offers() -> Slots {
        Slots::of(NODE_CPUS * domain::amounts::WHOLE, MEMORY)
    }

    pub(crate) fn after(&mut self, delay: Micros, what: Happening) {
        let at = self.now + delay;
        let number = self.entries;
        self.entries += 1;
        self.queue.push(Reverse(Entry { at, number, what }));
    }

    /// Lets everything happen until `until`, or until a promise is broken.
    pub(crate) fn run_until(&mut self, until: Micros) {
        while self.violation.is_none() {
            let due = self
                .queue
                .peek()
                .is_some_and(|Reverse(entry)| entry.at <= until);
            let next = if due { self.queue.pop() } else { None };
            let Some(Reverse(entry)) = next else {
                self.now = until;
                return;
            };
            self.now = entry.at;
            self.steps += 1;
            self.happen(entry.what);
        }
    }

    /// The plan with all its hours, then a calm in which everything has to come to an end.
    pub(crate) fn run(&mut self) {
        let end = self.plan.hours * HOUR;
        self.run_until(end);
        if self.violation.is_none() {
            self.come_to_rest();
        }
    }

    pub(crate) fn broken(&mut self, message: impl Into<String>) {
        let violation = Violation::new(message);
        self.break_with(violation);
    }

    pub(crate) fn break_with(&mut self, violation: Violation) {
        self.trace
            .line(self.now, format_args!("BROKEN {violation}"));
        self.violation.get_or_insert(violation);
    }

    /// The machine that something is about, if it waits while that is suspended.
    fn machine_of(what: &Happening) -> Option<usize> {
        match what {
            Happening::Goes { node, .. }
            | Happening::Tick { node, .. }
            | Happening::SayHello { node, .. }
            | Happening::NotWelcomed(Line { node, .. })
            | Happening::Unanswered(Line { node, .. })
            | Happening::SendReport(Line { node, .. })
            | Happening::Beat(Line { node, .. })
            | Happening::AgentStarts { node }
            | Happening::ToNode { node, .. } => Some(*node),
            _ => None,
        }
    }

    fn happen(&mut self, what: Happening) {
        if let Some(node) = Self::machine_of(&what)
            && self.machines[node].clocks.is_suspended()
        {
            self.deferred.entry(node).or_default().push(what);
            return;
        }
        match what {
            Happening::Act { place } => self.act(place),
            Happening::Ask { request } => self.ask(request),
            Happening::Goes { node, deed } => {
                let doings = self.machines[node].perform(&deed, self.now);
                self.follow(node, doings);
            }
            Happening::Tick { node, process } => self.tick(node, process),
            Happening::AgentStarts { node } => self.agent_starts(node),
            Happening::PowerComes { node } => self.power_comes(node),
            Happening::Operates { node, step } => self.goes_on_with(node, step),
            Happening::NodeResumes { node } => self.node_resumes(node),
            Happening::SayHello { node, process } => self.say_hello(node, process),
            Happening::NotWelcomed(line) => self.not_welcomed(line),
            Happening::Unanswered(line) => self.unanswered(line),
            Happening::SendReport(line) => self.send_report(line),
            Happening::Beat(line) => self.beat(line),
            Happening::ToNode {
                node,
                connection,
                desired,
                is_welcome,
            } => {
                self.reaches_node(node, connection, *desired, is_welcome);
            }
            Happening::ToManager { manager, command } => self.reaches_manager(manager, *command),
            Happening::Retell {
                manager,
                node,
                connection,
                pause,
            } => {
                self.tell_node(manager, node, connection, pause);
            }
            Happening::Misses {
                manager,
                node,
                connection,
            } => {
                self.misses(manager, node, connection);
            }
            Happening::ManagerStarts { takes_over } => self.manager_starts(takes_over),
            Happening::ManagerResumes { manager } => self.manager_resumes(manager),
            Happening::LeaseIsLost { manager } => self.lease_is_lost(manager),
            Happening::ManagerTick { manager } => self.manager_ticks(manager),
            Happening::Turn { manager } => self.turn(manager),
            Happening::Commits { manager, serial } => self.commits(manager, serial),
            Happening::Look => {
                self.look();
                self.after(LOOK_EVERY, Happening::Look);
            }
        }
    }

    /// Does what a machine wants of the world.
    pub(crate) fn follow(&mut self, node: usize, doings: Vec<Doing>) {
        for doing in doings {
            match doing {
                Doing::After { delay, deed } => self.after(delay, Happening::Goes { node, deed }),
                Doing::Report => self.report_soon(node),
                Doing::Refused => {
                    let id = self.machines[node].id;
                    self.trace.line(self.now, format_args!("node {id} refuses"));
                }
                Doing::NotSaved => {}
                Doing::Began { member } => self.began(node, member),
                Doing::Hurt { member } => self.hurt(node, member),
                Doing::Broken { violation } => self.break_with(violation),
            }
        }
    }

    fn tick(&mut self, node: usize, process: u64) {
        let machine = &mut self.machines[node];
        if machine.process != process {
            return;
        }
        let doings = machine.tell(lifecycle::agent::AgentEventKind::Tick, self.now);
        let pause = if self.machines[node].is_busy() {
            TICK
        } else {
            IDLE_TICK
        };
        self.follow(node, doings);
        self.after(pause, Happening::Tick { node, process });
    }

    pub(crate) fn agent_starts(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.agent.is_some() || !machine.has_power {
            return;
        }
        let doings = machine.start_agent(self.now);
        let (process, id) = (machine.process, machine.id);
        self.trace
            .line(self.now, format_args!("agent of {id} starts"));
        self.follow(node, doings);
        self.after(TICK, Happening::Tick { node, process });
        self.after(MILLI, Happening::SayHello { node, process });
    }

    fn node_resumes(&mut self, node: usize) {
        self.machines[node].clocks.resume(self.now);
        self.machines[node].runs_since = self.now;
        for (place, what) in (0..).zip(self.deferred.remove(&node).unwrap_or_default()) {
            self.after(place, what);
        }
    }

    /// A machine is suspended, with all that is on it.
    pub(crate) fn suspend_node(&mut self, node: usize, length: Micros) {
        let clocks = &mut self.machines[node].clocks;
        if !clocks.is_suspended() {
            clocks.suspend(self.now);
            self.after(length, Happening::NodeResumes { node });
        }
    }

    /// A process of the agent, or the machine, stays away for a while.
    pub(crate) fn agent_dies(&mut self, node: usize, down: Micros) {
        let machine = &mut self.machines[node];
        if machine.agent.is_some() {
            machine.kill_agent();
            self.after(down, Happening::AgentStarts { node });
            self.connection_breaks(node);
        }
    }

    pub(crate) fn power_is_cut(&mut self, node: usize, down: Micros) {
        if self.power_goes(node) {
            self.after(down + 20 * SECOND, Happening::PowerComes { node });
        }
    }

    fn power_comes(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.is_off && !machine.is_destroyed {
            machine.has_power = true;
            self.agent_starts(node);
        }
    }

    /// Whether it had any.
    pub(crate) fn power_goes(&mut self, node: usize) -> bool {
        let machine = &mut self.machines[node];
        if !machine.has_power {
            return false;
        }
        if machine.clocks.is_suspended() {
            machine.clocks.resume(self.now);
        }
        machine.cut_power();
        self.deferred.remove(&node);
        let reading = machine.random.within(1, 1 << 30);
        let ahead = i64::try_from(machine.random.within(0, 4 * SECOND)).expect("seconds");
        machine.clocks = Clocks::new(ahead, reading, self.now);
        self.connection_breaks(node);
        true
    }

    /// How long a message is under way between two machines that are well.
    pub(crate) fn latency(&mut self) -> Micros {
        self.random.delay(50, 40 * MILLI)
    }

    /// Longest time that everything may take to come to an end in a calm.
    pub(crate) const REST: Micros = 90 * MINUTE;
}
