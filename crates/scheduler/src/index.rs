//! What is free on every node, kept from one decision to the next.
//!
//! It knows nothing of sessions: whoever keeps it says of a node what it is and what its members
//! have of it, whenever either has changed, and says it as a whole. So what is used is a sum over
//! members here too, never counted up and down. Names of slots and rows become small numbers when
//! a node first brings them, and stay known.

use crate::planted::{Planted, planted};
use crate::situation::{Node, Request};
use crate::tree::{Tree, Wanted};
use domain::{Capability, NodeId, NodeRecord, NodeStatus, SlotName, Slots};
use std::collections::BTreeMap;

/// Set in the first word of rows where there is a node.
const THERE: u64 = 1;
/// Rows of a word.
const WORD: usize = 64;

/// All nodes, by pool, in the order in which they are filled.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Numbers of slots, from 0.
    slots: BTreeMap<SlotName, usize>,
    /// Numbers of rows, from 1: bit 0 says that a node is there.
    rows: BTreeMap<String, usize>,
    rooms: BTreeMap<NodeId, Room>,
    pub(crate) pools: BTreeMap<String, Pool>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Room {
    pool: String,
    name: String,
    /// By the slot's number, as far as it has them.
    offers: Vec<u64>,
    /// Words of the rows that it has, and [`THERE`].
    rows: Vec<u64>,
    /// By the slot's number; in 128 bits so that no number of members can overflow them.
    used: Vec<u128>,
    /// New members may be given to it, if it has what they need.
    usable: bool,
    /// It has told what it has; before that it is passed over as if it were not there.
    heard: bool,
    /// Its place in its pool, once that is in order.
    leaf: usize,
}

/// Nodes that are scheduled together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    /// By their place.
    pub(crate) nodes: Vec<NodeId>,
    /// The trees have to be made anew: a node has come or gone.
    stale: bool,
    /// What is free, of the nodes that may be given something.
    pub(crate) free: Tree,
    /// What these offer in all.
    pub(crate) offered: Tree,
    /// What all nodes offer, also those that are away.
    pub(crate) known: Tree,
}

impl Index {
    /// A node has come, or what it is has changed. `heard`: it has told what it has, so that it
    /// may be given more.
    pub fn put(&mut self, node: &NodeRecord, heard: bool) {
        let room = Room {
            pool: node.pool.clone(),
            name: node.name.clone(),
            offers: self.amounts(&node.offers),
            rows: self.rows_of(node),
            used: Vec::new(),
            usable: is_usable(node),
            heard,
            leaf: 0,
        };
        let (pools, rooms) = (&mut self.pools, &mut self.rooms);
        if let Some(known) = rooms.get_mut(&node.id) {
            let room = Room {
                used: std::mem::take(&mut known.used),
                leaf: known.leaf,
                ..room
            };
            if room.is_beside(known) {
                *known = room;
                if let Some(pool) = pools.get_mut(&known.pool) {
                    pool.refresh(known);
                }
                return;
            }
            if let Some(pool) = pools.get_mut(&known.pool) {
                pool.stale = true;
            }
            *known = room;
        } else {
            rooms.insert(node.id, room);
        }
        let pool = pools.entry(node.pool.clone()).or_default();
        pool.nodes.push(node.id);
        pool.stale = true;
    }

