//! What happens in a run: everything that users, operators and faults do, drawn from the seed before
//! it begins. Each act can be left out without changing the others, so that a failing run can be made
//! small.

use crate::clock::{HOUR, MILLI, MINUTE, Micros, SECOND};
use crate::random::Random;
use crate::weather;
use domain::Priority;

/// Nodes of a site.
pub const NODES: u64 = 20;
/// Sessions that are asked for in each hour, elements of arrays included: at least so many.
const LIVES_AN_HOUR: u64 = 240;
/// Faults of each hour.
const FAULTS_AN_HOUR: u64 = 30;
/// Acts of users upon sessions in each hour.
const ORDERS_AN_HOUR: u64 = 80;
/// What operators do with machines in each hour.
const OPERATIONS_AN_HOUR: u64 = 8;
/// Changes of priorities in each hour.
const PRIORITIES_AN_HOUR: u64 = 20;
/// Most elements of an array here.
const ELEMENTS_LIMIT: u64 = 12;

/// A run, before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) hours: u64,
    /// By time. The number of an act is its place in the whole plan and stays when others are left out.
    pub(crate) acts: Vec<Planned>,
}

#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) number: u64,
    pub(crate) at: Micros,
    pub(crate) act: Act,
}

/// One thing that somebody does, or that goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Create(Wish),
    CreateArray {
        wish: Wish,
        size: u32,
        throttle: Option<u32>,
    },
    Order {
        order: Order,
        /// Which of the user's sessions.
        which: u64,
    },
    /// A user orders something of what an earlier act made.
    ChangeMind {
        act: u64,
        order: Order,
    },
    Fault(Fault),
    Operate(Operation),
}

/// What an operator does with a machine.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Which one, by its place among all that there are.
    pub(crate) which: u64,
    pub(crate) what: Operating,
}

#[derive(Clone, Debug)]
pub(crate) enum Operating {
    /// It is drained for a while.
    Drain { stops: bool, length: Micros },
    /// It is drained, switched off and removed; and switched on again.
    Retire { away: Micros },
    /// It is destroyed with all that it had, and another one takes its place; its operator says so
    /// only later.
    Replace { unsaid: Micros },
}

/// What a user asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Whole CPUs.
    pub(crate) cpu: u64,
    pub(crate) members: u32,
    pub(crate) retry: u32,
    pub(crate) reschedule: bool,
    /// It waits for the session of an earlier act, to succeed or to end.
    pub(crate) after: Option<(u64, bool)>,
    pub(crate) life: Life,
    pub(crate) priority: Priority,
}

/// What its command does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// How long it runs; `None` for ever.
    pub(crate) runs: Option<Micros>,
    /// Fails in so many of a hundred attempts.
    pub(crate) fails: u64,
}

/// What a user orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Stop,
    Kill,
    Remove,
    Pause,
    Resume,
    Rename,
    StopArray,
    RemoveArray,
    Throttle,
    Prioritize(Priority),
    PrioritizeArray(Priority),
    /// An operator ends what no session claims.
    EndUnclaimed,
}

/// What goes wrong, and for how long.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The manager is killed.
    ManagerDies {
        down: Micros,
    },
    /// Another manager takes over while the first is only stalled, and finds out later.
    TakeOver {
        stalled: Micros,
    },
    ManagerSuspended {
        length: Micros,
    },
    AgentDies {
        node: u64,
        down: Micros,
    },
    PowerCut {
        node: u64,
        down: Micros,
    },
    NodeSuspended {
        node: u64,
        length: Micros,
    },
    /// Nothing passes between the manager and some nodes.
    Partition {
        nodes: Vec<u64>,
        length: Micros,
    },
    /// Messages of a node are lost, doubled, late and out of order.
    BadNetwork {
        node: u64,
        length: Micros,
    },
    /// The way to a node is as ever, the way back is not: what it reports was so long ago.
    LateReports {
        node: u64,
        length: Micros,
        by: Micros,
    },
    /// A clock is set: a node's, or the manager's.
    ClockJumps {
        node: Option<u64>,
        by: i64,
    },
    ClockDrifts {
        node: Option<u64>,
        ppm: i64,
    },
    /// The next commits fail.
    CommitsFail {
        count: u64,
    },
    /// Of the next commit nobody knows whether it was made.
    CommitUnknown {
        made: bool,
    },
    SlowStore {
        length: Micros,
    },
    /// The store is copied.
    Copy,
    /// The store is lost and made anew from its last copy, and some nodes are not heard of when a
    /// manager takes it over.
    Restore {
        /// The first of them.
        node: u64,
        silent: Micros,
    },
    /// Someone kills a guest from outside.
    GuestDies {
        which: u64,
    },
    /// Acts of a node fail often.
    ActsFail {
        node: u64,
        length: Micros,
    },
    DiskFull {
        node: u64,
        length: Micros,
    },
    /// An engine takes far longer than it should.
    SlowEngine {
        node: u64,
        length: Micros,
    },
}

