//! What a site has most of: one seed in four is as all are, the others have more of one thing. What
//! goes wrong meets what else goes wrong far more often where there is much of it.

use crate::clock::{HOUR, MILLI, MINUTE, Micros, SECOND};
use crate::plan::{self, Act, Fault, NODES, Order};
use crate::random::Random;

/// Faults beside those of every site, in an hour.
const FAULTS: u64 = 40;
/// In an hour of a hasty site, how often the reports of a node are late for a while.
const LATE: u64 = 20;
/// How late, at most: they are answered before an agent gives up.
const LATE_LIMIT: Micros = 10 * SECOND;
/// Blows of a storm in an hour: faults that come together.
const BLOWS: u64 = 14;
/// How often, in an hour of a storm, an old leader is heard late.
const ECHOES: u64 = 6;
/// The nodes that a storm is about: those that are filled first.
const STORMY: [u64; 4] = [0, 9, 10, 11];
/// CPUs that a session of a crowded site asks for, at most: all of a node.
const CROWDED_CPUS: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Sessions ask for more than there is, and wait long.
    Crowded,
    /// Faults come close after one another, on few nodes.
    Storm,
    /// Clocks are set, users change their minds at once, and reports are late.
    Hasty,
}

impl Weather {
    pub(crate) fn of(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::Fair,
            1 => Self::Crowded,
            2 => Self::Storm,
            _ => Self::Hasty,
        }
    }

    /// Of how many of fifty answers the user hears nothing, and how long it is away then.
    pub(crate) fn answers_lost(self) -> (u64, Micros) {
        match self {
            Self::Fair | Self::Crowded | Self::Storm => (1, 0),
            Self::Hasty => (8, 3 * MINUTE),
        }
    }

    /// What waits for something waits for what was asked for last, some for two of them.
    pub(crate) fn has_pipelines(self) -> bool {
        self == Self::Crowded
    }

    /// Makes an act one of this weather.
    fn bend(self, act: &mut Act, random: &mut Random) {
        match (self, act) {
            // A gang that needs nearly all nodes, and is not placed while some are away.
            (Self::Crowded, Act::Create(wish)) if random.chance(1, 100) => {
                wish.cpu = CROWDED_CPUS;
                wish.members = u32::try_from(NODES - random.within(0, 3)).expect("few");
                wish.life.runs = Some(MINUTE);
            }
            (Self::Crowded, Act::Create(wish) | Act::CreateArray { wish, .. }) => {
                wish.cpu = random.within(1, CROWDED_CPUS + 1);
                if random.chance(1, 3) {
                    wish.after = Some((random.next(), random.chance(1, 3)));
                }
            }
            (Self::Hasty, Act::Create(wish) | Act::CreateArray { wish, .. }) => {
                wish.retry = if random.chance(1, 2) { 6 } else { 0 };
                wish.life.fails = wish.life.fails.max(random.within(0, 100));
            }
            (Self::Storm, Act::Fault(fault)) => gather(fault, random),
            _ => {}
        }
    }

    /// Something that goes wrong beside what goes wrong everywhere.
    fn fault(self, random: &mut Random) -> Option<Fault> {
        match self {
            Self::Fair | Self::Crowded => None,
            Self::Storm => Some(plan::fault(random)),
            Self::Hasty if random.chance(1, 4) => Some(Fault::Partition {
                nodes: STORMY.to_vec(),
                length: random.within(SECOND, 2 * MINUTE),
            }),
            Self::Hasty => Some(jump(random)),
        }
    }

    /// What its user orders of what act number `act` makes, if it is a creation, and how long after
    /// it was asked for.
    fn regret(self, act: u64, what: &Act, random: &mut Random) -> Option<(Micros, Act)> {
        let is_creation = matches!(what, Act::Create(_));
        let hurries = matches!(self, Self::Hasty | Self::Storm);
        if !hurries || !is_creation || !random.chance(1, 3) {
            return None;
        }
        let order = match random.within(0, 3) {
            0 => Order::Stop,
            1 => Order::Kill,
            _ => Order::Remove,
        };
        let after = random.delay(10 * MILLI, MINUTE);
        Some((after, Act::ChangeMind { act, order }))
    }
}