    /// What the members that are on a node have of it, all of them.
    pub fn set_used<'a>(&mut self, node: NodeId, members: impl Iterator<Item = &'a Slots>) {
        let Some(room) = self.rooms.get_mut(&node) else {
            return;
        };
        room.used.fill(0);
        for (slot, amount) in members.flat_map(|slots| &slots.0) {
            // A slot that no node ever offered is free nowhere, however little is used.
            let Some(number) = self.slots.get(slot) else {
                continue;
            };
            if room.used.len() <= *number {
                room.used.resize(number + 1, 0);
            }
            room.used[*number] += u128::from(*amount);
        }
        if let Some(pool) = self.pools.get_mut(&room.pool) {
            pool.refresh_free(room);
        }
    }

    /// A node has gone.
    pub fn remove(&mut self, node: NodeId) {
        if let Some(room) = self.rooms.remove(&node)
            && let Some(pool) = self.pools.get_mut(&room.pool)
        {
            pool.stale = true;
        }
    }

    /// Whether all members of `request` could ever start together in one pool, and one of them on
    /// a node that has every row that is required. Nodes that are away count: they may return.
    pub fn could_ever(&mut self, request: &Request<'_>) -> bool {
        self.tidy();
        let Some(wanted) = self.wanted(request) else {
            return false;
        };
        let bare = Wanted {
            rows: vec![THERE],
            ..wanted.clone()
        };
        let mut pools = self.pools.values();
        let fits = |pool: &Pool| pool.known.shares(&bare, request.members).is_some();
        let has_rows = |pool: &Pool| pool.known.first(0, &wanted).is_some();
        pools.any(fits) && self.pools.values().any(has_rows)
    }

    /// Whether this says the same as `nodes`, those that have told what they have, do: for tests
    /// and debug builds, since it looks at everything.
    pub fn agrees_with(&self, nodes: &[Node<'_>]) -> bool {
        let heard = self.rooms.values().filter(|room| room.heard).count();
        heard == nodes.len() && nodes.iter().all(|node| self.knows(node))
    }

    fn knows(&self, node: &Node<'_>) -> bool {
        let record = node.record;
        let Some(room) = self.rooms.get(&record.id).filter(|room| room.heard) else {
            return false;
        };
        let reference = crate::rooms::Room::of(node);
        let free = |(slot, number): (&SlotName, &usize)| {
            let free = room.free(self.slots.len()).nth(*number);
            free.map(u128::from) == Some(reference.free(slot))
        };
        let row = |(row, number): (&String, &usize)| {
            let word = room.rows.get(number / WORD).copied().unwrap_or(0);
            let has = word & 1 << (number % WORD) != 0;
            has == (record.capabilities.get(row) == Some(&Capability::Yes))
        };
        let slots_are_known = record
            .offers
            .0
            .keys()
            .all(|slot| self.slots.contains_key(slot));
        let is_in_place = self.pools.get(&record.pool).is_some_and(|pool| {
            pool.stale
                || pool.nodes.get(room.leaf) == Some(&record.id)
                    && pool.free.is_leaf(
                        room.leaf,
                        room.free(pool.free.slots()),
                        room.usable_rows(),
                    )
        });
        is_in_place
            && slots_are_known
            && self.slots.iter().all(free)
            && self.rows.iter().all(row)
            && room.usable == is_usable(record)
            && (&room.pool, &room.name) == (&record.pool, &record.name)
    }

    /// Puts those pools in order to which nodes have come or from which some have gone, and all
    /// once a slot or a row is new.
    pub(crate) fn tidy(&mut self) {
        let slots = self.slots.len();
        let words = self.rows.len() / WORD + 1;
        let rooms = &mut self.rooms;
        for (name, pool) in &mut self.pools {
            if pool.stale || !pool.free.is_of(slots, words) {
                pool.build(name, rooms, (slots, words));
            }
        }
        self.pools.retain(|_, pool| !pool.nodes.is_empty());
    }

    /// What a request wants, in numbers; `None` if no node has ever had it.
    pub(crate) fn wanted(&self, request: &Request<'_>) -> Option<Wanted> {
        let mut wanted = Wanted {
            amounts: Vec::with_capacity(request.slots.0.len()),
            rows: vec![THERE],
        };
        for (slot, amount) in request.slots.0.iter().filter(|(_, amount)| **amount > 0) {
            wanted.amounts.push((*self.slots.get(slot)?, *amount));
        }
        for row in &request.required {
            set(&mut wanted.rows, *self.rows.get(*row)?);
        }
        Some(wanted)
    }

    fn amounts(&mut self, slots: &Slots) -> Vec<u64> {
        let mut amounts = Vec::new();
        for (slot, amount) in &slots.0 {
            let next = self.slots.len();
            let number = *self.slots.entry(slot.clone()).or_insert(next);
            if amounts.len() <= number {
                amounts.resize(number + 1, 0);
            }
            amounts[number] = *amount;
        }
        amounts
    }

    fn rows_of(&mut self, node: &NodeRecord) -> Vec<u64> {
        let mut rows = vec![THERE];
        let has = node.capabilities.iter();
        for (row, _) in has.filter(|(_, capability)| **capability == Capability::Yes) {
            let number = match self.rows.get(row) {
                Some(number) => *number,
                None => {
                    let next = self.rows.len() + 1;
                    self.rows.insert(row.clone(), next);
                    next
                }
            };
            set(&mut rows, number);
        }
        rows
    }
}