impl Plan {
    /// The whole plan of a seed.
    pub(crate) fn draw(seed: u64, hours: u64) -> Self {
        let mut random = Random::split(seed, "plan", 0);
        let mut acts = Vec::new();
        for hour in 0..hours {
            let at = |random: &mut Random| hour * HOUR + random.within(SECOND, HOUR - SECOND);
            let mut lives = 0;
            while lives < LIVES_AN_HOUR {
                let (act, count) = creation(&mut random, acts.len());
                lives += count;
                acts.push((at(&mut random), act));
            }
            for _ in 0..ORDERS_AN_HOUR {
                let (order, which) = (order(&mut random), random.next());
                acts.push((at(&mut random), Act::Order { order, which }));
            }
            for _ in 0..FAULTS_AN_HOUR {
                let (fault, at) = (fault(&mut random), at(&mut random));
                acts.push((at, Act::Fault(fault)));
            }
        }
        weather::change(seed, hours, &mut acts);
        // Drawn apart, and last, so that everything else is as it was without them.
        let mut operators = Random::split(seed, "operators", 0);
        for hour in 0..hours {
            for _ in 0..OPERATIONS_AN_HOUR {
                let at = hour * HOUR + operators.within(SECOND, HOUR - SECOND);
                acts.push((at, Act::Operate(operation(&mut operators))));
            }
        }
        // So are priorities.
        let mut priorities = Random::split(seed, "priorities", 0);
        for (_, act) in &mut acts {
            if let Act::Create(wish) | Act::CreateArray { wish, .. } = act {
                wish.priority = priority(&mut priorities);
            }
        }
        for hour in 0..hours {
            for _ in 0..PRIORITIES_AN_HOUR {
                let at = hour * HOUR + priorities.within(SECOND, HOUR - SECOND);
                let (new, which) = (priority(&mut priorities), priorities.next());
                let order = if priorities.chance(1, 4) {
                    Order::PrioritizeArray(new)
                } else {
                    Order::Prioritize(new)
                };
                acts.push((at, Act::Order { order, which }));
            }
        }
        let numbered = (0..).zip(acts);
        let mut acts: Vec<Planned> = numbered
            .map(|(number, (at, act))| Planned { number, at, act })
            .collect();
        acts.sort_by_key(|planned| (planned.at, planned.number));
        Self { seed, hours, acts }
    }

    /// The same with only those acts that `keep` wants.
    pub(crate) fn keeping(&self, keep: impl Fn(u64) -> bool) -> Self {
        let acts = self.acts.iter().filter(|planned| keep(planned.number));
        Self {
            acts: acts.cloned().collect(),
            ..self.clone()
        }
    }
}

/// A creation, and how many sessions it makes.
fn creation(random: &mut Random, before: usize) -> (Act, u64) {
    let mut wish = wish(random, before);
    if !random.chance(1, 12) {
        return (Act::Create(wish), 1);
    }
    let size = random.within(2, ELEMENTS_LIMIT + 1);
    let throttled = random.chance(1, 2);
    let throttle = random.within(1, size + 1);
    let small = |number: u64| u32::try_from(number).expect("a small number");
    wish.members = 1;
    let act = Act::CreateArray {
        wish,
        size: small(size),
        throttle: throttled.then(|| small(throttle)),
    };
    (act, size)
}