/// Changes a plan, acts with their times in the order of their numbers, by the weather of its seed.
pub(crate) fn change(seed: u64, hours: u64, acts: &mut Vec<(Micros, Act)>) {
    let weather = Weather::of(seed);
    let mut random = Random::split(seed, "weather", 0);
    let mut more = Vec::new();
    for (number, (at, act)) in (0..).zip(acts.iter_mut()) {
        let regret = weather.regret(number, act, &mut random);
        more.extend(regret.map(|(after, act)| (*at + after, act)));
    }
    for _ in 0..hours * FAULTS {
        let fault = weather.fault(&mut random);
        let at = random.within(SECOND, hours * HOUR - SECOND);
        more.extend(fault.map(|fault| (at, Act::Fault(fault))));
    }
    acts.extend(more);
    for (_, act) in acts.iter_mut() {
        weather.bend(act, &mut random);
    }
    if weather == Weather::Hasty {
        let mut random = Random::split(seed, "late reports", 0);
        for _ in 0..hours * LATE {
            let at = random.within(SECOND, hours * HOUR - 10 * MINUTE);
            let node = stormy(&mut random);
            let length = random.within(MINUTE, 5 * MINUTE);
            let by = random.within(SECOND, LATE_LIMIT);
            acts.push((at, Act::Fault(Fault::LateReports { node, length, by })));
        }
    }
    if weather == Weather::Storm {
        for _ in 0..hours * BLOWS {
            let at = random.within(SECOND, hours * HOUR - 30 * MINUTE);
            let blow = blow(&mut random).into_iter();
            acts.extend(blow.map(|(after, fault)| (at + after, Act::Fault(fault))));
        }
        let mut random = Random::split(seed, "old leaders", 0);
        for _ in 0..hours * ECHOES {
            let at = random.within(SECOND, hours * HOUR - 30 * MINUTE);
            let echo = echo(&mut random).into_iter();
            acts.extend(echo.map(|(after, fault)| (at + after, Act::Fault(fault))));
        }
    }
}

/// What the last leader told a node comes late, when the next one leads and the agent is another one.
fn echo(random: &mut Random) -> Vec<(Micros, Fault)> {
    let node = stormy(random);
    let length = random.within(2 * MINUTE, 4 * MINUTE);
    let down = random.delay(MILLI, SECOND);
    let leads = length / 2;
    let dies = leads + random.within(20 * SECOND, 50 * SECOND);
    vec![
        (0, Fault::BadNetwork { node, length }),
        (leads, Fault::ManagerDies { down }),
        (dies, Fault::AgentDies { node, down }),
    ]
}

/// Misfortunes that do not come alone, and when: something makes a node slow or its messages late,
/// somebody else leads, the node's agent or the node dies, or the store is an older one.
fn blow(random: &mut Random) -> Vec<(Micros, Fault)> {
    let node = stormy(random);
    let length = random.within(30 * SECOND, 3 * MINUTE);
    let soon = |random: &mut Random| random.within(0, length / 2);
    let down = random.delay(MILLI, 5 * SECOND);
    let first = match random.within(0, 5) {
        0 | 1 => Fault::SlowEngine { node, length },
        2 => Fault::ActsFail { node, length },
        _ => Fault::BadNetwork { node, length },
    };
    let leads = match random.within(0, 3) {
        0 => Fault::TakeOver { stalled: down },
        1 => Fault::ManagerDies { down },
        _ => Fault::Copy,
    };
    let mut all = vec![(0, first), (soon(random), leads)];
    for _ in 0..2 {
        let dies = match random.chance(1, 3) {
            true => Fault::PowerCut { node, down },
            false => Fault::AgentDies { node, down },
        };
        all.push((length / 3 + soon(random), dies));
    }
    if random.chance(1, 8) {
        let silent = random.within(0, 2 * MINUTE);
        let after = random.within(length, 20 * MINUTE);
        all.push((after, Fault::Restore { node, silent }));
    }
    all
}

fn stormy(random: &mut Random) -> u64 {
    STORMY[usize::try_from(random.within(0, 4)).expect("small")]
}

/// On the few nodes, and soon over.
fn gather(fault: &mut Fault, random: &mut Random) {
    match fault {
        Fault::AgentDies { node, down: length }
        | Fault::PowerCut { node, down: length }
        | Fault::NodeSuspended { node, length }
        | Fault::BadNetwork { node, length }
        | Fault::ActsFail { node, length }
        | Fault::DiskFull { node, length }
        | Fault::SlowEngine { node, length } => {
            *node = stormy(random);
            *length = (*length).min(MINUTE);
        }
        Fault::ManagerDies { down: length }
        | Fault::TakeOver { stalled: length }
        | Fault::ManagerSuspended { length }
        | Fault::Partition { length, .. }
        | Fault::SlowStore { length }
        | Fault::Restore { silent: length, .. } => *length = (*length).min(MINUTE),
        _ => {}
    }
}

/// Of the manager's clock or a node's, by minutes mostly.
fn jump(random: &mut Random) -> Fault {
    let node = random.chance(1, 2).then(|| random.within(0, NODES));
    let by = random.delay(SECOND, 600 * MINUTE);
    let by = i64::try_from(by).expect("hours");
    let by = if random.chance(1, 2) { by } else { -by };
    Fault::ClockJumps { node, by }
}