impl Room {
    /// It stands where `other` does.
    fn is_beside(&self, other: &Self) -> bool {
        (&self.pool, &self.name) == (&other.pool, &other.name)
    }

    fn used(&self, slot: usize) -> u128 {
        self.used.get(slot).copied().unwrap_or(0)
    }

    /// By the slot's number. Zero where more is used than offered: a node may offer less than it
    /// did.
    fn free(&self, slots: usize) -> impl Iterator<Item = u64> {
        (0..slots).map(|slot| {
            let offered = self.offers.get(slot).copied().unwrap_or(0);
            let used = u64::try_from(self.used(slot)).unwrap_or(u64::MAX);
            offered.saturating_sub(used)
        })
    }

    /// Its rows, or none of them if it may be given nothing.
    fn usable_rows(&self) -> &[u64] {
        if self.usable && self.heard {
            &self.rows
        } else {
            &[]
        }
    }
}

impl Pool {
    fn build(
        &mut self,
        name: &str,
        rooms: &mut BTreeMap<NodeId, Room>,
        (slots, words): (usize, usize),
    ) {
        self.nodes.retain(|node| {
            let room = rooms.get(node);
            room.is_some_and(|room| room.pool == name)
        });
        self.nodes.sort_by(|one, other| {
            let name = |node| &rooms[node].name;
            (name(one), one).cmp(&(name(other), other))
        });
        // One that went and came back was put twice.
        self.nodes.dedup();
        let tree = Tree::new(self.nodes.len(), slots, words);
        (self.free, self.offered, self.known) = (tree.clone(), tree.clone(), tree);
        for (leaf, node) in self.nodes.iter().enumerate() {
            let room = rooms.get_mut(node).expect("those without were dropped");
            room.leaf = leaf;
            self.free.write(leaf, room.free(slots), room.usable_rows());
            let offers = || room.offers.iter().copied();
            self.offered.write(leaf, offers(), room.usable_rows());
            self.known.write(leaf, offers(), &room.rows);
        }
        for tree in [&mut self.free, &mut self.offered, &mut self.known] {
            tree.build();
        }
        self.stale = false;
    }

    /// What a node of it is has changed.
    fn refresh(&mut self, room: &Room) {
        // A name that no tree knows is left out here: before the next search all are made anew.
        if self.stale {
            return;
        }
        let offers = || room.offers.iter().copied();
        self.offered.write(room.leaf, offers(), room.usable_rows());
        self.known.write(room.leaf, offers(), &room.rows);
        for tree in [&mut self.offered, &mut self.known] {
            tree.rise(room.leaf);
        }
        self.refresh_free(room);
    }

    /// What a node of it has left has changed.
    fn refresh_free(&mut self, room: &Room) {
        if !self.stale {
            let free = room.free(self.free.slots());
            self.free.write(room.leaf, free, room.usable_rows());
            self.free.rise(room.leaf);
        }
    }
}

/// Its agent is connected and no operator has it drained.
fn is_usable(node: &NodeRecord) -> bool {
    node.status == NodeStatus::Connected
        && (node.drain.is_none() || planted(Planted::DrainIsOnlyTold))
}

fn set(words: &mut Vec<u64>, number: usize) {
    let word = number / WORD;
    if words.len() <= word {
        words.resize(word + 1, 0);
    }
    words[word] |= 1 << (number % WORD);
}

#[cfg(test)]
mod tests {
    use super::Index;
    use crate::situation::{Holding, Node};
    use domain::{
        Capability, DrainOrder, NodeId, NodeRecord, NodeStatus, SessionId, SlotName, Slots,
        Timestamp,
    };
    use std::collections::BTreeMap;

