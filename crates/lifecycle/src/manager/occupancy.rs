//! Who is on which node, and what that leaves free: indexes, so that a step costs as much as it
//! changes, whatever the number of nodes and sessions.
//!
//! Nothing is counted up and down. That a session has changed, or a node, only marks the nodes
//! that it concerns; before anything is placed, what each of these has left is summed up anew from
//! all members that are there. Debug builds compare the result with a sum over everything, after
//! each batch.

use super::placement::{holding, holding_of, holds, nodes_with_holdings};
use super::restored::is_unheard;
use super::site::{Entry, NodeEntry, Site};
use domain::{MemberId, MemberRecord, NodeId, SessionId};
use scheduler::{Holding, Index, Node};
use std::collections::{BTreeMap, BTreeSet};

/// A member on a node, and whether it held something of it when it was last looked at.
pub(super) type Place = (NodeId, MemberId, bool);

/// The indexes over who is where.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    /// What is free, but for the nodes that are marked.
    pub(super) index: Index,
    /// Members of sessions that are held of which a node has, or should have, anything. Within a
    /// batch also some that are gone.
    members: BTreeMap<NodeId, BTreeSet<MemberId>>,
    /// Nodes that have something which belongs to no current attempt.
    foreign: BTreeSet<NodeId>,
    /// Nodes that have not told what they have since the store was restored, if it ever was.
    unheard: BTreeSet<NodeId>,
    /// Nodes that have come, changed or gone since the index was told of them.
    changed: BTreeSet<NodeId>,
    /// Nodes that have other members since then.
    moved: BTreeSet<NodeId>,
}

impl Site {
    /// Notes where a session's members are now.
    pub(super) fn index_places(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get_mut(&id) else {
            return;
        };
        let is_held = entry.is_held;
        if !is_held && entry.places.is_empty() {
            return;
        }
        let record = &entry.record;
        let places = || {
            let members = record.all_members().filter(|_| is_held);
            members.filter_map(place_of)
        };
        if places().eq(entry.places.iter().copied()) {
            return;
        }
        let places: Vec<Place> = places().collect();
        let before = std::mem::replace(&mut entry.places, places);
        self.occupancy.leave(&before);
        self.occupancy.enter(&self.sessions[&id].places);
    }

    /// A session leaves memory: it is nowhere.
    pub(super) fn unindex_places(&mut self, entry: &Entry) {
        self.occupancy.leave(&entry.places);
        self.mark_foreign_of(entry.record.id);
    }

    /// Notes that a node has come, has changed or has gone.
    pub(super) fn index_node(&mut self, node: NodeId) {
        self.occupancy.changed.insert(node);
        let record = self.nodes.get(&node).map(|entry| &entry.record);
        if record.is_some_and(|record| is_unheard(&self.row, record)) {
            self.occupancy.unheard.insert(node);
        } else {
            self.occupancy.unheard.remove(&node);
        }
        self.index_foreign(node);
    }

    /// Notes that a node has other members that belong to no current attempt.
    pub(super) fn index_foreign(&mut self, node: NodeId) {
        let entry = self.nodes.get(&node);
        if entry.is_some_and(|entry| !entry.foreign.is_empty()) {
            self.occupancy.foreign.insert(node);
        } else {
            self.occupancy.foreign.remove(&node);
        }
        self.occupancy.moved.insert(node);
    }

    /// A session has come into memory, or leaves it: by it was known what a member has of which its
    /// node does not tell.
    pub(super) fn mark_foreign_of(&mut self, session: SessionId) {
        for node in &self.occupancy.foreign {
            let mut foreign = self.nodes[node].foreign.keys();
            if foreign.any(|id| id.session == session) {
                self.occupancy.moved.insert(*node);
            }
        }
    }

    /// Has the index know what has changed.
    pub(super) fn refresh_index(&mut self) {
        let mut index = std::mem::take(&mut self.occupancy.index);
        for node in std::mem::take(&mut self.occupancy.changed) {
            match self.nodes.get(&node) {
                Some(entry) => index.put(&entry.record, !entry.unheard),
                None => index.remove(node),
            }
            self.occupancy.moved.insert(node);
        }
        for node in std::mem::take(&mut self.occupancy.moved) {
            index.set_used(node, self.holdings_on(node).map(|holding| holding.slots));
        }
        self.occupancy.index = index;
    }

