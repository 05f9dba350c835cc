//! What operators order of nodes: that one gets nothing new, and that one no longer belongs to the
//! site.
//!
//! Who removes a node says that nothing of the site runs there: it is believed where the node has
//! told so itself, and else only with the word that its machine is gone for ever. The row of a
//! removed node is kept, so that one that comes back is known: it is taken in, and given nothing
//! new until an operator says so; what it has of sessions that were given up is unclaimed.

use super::outcome::BY_INSULA;
use super::restored::is_unheard;
use super::site::{NodeEntry, Site};
use super::{Answer, Refusal, RequestToken};
use crate::planted::{Planted, planted};
use domain::{
    DrainOrder, MemberPause, MemberRecord, MemberState, NodeId, NodeRecord, NodeStatus, Now,
    RemovalOrder, SessionId, StopOrder,
};

/// Most removed nodes that are remembered; the one that was removed first goes first. If it comes
/// back after that, it is taken in like one that obeyed a state of the site that its store has lost.
pub const REMOVED_LIMIT: usize = 1_000;

/// What an operator orders of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeOrder {
    /// It gets nothing new.
    Drain {
        /// By whom and why.
        order: DrainOrder,
        /// How the sessions that live there are ended; `None` if they go on.
        stop: Option<StopOrder>,
    },
    /// It gets new sessions again; where it is not drained, nothing is to be done.
    Undrain {
        /// Who asked.
        by: String,
    },
    /// It no longer belongs to the site.
    Remove {
        /// By whom, and whether its machine is gone for ever.
        order: RemovalOrder,
    },
}

impl Site {
    pub(super) fn order_node(
        &mut self,
        token: RequestToken,
        node: NodeId,
        order: NodeOrder,
        now: Now,
    ) {
        match order {
            NodeOrder::Drain { order, stop } => self.drain(token, node, (order, stop), now),
            NodeOrder::Undrain { by } => self.undrain(token, node, &by, now),
            NodeOrder::Remove { order } => self.remove_node(token, node, order, now),
        }
    }

    /// `asked`: by whom and why; and how the sessions that live there are ended, if they are.
    fn drain(
        &mut self,
        token: RequestToken,
        node: NodeId,
        asked: (DrainOrder, Option<StopOrder>),
        now: Now,
    ) {
        let (order, stop) = asked;
        let Some(entry) = self.nodes.get_mut(&node) else {
            return self.refuse_node(token, Refusal::NoSuchNode { node });
        };
        let known = entry.record.drain.as_ref();
        let said = known.filter(|_| order.reason.is_empty());
        let order = DrainOrder {
            at: known.map_or(order.at, |known| known.at),
            // Who orders it again, to have sessions end as well, need not say why again.
            reason: said.map_or(order.reason, |known| known.reason.clone()),
            ..order
        };
        if known != Some(&order) {
            let (name, by) = (&entry.record.name, &order.by);
            let mut message = format!("{by} has drained node {name}");
            if !order.reason.is_empty() {
                message.push_str(&format!(": {}", order.reason));
            }
            entry.record.drain = Some(order);
            self.index_node(node);
            self.out.changed_nodes.insert(node);
            // What one that starved had closed may be open again: it may not fit any more.
            self.out.place = true;
            self.note_node(node, now, "node.drained", message);
        }
        if let Some(stop) = stop {
            for session in self.living_on(node) {
                self.ask_to_stop(session, stop.clone(), now);
            }
        }
        self.answer(token, Answer::NodeAccepted { node });
    }

    fn undrain(&mut self, token: RequestToken, node: NodeId, by: &str, now: Now) {
        let Some(entry) = self.nodes.get_mut(&node) else {
            return self.refuse_node(token, Refusal::NoSuchNode { node });
        };
        if entry.record.drain.take().is_some() {
            let message = format!("{by} has taken node {} back", entry.record.name);
            self.index_node(node);
            self.out.changed_nodes.insert(node);
            self.out.place = true;
            self.note_node(node, now, "node.undrained", message);
        }
        self.answer(token, Answer::NodeAccepted { node });
    }

    fn remove_node(&mut self, token: RequestToken, node: NodeId, order: RemovalOrder, now: Now) {
        if let Some(refusal) = self.keeps_node(node, &order) {
            return self.refuse_node(token, refusal);
        }
        if let Some(NodeEntry {
            record, foreign, ..
        }) = self.nodes.remove(&node)
        {
            self.index_node(node);
            let mut message = format!("{} has removed node {}", order.by, record.name);
            if order.lost {
                message.push_str(", whose machine is gone for ever");
            }
            self.note_node(node, now, "node.removed", message);
            // Of older attempts; whoever waits for their end waits no longer.
            let ours = foreign.iter().filter(|(_, foreign)| foreign.ours);
            self.out.touched.extend(ours.map(|(id, _)| id.session));
            self.remember_removed(NodeRecord {
                drain: None,
                removal: Some(order),
                ..record
            });
            if !planted(Planted::RemovalKeepsMembers) {
                self.give_up_on(node, now);
            }
            self.look_at_removed();
        }
        self.answer(token, Answer::NodeAccepted { node });
    }

