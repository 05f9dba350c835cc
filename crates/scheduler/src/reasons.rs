//! Why a session does not start: every reason on every node, with amounts.

use crate::HOLDERS_LIMIT;
use crate::plan::Planner;
use crate::rooms::Room;
use crate::situation::{Node, Request};
use domain::{Capability, DrainOrder, NodeId, NodeStatus, Priority, SessionId, SlotName, Span};
use std::collections::BTreeMap;

/// Why one node does not take a session now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReasons {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// All reasons; empty if the session could start there now.
    pub reasons: Vec<Reason>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its agent is not connected.
    Disconnected,
    /// An operator has it drained.
    Drained {
        /// Who, since when, and why.
        order: DrainOrder,
    },
    /// The engine there cannot do something that is asked for.
    NotEnforceable {
        /// The row of the capability table.
        row: String,
        /// Why, as the node tells.
        reason: String,
    },
    /// Too little of a slot is free.
    SlotShort {
        /// Which slot.
        slot: SlotName,
        /// What a member asks for.
        asked: u64,
        /// What is free now.
        free: u128,
        /// What the node offers in all.
        offered: u128,
        /// Names and amounts of the sessions that have the rest, the largest first, at most
        /// [`HOLDERS_LIMIT`].
        holders: Vec<(String, u128)>,
    },
    /// It fits, but a session before it in the order, that has waited too long, goes first.
    BehindOthers {
        /// That one.
        session: SessionId,
        /// Its name.
        name: String,
        /// Its priority: the same, and it is older, or a higher one.
        priority: Priority,
        /// How long it has waited.
        waited: Span,
    },
    /// Some members fit here, but not all of them fit in the pool at once.
    MembersShort {
        /// Members that fit here.
        fits: u32,
        /// Members that must start together.
        asked: u32,
    },
}

impl Reason {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Drained { .. } => "drained",
            Self::NotEnforceable { .. } => "not-enforceable",
            Self::SlotShort { .. } => "slot-short",
            Self::BehindOthers { .. } => "behind-others",
            Self::MembersShort { .. } => "members-short",
        }
    }
}

/// Why `session`, one of `requests`, is not placed, by node in the order of pool and name. `None`
/// if it is not among them.
pub fn explain<'a>(
    nodes: &'a [Node<'a>],
    requests: &'a [Request<'a>],
    session: SessionId,
) -> Option<Vec<NodeReasons>> {
    let mut planner = Planner::new(nodes);
    for request in requests {
        if request.session == session {
            return Some(reasons_of(&planner, request));
        }
        planner.consider(request);
    }
    None
}

fn reasons_of(planner: &Planner<'_>, request: &Request<'_>) -> Vec<NodeReasons> {
    let mut all = Vec::new();
    for (pool, rooms) in &planner.pools {
        let closed = planner.closed.get(pool).copied();
        for room in rooms {
            let reasons = reasons_on(room, request, closed);
            all.push((room, reasons));
        }
    }
    let starts = all.iter().any(|(_, reasons)| reasons.is_empty()) && request.members == 1;
    all.into_iter()
        .map(|(room, mut reasons)| {
            if reasons.is_empty() && !starts {
                reasons.push(Reason::MembersShort {
                    fits: room.fitting_now(request, request.members),
                    asked: request.members,
                });
            }
            NodeReasons {
                node: room.node.record.id,
                name: room.node.record.name.clone(),
                reasons,
            }
        })
        .collect()
}

fn reasons_on(room: &Room<'_>, request: &Request<'_>, closed: Option<&Request<'_>>) -> Vec<Reason> {
    let record = room.node.record;
    let mut reasons = Vec::new();
    if record.status == NodeStatus::Disconnected {
        reasons.push(Reason::Disconnected);
    }
    if let Some(order) = record.drain.clone() {
        reasons.push(Reason::Drained { order });
    }
    for row in &request.required {
        let reason = match record.capabilities.get(*row) {
            Some(Capability::Yes) => continue,
            Some(Capability::No { reason }) => reason.clone(),
            None => "its engine does not know this row".to_owned(),
        };
        reasons.push(Reason::NotEnforceable {
            row: (*row).to_owned(),
            reason,
        });
    }
    for (slot, asked) in &request.slots.0 {
        if u128::from(*asked) > room.free(slot) {
            reasons.push(Reason::SlotShort {
                slot: slot.clone(),
                asked: *asked,
                free: room.free(slot),
                offered: room.offered(slot),
                holders: holders(room.node, slot),
            });
        }
    }
    if let Some(first) = closed.filter(|_| reasons.is_empty()) {
        reasons.push(Reason::BehindOthers {
            session: first.session,
            name: shown(first.name, first.index),
            priority: first.priority,
            waited: first.waited,
        });
    }
    reasons
}

/// A name as people see it: `NAME.INDEX` for an element of an array.
fn shown(name: &str, index: Option<u32>) -> String {
    match index {
        Some(index) => format!("{name}.{index}"),
        None => name.to_owned(),
    }
}

/// The sessions that have most of `slot` on `node`, the largest first.
fn holders(node: &Node<'_>, slot: &SlotName) -> Vec<(String, u128)> {
    let mut sums: BTreeMap<SessionId, (&str, Option<u32>, u128)> = BTreeMap::new();
    for holding in &node.holdings {
        let amount = u128::from(holding.slots.get(slot));
        let first = (holding.name, holding.index, 0);
        let sum = sums.entry(holding.session).or_insert(first);
        sum.2 += amount;
    }
    let mut sums: Vec<(String, u128)> = sums
        .into_values()
        .filter(|(_, _, amount)| *amount > 0)
        .map(|(name, index, amount)| (shown(name, index), amount))
        .collect();
    sums.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    sums.truncate(HOLDERS_LIMIT);
    sums
}
