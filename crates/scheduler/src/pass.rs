//! One look at those who wait, in their order, by an [`Index`]: the same decisions as
//! [`plan`](crate::plan()) makes, without a look at each node.

use crate::STARVATION_MS;
use crate::index::{Index, Pool};
use crate::planted::{Planted, planted};
use crate::situation::Request;
use crate::tree::Wanted;
use domain::{NodeId, SlotName};
use std::collections::{BTreeMap, BTreeSet};

/// What a request asks for. During a pass rooms only fill and pools only close, so whoever comes
/// after one that failed and asks for the same fails too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    slots: BTreeMap<SlotName, u64>,
    members: u32,
    required: Vec<&'static str>,
}

impl Shape {
    /// What `request` asks for.
    pub fn of(request: &Request<'_>) -> Self {
        Self {
            slots: request.slots.0.clone(),
            members: request.members,
            required: request.required.clone(),
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It starts on these nodes, by the index of its members.
    Placed(Vec<NodeId>),
    /// It does not start, nor would any other that asks for the same.
    Failed {
        /// One that asked for the same has waited too long and has closed what pools it could:
        /// those that come after and ask for the same need not be looked at at all.
        closed: bool,
    },
}

/// One pass. What it gives away is missing in the index at once; whoever places what it says then
/// tells the index of all that the nodes' members have, see [`Index::set_used`].
#[derive(Debug)]
pub struct Pass<'a> {
    index: &'a mut Index,
    /// Pools that one who starves has closed.
    closed: BTreeSet<String>,
    /// Shapes that failed, and whether one of each has closed its pools.
    failed: BTreeMap<Shape, bool>,
}

impl Index {
    /// Begins a pass.
    pub fn pass(&mut self) -> Pass<'_> {
        self.tidy();
        Pass {
            index: self,
            closed: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }
}

impl Pass<'_> {
    /// Places a request, or remembers that it could not be. Requests come in their order.
    pub fn consider(&mut self, request: &Request<'_>) -> Verdict {
        let starves = request.waited.0 >= STARVATION_MS;
        let starves = starves && !planted(Planted::StarvingClosesNothing);
        // Most passes place all that they look at: then nothing is compared or copied.
        let failed = if self.failed.is_empty() {
            None
        } else {
            let shape = shape(request);
            self.failed.get(&shape).copied().map(|known| (shape, known))
        };
        if let Some((shape, known)) = failed {
            // One before it of the same shape may have waited less: for a place, that is.
            if starves && !known {
                self.failed.insert(shape, true);
                self.close_for(request);
            }
            let closed = known || starves;
            return Verdict::Failed { closed };
        }
        let wanted = self.index.wanted(request);
        if let Some(wanted) = &wanted
            && let Some(nodes) = self.place(request.members, wanted)
        {
            return Verdict::Placed(nodes);
        }
        self.failed.insert(shape(request), starves);
        if starves {
            self.close_for(request);
        }
        Verdict::Failed { closed: starves }
    }

    fn place(&mut self, members: u32, wanted: &Wanted) -> Option<Vec<NodeId>> {
        let closed = &self.closed;
        let pools = self.index.pools.iter_mut();
        let mut open = pools.filter(|(name, _)| closed.is_empty() || !closed.contains(*name));
        open.find_map(|(_, pool)| place(pool, members, wanted))
    }

    /// Closes the pools on which `request` could start if it were alone there. A pool on which it
    /// could not start, because nodes are away, stays open: waiting there would help nobody.
    fn close_for(&mut self, request: &Request<'_>) {
        let absent = planted(Planted::AbsentNodesClosePools);
        let wanted = if absent {
            let required = Vec::new();
            self.index.wanted(&Request {
                required,
                ..request.clone()
            })
        } else {
            self.index.wanted(request)
        };
        let Some(wanted) = wanted else {
            return;
        };
        for (name, pool) in &self.index.pools {
            let tree = if absent { &pool.known } else { &pool.offered };
            if tree.shares(&wanted, request.members).is_some() {
                self.closed.insert(name.clone());
            }
        }
    }
}

fn shape(request: &Request<'_>) -> Shape {
    let members = if planted(Planted::ShapeWithoutMembers) {
        1
    } else {
        request.members
    };
    Shape {
        members,
        ..Shape::of(request)
    }
}

/// Places all members on the nodes of a pool in their order, or changes nothing.
fn place(pool: &mut Pool, members: u32, wanted: &Wanted) -> Option<Vec<NodeId>> {
    let mut nodes = Vec::new();
    for (leaf, share) in pool.free.shares(wanted, members)? {
        let counted = if planted(Planted::ShareCountedOnce) {
            share.min(1)
        } else {
            share
        };
        pool.free.take(leaf, wanted, counted);
        let node = pool.nodes[leaf];
        nodes.extend((0..share).map(|_| node));
    }
    Some(nodes)
}