    /// What members have of a node, those of no current attempt too.
    pub(super) fn holdings_on(&self, node: NodeId) -> impl Iterator<Item = Holding<'_>> {
        let members = self.members_on(node).filter(|(_, member)| holds(member));
        let members = members.map(|(entry, _)| holding(&entry.record));
        members.chain(self.foreign_holdings_on(node))
    }

    /// Members on a node that are not gone, by id.
    pub(super) fn members_on(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = (&Entry, &MemberRecord)> + Clone {
        let ids = self.occupancy.members.get(&node).into_iter().flatten();
        ids.filter_map(move |id| {
            let entry = self.sessions.get(&id.session)?;
            let mut members = entry.record.all_members();
            Some((entry, members.find(|member| member.id == *id)?))
        })
    }

    /// The ids of [`Site::members_on`], for whoever changes something.
    pub(super) fn member_ids_on(&self, node: NodeId) -> Vec<MemberId> {
        let ids = self.occupancy.members.get(&node).into_iter().flatten();
        ids.copied().collect()
    }

    /// Nodes that have something which belongs to no current attempt, by id.
    pub(super) fn nodes_with_foreign(&self) -> impl Iterator<Item = (NodeId, &NodeEntry)> {
        let nodes = self.occupancy.foreign.iter();
        nodes.map(|node| (*node, &self.nodes[node]))
    }

    /// Every node has told what it has.
    pub(super) fn are_all_heard(&self) -> bool {
        self.occupancy.unheard.is_empty()
    }

    /// What unclaimed members and members of older attempts have of a node.
    fn foreign_holdings_on(&self, node: NodeId) -> impl Iterator<Item = Holding<'_>> {
        let entry = self.nodes.get(&node).into_iter();
        let foreign = entry.flat_map(|entry| &entry.foreign);
        let living = foreign.filter(|(_, foreign)| foreign.state.occupies());
        living.filter_map(|(id, foreign)| {
            let known = self.sessions.get(&id.session);
            match (&foreign.spec, known) {
                (Some(spec), _) => Some(holding_of(id.session, spec)),
                (None, Some(entry)) => Some(holding(&entry.record)),
                (None, None) => None,
            }
        })
    }

    /// What members have of each node that has told what it has, by a look at everything.
    pub(super) fn all_holdings(&self) -> Vec<Node<'_>> {
        let further = self.nodes.keys().flat_map(|node| {
            let holdings = self.foreign_holdings_on(*node);
            holdings.map(|holding| (*node, holding))
        });
        let heard = self.nodes.values().filter(|entry| !entry.unheard);
        let heard = heard.map(|entry| &entry.record);
        let records = self.held().map(|entry| entry.record.as_ref());
        nodes_with_holdings(heard, records, further)
    }

    /// The indexes say what a look at everything says. It is one, so only debug builds ask.
    pub(super) fn is_indexed(&mut self) -> bool {
        self.refresh_index();
        let all = self.nodes.iter();
        let unheard = all.filter(|(_, entry)| is_unheard(&self.row, &entry.record));
        let all = self.nodes.iter();
        let foreign = all.filter(|(_, entry)| !entry.foreign.is_empty());
        let held = self.held().flat_map(|entry| entry.record.all_members());
        let mut members: BTreeMap<NodeId, BTreeSet<MemberId>> = BTreeMap::new();
        for (node, id, _) in held.filter_map(place_of) {
            members.entry(node).or_default().insert(id);
        }
        unheard.map(|(node, _)| node).eq(&self.occupancy.unheard)
            && foreign.map(|(node, _)| node).eq(&self.occupancy.foreign)
            && members == self.occupancy.members
            && self.occupancy.index.agrees_with(&self.all_holdings())
    }
}

impl Occupancy {
    fn leave(&mut self, places: &[Place]) {
        for (node, id, _) in places {
            if let Some(members) = self.members.get_mut(node) {
                members.remove(id);
                if members.is_empty() {
                    self.members.remove(node);
                }
            }
            self.moved.insert(*node);
        }
    }

    fn enter(&mut self, places: &[Place]) {
        for (node, id, _) in places {
            self.members.entry(*node).or_default().insert(*id);
            self.moved.insert(*node);
        }
    }
}

fn place_of(member: &MemberRecord) -> Option<Place> {
    let is_left = member.state != domain::MemberState::Gone;
    is_left.then(|| (member.node, member.id, holds(member)))
}
