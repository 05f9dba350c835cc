//! Who starts where.

use crate::STARVATION_MS;
use crate::planted::{Planted, planted};
use crate::rooms::{Room, by_pool};
use crate::situation::{Node, Request};
use domain::{NodeId, SessionId, SlotName};
use std::collections::BTreeMap;

/// A session that can start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Which.
    pub session: SessionId,
    /// The node of each member, by the member's index.
    pub nodes: Vec<NodeId>,
}

/// Places every session that can start, looking at `requests` in their order: the highest priority
/// first, and of the same the oldest.
///
/// A session is placed with all of its members in one pool or not at all; no node is given more
/// than it offers.
pub fn plan<'a>(nodes: &'a [Node<'a>], requests: &'a [Request<'a>]) -> Vec<Placement> {
    let mut planner = Planner::new(nodes);
    requests
        .iter()
        .filter_map(|request| planner.consider(request))
        .collect()
}

/// What a failed request asked for. Whoever comes later and asks for the same fails too, because
/// during a pass rooms only fill and pools only close.
type Shape<'a> = (&'a BTreeMap<SlotName, u64>, u32, &'a [&'static str]);

/// The state of one pass.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    pub(crate) pools: BTreeMap<&'a str, Vec<Room<'a>>>,
    /// Pools that a starving session has closed.
    pub(crate) closed: BTreeMap<&'a str, &'a Request<'a>>,
    /// Shapes that failed, and whether one of each has closed its pools.
    failed: BTreeMap<Shape<'a>, bool>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(nodes: &'a [Node<'a>]) -> Self {
        Self {
            pools: by_pool(nodes),
            closed: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Places one request, or remembers that it could not be.
    pub(crate) fn consider(&mut self, request: &'a Request<'a>) -> Option<Placement> {
        let members = if planted(Planted::ShapeWithoutMembers) {
            1
        } else {
            request.members
        };
        let shape = (&request.slots.0, members, request.required.as_slice());
        let starves = request.waited.0 >= STARVATION_MS;
        let starves = starves && !planted(Planted::StarvingClosesNothing);
        if let Some(closes) = self.failed.get_mut(&shape) {
            // One before it of the same shape may have waited less: for a place, that is.
            if starves && !std::mem::replace(closes, true) {
                self.close_for(request);
            }
            return None;
        }
        let closed = &self.closed;
        let open = self
            .pools
            .iter_mut()
            .filter(|(pool, _)| !closed.contains_key(*pool));
        for (_, rooms) in open {
            if let Some(nodes) = place(rooms, request) {
                return Some(Placement {
                    session: request.session,
                    nodes,
                });
            }
        }
        self.failed.insert(shape, starves);
        if starves {
            self.close_for(request);
        }
        None
    }

    /// Closes the pools on which `request` could start if it were alone there. A pool on which it
    /// could not start, because nodes are away, stays open: waiting there would help nobody.
    fn close_for(&mut self, request: &'a Request<'a>) {
        for (pool, rooms) in &self.pools {
            let fitting: u64 = rooms
                .iter()
                .filter(|room| room.is_usable(request) || planted(Planted::AbsentNodesClosePools))
                .map(|room| u64::from(room.fitting_ever(request, request.members)))
                .sum();
            if fitting >= u64::from(request.members) {
                self.closed.entry(pool).or_insert(request);
            }
        }
    }
}

/// Places all members of `request` on `rooms` in their order, or changes nothing.
fn place<'a>(rooms: &mut [Room<'a>], request: &'a Request<'a>) -> Option<Vec<NodeId>> {
    let mut missing = request.members;
    let mut shares = Vec::new();
    for (index, room) in rooms.iter().enumerate() {
        if missing == 0 {
            break;
        }
        if room.is_usable(request) {
            let share = room.fitting_now(request, missing);
            missing -= share;
            shares.push((index, share));
        }
    }
    if missing > 0 {
        return None;
    }
    let mut nodes = Vec::new();
    for (index, share) in shares {
        let counted = if planted(Planted::ShareCountedOnce) {
            share.min(1)
        } else {
            share
        };
        rooms[index].take(request.slots, counted);
        let node = rooms[index].node.record.id;
        nodes.extend((0..share).map(|_| node));
    }
    Some(nodes)
}