    fn refuse_node(&mut self, token: RequestToken, refusal: Refusal) {
        self.answer(token, Answer::Refused { refusal });
    }

    /// Why a node cannot be removed. One that was removed already may be removed again.
    fn keeps_node(&self, node: NodeId, order: &RemovalOrder) -> Option<Refusal> {
        let Some(entry) = self.nodes.get(&node) else {
            let known = self.removed.contains_key(&node);
            return (!known).then_some(Refusal::NoSuchNode { node });
        };
        let name = entry.record.name.clone();
        if entry.record.status == NodeStatus::Connected {
            return Some(Refusal::NodeConnected { name });
        }
        let sessions = self.living_on(node).into_iter();
        let sessions: Vec<String> = sessions
            .map(|id| self.sessions[&id].record.shown_name())
            .collect();
        let foreign = entry.foreign.values();
        let unclaimed = foreign.filter(|foreign| foreign.state.occupies()).count();
        // Of a store that was restored it may have what only the lost future knew.
        let in_doubt = self.row.restored_epoch > 0 && is_unheard(&self.row, &entry.record);
        let in_use = in_doubt || unclaimed > 0 || !sessions.is_empty();
        (in_use && !order.lost).then_some(Refusal::NodeInUse {
            name,
            sessions,
            unclaimed,
            in_doubt,
        })
    }

    /// Sessions with a member on a node that lives or may live.
    fn living_on(&self, node: NodeId) -> Vec<SessionId> {
        let living = self.members_on(node).filter(|(_, m)| m.state.occupies());
        let mut sessions: Vec<SessionId> = living.map(|(entry, _)| entry.record.id).collect();
        sessions.dedup();
        sessions
    }

    /// Nothing that a node had can run any more, and nobody can reach what it kept. A member that
    /// has ended keeps its record, which says how.
    fn give_up_on(&mut self, node: NodeId, now: Now) {
        self.out.place = true;
        let there = |member: &MemberRecord| member.node == node;
        let ids = self.member_ids_on(node).into_iter();
        let mut sessions: Vec<SessionId> = ids.map(|id| id.session).collect();
        sessions.dedup();
        for session in sessions {
            self.out.touched.insert(session);
            let record = self.record_mut(session);
            let members = record.former.iter_mut().chain(&mut record.members);
            let mut lost = Vec::new();
            for member in members.filter(|member| there(member) && member.state.occupies()) {
                (member.state, member.pause) = (MemberState::Gone, MemberPause::Off);
                lost.push(member.id);
            }
            for member in lost {
                self.note_gone(member, now);
            }
        }
    }

    fn remember_removed(&mut self, record: NodeRecord) {
        self.out.changed_nodes.insert(record.id);
        self.removed.insert(record.id, record);
        while self.removed.len() > REMOVED_LIMIT {
            let removed = self.removed.values();
            let oldest = removed.min_by_key(|record| {
                let at = record.removal.as_ref().map(|order| order.at);
                (at, record.id)
            });
            let oldest = oldest.expect("there are more than the limit").id;
            self.removed.remove(&oldest);
            self.out.changed_nodes.remove(&oldest);
            self.out.deleted_nodes.push(oldest);
        }
    }

    /// Its node may still have something of a member: files at least. What a removed node kept is
    /// out of reach.
    pub(super) fn has_left(&self, member: &MemberRecord) -> bool {
        member.state != MemberState::Gone && self.nodes.contains_key(&member.node)
    }

    pub(super) fn note_returned(&mut self, removed: &NodeRecord, now: Now) {
        let message = format!(
            "node {} was removed and has come back: it gets nothing new until an operator takes \
             it back, and what it has of sessions that were given up is unclaimed",
            removed.name
        );
        self.note_node(removed.id, now, "node.returned", message);
    }
}

/// A node that was removed and has come back is given nothing until an operator has looked.
pub(super) fn drain_of_returned(removed: &NodeRecord, now: Now) -> Option<DrainOrder> {
    let by = removed.removal.as_ref().map(|order| order.by.as_str());
    Some(DrainOrder {
        by: BY_INSULA.to_owned(),
        at: now.wall,
        reason: format!(
            "{} removed it, and it has come back",
            by.unwrap_or("someone")
        ),
    })
}