    fn node(id: u64) -> NodeRecord {
        NodeRecord {
            id: NodeId(id),
            name: format!("n{id}"),
            pool: "default".to_owned(),
            offers: slots("cpu", 4),
            capabilities: BTreeMap::from([("row".to_owned(), Capability::Yes)]),
            status: NodeStatus::Connected,
            generation: 0,
            heard_in: 0,
            drain: None,
            removal: None,
        }
    }

    fn slots(name: &str, amount: u64) -> Slots {
        Slots(BTreeMap::from([(SlotName(name.to_owned()), amount)]))
    }

    fn agrees(index: &Index, records: &[NodeRecord], on_the_first: &[&Slots]) -> bool {
        let mut nodes: Vec<Node<'_>> = records
            .iter()
            .map(|record| Node {
                record,
                holdings: Vec::new(),
            })
            .collect();
        let holdings = on_the_first.iter().map(|slots| Holding {
            session: SessionId(1),
            name: "other",
            index: None,
            slots,
        });
        if let Some(first) = nodes.first_mut() {
            first.holdings.extend(holdings);
        }
        index.agrees_with(&nodes)
    }

    /// Whether an index is right is asserted in debug builds and simulations: here it is wrong in
    /// one way after the other.
    #[test]
    fn an_index_that_says_something_else_does_not_agree() {
        let mut index = Index::default();
        let nodes = [node(1), node(2)];
        nodes.iter().for_each(|node| index.put(node, true));
        let one = slots("cpu", 1);
        index.set_used(NodeId(1), std::iter::once(&one));
        assert!(agrees(&index, &nodes, &[&one]), "before it is put in order");
        index.tidy();
        assert!(agrees(&index, &nodes, &[&one]));

        // More nodes, fewer, others, and what members have.
        assert!(!agrees(&index, &[node(1), node(2), node(3)], &[&one]));
        assert!(!agrees(&index, &nodes[..1], &[&one]));
        assert!(!agrees(&index, &[node(1), node(3)], &[&one]));
        assert!(!agrees(&index, &nodes, &[]));
        assert!(!agrees(&index, &nodes, &[&one, &one]));
        let mut unheard = index.clone();
        unheard.put(&nodes[1], false);
        assert!(!agrees(&unheard, &nodes, &[&one]));
        assert!(agrees(&unheard, &nodes[..1], &[&one]));

        // What a node is.
        let changes: [fn(&mut NodeRecord); 7] = [
            |node| node.name.push('x'),
            |node| node.pool.push('x'),
            |node| node.status = NodeStatus::Disconnected,
            |node| {
                node.drain = Some(DrainOrder {
                    by: "an operator".to_owned(),
                    at: Timestamp(0),
                    reason: String::new(),
                });
            },
            |node| node.capabilities.clear(),
            |node| node.offers = slots("cpu", 5),
            |node| {
                node.offers.0.insert(SlotName("other".to_owned()), 1);
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut nodes = nodes.clone();
            change(&mut nodes[1]);
            assert!(!agrees(&index, &nodes, &[&one]), "change {number}");
            let mut index = index.clone();
            index.put(&nodes[1], true);
            assert!(agrees(&index, &nodes, &[&one]), "change {number}");
        }
    }

    #[test]
    fn an_index_whose_trees_or_places_are_wrong_does_not_agree() {
        let mut index = Index::default();
        let nodes = [node(1), node(2)];
        nodes.iter().for_each(|node| index.put(node, true));
        index.tidy();
        assert!(agrees(&index, &nodes, &[]));
        let broken = |wrong: fn(&mut Index)| {
            let mut index = index.clone();
            wrong(&mut index);
            !agrees(&index, &nodes, &[])
        };
        assert!(broken(|index| index.pools.clear()));
        assert!(broken(|index| {
            let pool = index.pools.get_mut("default").expect("there is one");
            pool.free.write(1, [3].into_iter(), &[3]);
        }));
        assert!(broken(|index| {
            let pool = index.pools.get_mut("default").expect("there is one");
            pool.nodes.swap(0, 1);
        }));
        assert!(broken(|index| {
            let room = index.rooms.get_mut(&NodeId(1)).expect("there is one");
            room.usable = false;
        }));
    }
}
