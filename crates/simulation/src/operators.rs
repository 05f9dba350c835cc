//! Operators: they drain nodes, switch machines off and remove them, and say so where one is gone
//! for ever. They never say that of a machine that is not.

use crate::clock::{MINUTE, Micros};
use crate::machine::Machine;
use crate::plan::{Operating, Operation};
use crate::world::{Happening, World};
use domain::{DrainOrder, NodeId, NodeRecord, RemovalOrder, StopOrder, Timestamp};
use lifecycle::manager::{EventKind, NodeOrder, RequestToken};

/// From the order to stop what lives on a machine until it is switched off.
const STOPS_WITHIN: Micros = 2 * MINUTE;
/// How often the removal of a machine that is off is asked for again, a minute apart.
const REMOVAL_TRIES: u32 = 3;
/// A machine that is back is looked at for so long.
const LOOKS_FOR: Micros = 5 * MINUTE;
/// Between two times that a destroyed machine is told of; a store may have been restored since.
const SAYS_EVERY: Micros = 5 * MINUTE;
const OPERATOR: &str = "operator";

/// What an operator asks of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeWish {
    node: NodeId,
    what: Asks,
}

#[derive(Clone, Copy, Debug)]
enum Asks {
    Drain { stops: bool },
    Undrain,
    Remove { lost: bool },
}

/// How an operator goes on with a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OperatorStep {
    TakesBack,
    SwitchesOff { away: Micros },
    Removes { tries: u32 },
    SwitchesOn,
    SaysThatItIsLost,
}

impl NodeWish {
    pub(crate) fn event(self, token: RequestToken) -> EventKind {
        let (node, by, at) = (self.node, OPERATOR.to_owned(), Timestamp(0));
        let order = match self.what {
            Asks::Drain { stops } => NodeOrder::Drain {
                stop: stops.then(|| StopOrder {
                    by: by.clone(),
                    signal: 15,
                    grace_ms: 5_000,
                    at,
                }),
                order: DrainOrder {
                    by,
                    at,
                    reason: String::new(),
                },
            },
            Asks::Undrain => NodeOrder::Undrain { by },
            Asks::Remove { lost } => NodeOrder::Remove {
                order: RemovalOrder { by, at, lost },
            },
        };
        let order = Box::new(order);
        EventKind::OrderNode { token, node, order }
    }
}

impl World {
    /// An operator begins what the plan says.
    pub(crate) fn operate(&mut self, operation: &Operation) {
        let count = u64::try_from(self.machines.len()).expect("a length");
        let node = usize::try_from(operation.which % count).expect("below a length");
        if self.machines[node].is_destroyed || self.machines[node].is_off {
            return;
        }
        match operation.what {
            Operating::Drain { stops, length } => {
                self.ask_of(node, Asks::Drain { stops });
                self.later(node, length, OperatorStep::TakesBack);
            }
            Operating::Retire { away } => {
                self.ask_of(node, Asks::Drain { stops: true });
                self.later(node, STOPS_WITHIN, OperatorStep::SwitchesOff { away });
            }
            Operating::Replace { unsaid } => {
                self.power_goes(node);
                self.machines[node].destroy();
                self.later(node, unsaid, OperatorStep::SaysThatItIsLost);
                let number = count;
                let node = self.machines.len();
                self.machines.push(Machine::new(self.plan.seed, number));
                self.after(MINUTE, Happening::AgentStarts { node });
            }
        }
    }

    fn later(&mut self, node: usize, delay: Micros, step: OperatorStep) {
        self.after(delay, Happening::Operates { node, step });
    }

    pub(crate) fn goes_on_with(&mut self, node: usize, step: OperatorStep) {
        if self.is_calm {
            return self.says_again(node, step);
        }
        match step {
            OperatorStep::TakesBack => self.ask_of(node, Asks::Undrain),
            OperatorStep::SwitchesOff { away } => {
                self.power_goes(node);
                self.machines[node].is_off = true;
                let tries = REMOVAL_TRIES;
                self.later(node, MINUTE, OperatorStep::Removes { tries });
                self.later(node, away, OperatorStep::SwitchesOn);
            }
            OperatorStep::Removes { tries } if self.machines[node].is_off => {
                self.ask_of(node, Asks::Remove { lost: false });
                if let Some(tries) = tries.checked_sub(1) {
                    self.later(node, MINUTE, OperatorStep::Removes { tries });
                }
            }
            OperatorStep::Removes { .. } => {}
            OperatorStep::SwitchesOn => {
                self.machines[node].is_off = false;
                self.after(0, Happening::PowerComes { node });
                self.later(node, LOOKS_FOR, OperatorStep::TakesBack);
            }
            OperatorStep::SaysThatItIsLost => {
                self.ask_of(node, Asks::Remove { lost: true });
                self.later(node, SAYS_EVERY, OperatorStep::SaysThatItIsLost);
            }
        }
    }

    /// In a calm, whether a manager that had not missed a machine yet believes that it is lost.
    fn says_again(&mut self, node: usize, step: OperatorStep) {
        let row = self.store.rows.nodes.get(&self.machines[node].id);
        let is_present = row.is_some_and(NodeRecord::is_present);
        if is_present && matches!(step, OperatorStep::SaysThatItIsLost) {
            self.ask_of(node, Asks::Remove { lost: true });
            self.later(node, MINUTE, step);
        }
    }

    fn ask_of(&mut self, node: usize, what: Asks) {
        let node = self.machines[node].id;
        if matches!(what, Asks::Undrain) {
            self.store.undrained.insert(node);
        }
        self.asks_of_node(NodeWish { node, what });
    }

    /// An operator was told that it is so.
    pub(crate) fn node_accepted(&mut self, wish: NodeWish) {
        let NodeWish { node, what } = wish;
        let row = self.store.rows.nodes.get(&node);
        let is_removed = row.is_none_or(|row| !row.is_present());
        // One that was destroyed does not come back.
        if matches!(what, Asks::Remove { lost: true }) && !is_removed {
            self.broken(format!("the removal of {node} was promised and not stored"));
        }
    }

    /// Before a calm: what was switched off is switched on, what burned is told of, and every node
    /// is used.
    pub(crate) fn put_nodes_right(&mut self) {
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            let (id, was_off) = (machine.id, machine.is_off);
            machine.is_off = false;
            if machine.is_destroyed {
                // The manager may not have heard of its site yet: then there is nothing to say.
                if self.store.rows.nodes.contains_key(&id) {
                    self.ask_of(node, Asks::Remove { lost: true });
                    self.later(node, MINUTE, OperatorStep::SaysThatItIsLost);
                }
                continue;
            }
            if was_off {
                self.after(0, Happening::PowerComes { node });
            }
            self.ask_of(node, Asks::Undrain);
        }
    }
}