fn wish(random: &mut Random, before: usize) -> Wish {
    let gang = random.chance(1, 10);
    let waits = random.chance(1, 10) && before > 0;
    let (earlier, succeeded) = (random.next(), random.chance(1, 2));
    Wish {
        cpu: random.within(1, 4),
        members: if gang {
            2 + u32::from(random.chance(1, 3))
        } else {
            1
        },
        retry: if random.chance(1, 4) { 2 } else { 0 },
        reschedule: random.chance(1, 3),
        after: waits.then_some((earlier, succeeded)),
        life: Life {
            runs: match random.within(0, 20) {
                0 => None,
                1..4 => Some(random.within(10 * MINUTE, 50 * MINUTE)),
                4..10 => Some(random.within(MINUTE, 10 * MINUTE)),
                _ => Some(random.delay(MILLI, MINUTE)),
            },
            fails: if random.chance(1, 3) {
                random.within(10, 100)
            } else {
                0
            },
        },
        // Drawn apart, see `Plan::draw`.
        priority: Priority::USUAL,
    }
}

/// Mostly the usual one, and few others, so that many have the same.
fn priority(random: &mut Random) -> Priority {
    let number = match random.within(0, 8) {
        0 => 0,
        1 => 10,
        2 => 90,
        3 => 100,
        _ => return Priority::USUAL,
    };
    Priority::try_from(number).expect("one")
}

fn order(random: &mut Random) -> Order {
    match random.within(0, 20) {
        0..5 => Order::Stop,
        5 => Order::Kill,
        6..10 => Order::Remove,
        10..13 => Order::Pause,
        13..15 => Order::Resume,
        15 => Order::Rename,
        16 => Order::StopArray,
        17 => Order::RemoveArray,
        18 => Order::Throttle,
        _ => Order::EndUnclaimed,
    }
}

pub(crate) fn fault(random: &mut Random) -> Fault {
    let node = random.within(0, NODES);
    // Mostly seconds, sometimes minutes, rarely long enough for every deadline.
    let length = match random.within(0, 10) {
        0 => random.within(5 * MINUTE, 40 * MINUTE),
        1..4 => random.within(30 * SECOND, 5 * MINUTE),
        _ => random.delay(10 * MILLI, 30 * SECOND),
    };
    match random.within(0, 40) {
        0..4 => Fault::ManagerDies { down: length },
        4..6 => Fault::TakeOver { stalled: length },
        6 => Fault::ManagerSuspended { length },
        7..13 => Fault::AgentDies { node, down: length },
        13..16 => Fault::PowerCut { node, down: length },
        16..18 => Fault::NodeSuspended { node, length },
        18..22 => {
            let count = if random.chance(1, 4) { NODES / 2 } else { 1 };
            let nodes = (0..count).map(|_| random.within(0, NODES)).collect();
            Fault::Partition { nodes, length }
        }
        22..25 => Fault::BadNetwork { node, length },
        25 => Fault::ClockJumps {
            node: random.chance(2, 3).then_some(node),
            by: jump(random),
        },
        26 => Fault::ClockDrifts {
            node: random.chance(2, 3).then_some(node),
            ppm: i64::try_from(random.within(0, 400)).expect("small") - 200,
        },
        27..29 => Fault::CommitsFail {
            count: random.within(1, 4),
        },
        29..31 => Fault::CommitUnknown {
            made: random.chance(1, 2),
        },
        31 => Fault::SlowStore { length },
        32 => Fault::Copy,
        33 if random.chance(1, 4) => Fault::Restore {
            node,
            silent: 10 * length,
        },
        33..36 => Fault::GuestDies {
            which: random.next(),
        },
        36 => Fault::ActsFail { node, length },
        37 => Fault::DiskFull { node, length },
        _ => Fault::SlowEngine { node, length },
    }
}

fn operation(random: &mut Random) -> Operation {
    let which = random.next();
    let what = match random.within(0, 8) {
        0..4 => Operating::Drain {
            stops: random.chance(1, 3),
            length: random.delay(SECOND, 40 * MINUTE),
        },
        4..6 => Operating::Retire {
            away: random.delay(MINUTE, 30 * MINUTE),
        },
        _ => Operating::Replace {
            unsaid: random.delay(SECOND, 20 * MINUTE),
        },
    };
    Operation { which, what }
}

/// Seconds to a year, in either direction.
fn jump(random: &mut Random) -> i64 {
    let most = if random.chance(1, 4) {
        365 * 24 * HOUR
    } else {
        HOUR
    };
    let by = i64::try_from(random.delay(SECOND, most)).expect("a year");
    if random.chance(1, 2) { by } else { -by }
}
