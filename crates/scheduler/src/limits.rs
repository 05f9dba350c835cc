//! The most that could ever start, for refusals that name it.

use crate::rooms::Room;
use crate::situation::{Node, Request};
use domain::{NodeId, SlotName};
use std::collections::BTreeMap;

/// The most of `slot` that one member of `request` could ever get: on a node that satisfies its
/// other slots if there is one, else on any. Disconnected nodes and drained
/// ones count, because they may return.
pub fn largest(nodes: &[Node<'_>], request: &Request<'_>, slot: &SlotName) -> u64 {
    let satisfies_others = |node: &&Node<'_>| {
        let offers = &node.record.offers;
        let mut others = request.slots.0.iter().filter(|(other, _)| *other != slot);
        others.all(|(other, asked)| offers.get(other) >= *asked)
    };
    let offered = |node: &Node<'_>| node.record.offers.get(slot);
    nodes
        .iter()
        .filter(satisfies_others)
        .map(offered)
        .max()
        .unwrap_or_else(|| nodes.iter().map(offered).max().unwrap_or(0))
}

/// The most members of `request` that could ever start together in one pool, at most as many as
/// it asks for; and a node on which one could.
pub fn most_members(nodes: &[Node<'_>], request: &Request<'_>) -> (u32, Option<NodeId>) {
    let mut sums: BTreeMap<&str, u32> = BTreeMap::new();
    let mut some = None;
    for node in nodes {
        let fitting = Room::of(node).fitting_ever(request, request.members);
        if fitting > 0 {
            some = some.or(Some(node.record.id));
        }
        let sum = sums.entry(node.record.pool.as_str()).or_default();
        *sum = sum.saturating_add(fitting).min(request.members);
    }
    (sums.values().copied().max().unwrap_or(0), some)
}
