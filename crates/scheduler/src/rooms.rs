//! What is free while a plan is made.

use crate::planted::{Planted, planted};
use crate::situation::{Node, Request};
use domain::{Capability, NodeStatus, SlotName, Slots};
use std::collections::BTreeMap;

/// Sums of one node, in 128 bits so that no number of holdings can overflow them.
#[derive(Clone, Debug)]
pub(crate) struct Room<'a> {
    pub(crate) node: &'a Node<'a>,
    used: BTreeMap<&'a SlotName, u128>,
}

impl<'a> Room<'a> {
    pub(crate) fn of(node: &'a Node<'a>) -> Self {
        let mut room = Self {
            node,
            used: BTreeMap::new(),
        };
        for holding in &node.holdings {
            room.take(holding.slots, 1);
        }
        room
    }

    /// Counts `members` more of `slots` as used.
    pub(crate) fn take(&mut self, slots: &'a Slots, members: u32) {
        for (slot, amount) in &slots.0 {
            *self.used.entry(slot).or_default() += u128::from(*amount) * u128::from(members);
        }
    }

    pub(crate) fn offered(&self, slot: &SlotName) -> u128 {
        self.node.record.offers.get(slot).into()
    }

    /// Zero where more is used than offered: a node may offer less than it did.
    pub(crate) fn free(&self, slot: &SlotName) -> u128 {
        let used = self.used.get(slot).copied().unwrap_or(0);
        self.offered(slot).saturating_sub(used)
    }

    /// How many members of `request` could start now, at most `limit`.
    pub(crate) fn fitting_now(&self, request: &Request<'_>, limit: u32) -> u32 {
        fitting(request.slots, limit, |slot| self.free(slot))
    }

    /// How many members of `request` could start if nobody else were there, at most `limit`.
    pub(crate) fn fitting_ever(&self, request: &Request<'_>, limit: u32) -> u32 {
        fitting(request.slots, limit, |slot| self.offered(slot))
    }

    /// Its agent is connected, no operator has it drained, and it has every row that `request`
    /// requires.
    pub(crate) fn is_usable(&self, request: &Request<'_>) -> bool {
        self.node.record.status == NodeStatus::Connected
            && (self.node.record.drain.is_none() || planted(Planted::DrainIsOnlyTold))
            && request.required.iter().all(|row| has(self.node, row))
    }
}

/// A node has a row of the capability table.
pub(crate) fn has(node: &Node<'_>, row: &str) -> bool {
    node.record.capabilities.get(row) == Some(&Capability::Yes)
}

fn fitting(slots: &Slots, limit: u32, available: impl Fn(&SlotName) -> u128) -> u32 {
    slots
        .0
        .iter()
        .filter(|(_, asked)| **asked > 0)
        .map(|(slot, asked)| available(slot) / u128::from(*asked))
        .map(|times| u32::try_from(times).unwrap_or(u32::MAX))
        .fold(limit, u32::min)
}

/// Nodes in the order in which they are filled, by pool.
pub(crate) fn by_pool<'a>(nodes: &'a [Node<'a>]) -> BTreeMap<&'a str, Vec<Room<'a>>> {
    let mut ordered: Vec<&Node<'_>> = nodes.iter().collect();
    ordered.sort_by_key(|node| (&node.record.name, node.record.id));
    let mut pools: BTreeMap<&str, Vec<Room<'_>>> = BTreeMap::new();
    for node in ordered {
        pools
            .entry(node.record.pool.as_str())
            .or_default()
            .push(Room::of(node));
    }
    pools
}
