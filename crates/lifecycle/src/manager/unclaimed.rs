//! Members that a node has and that no session claims: shown, and ended only by an operator's
//! order (or by the agent itself after a long grace).

use super::site::{Foreign, NodeEntry, Site};
use super::{Answer, Refusal, RequestToken};
use domain::{MemberId, MemberState, NodeId, Now, StopOrder};
use node_api::{DesiredMember, MemberSpec, ReportedMember, Want};

/// An operator's order for a member that no session claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnclaimedOrder {
    /// Which.
    pub member: MemberId,
    /// Remove all that it leaves, too.
    pub remove: bool,
    /// How it is ended, if it lives.
    pub order: StopOrder,
}

/// A member that an operator has ordered to end: what is wanted. Not stored: a leader that comes after finds the
/// member unclaimed again, as far as it is still there, and the operator asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condemned {
    want: Want,
    /// Who asked, and how it is to end.
    pub(super) order: StopOrder,
    /// Kept, because an agent tells it of unclaimed members only.
    spec: MemberSpec,
}

impl Condemned {
    pub(super) fn desired(&self, id: MemberId) -> DesiredMember {
        DesiredMember {
            id,
            want: self.want.clone(),
            paused: false,
            spec: self.spec.clone(),
        }
    }
}

impl Site {
    pub(super) fn end_unclaimed(&mut self, token: RequestToken, asked: UnclaimedOrder, now: Now) {
        let member = asked.member;
        let answer = match self.condemn(asked, now) {
            Ok(()) => Answer::Accepted {
                session: member.session,
            },
            Err(refusal) => Answer::Refused { refusal },
        };
        self.answer(token, answer);
    }

    fn condemn(&mut self, asked: UnclaimedOrder, now: Now) -> Result<(), Refusal> {
        let UnclaimedOrder {
            member,
            remove,
            order,
        } = asked;
        let (signal, grace_ms) = (order.signal, order.grace_ms);
        let want = if remove {
            Want::Purge { signal, grace_ms }
        } else {
            Want::Stop { signal, grace_ms }
        };
        let has = |entry: &NodeEntry| entry.foreign.get(&member).is_some_and(is_unclaimed);
        let has_it = |(node, entry)| has(entry).then_some(node);
        let Some(node) = self.nodes_with_foreign().find_map(has_it) else {
            return Err(Refusal::NotUnclaimed { member });
        };
        let entry = self.nodes.get_mut(&node).expect("it was found there");
        let known = entry.condemned.get(&member);
        let is_purged = known.is_some_and(|known| matches!(known.want, Want::Purge { .. }));
        let spec = known.map(|known| known.spec.clone());
        let Some(spec) = spec.or_else(|| entry.foreign[&member].spec.clone()) else {
            return Err(Refusal::NotUnclaimed { member });
        };
        if is_purged && !remove {
            return Ok(());
        }
        let by = order.by.clone();
        let condemned = Condemned { want, order, spec };
        entry.condemned.insert(member, condemned);
        let name = entry.record.name.clone();
        self.out.dirty_nodes.insert(node);
        let what = if remove { "removed" } else { "ended" };
        let message =
            format!("{by} asked for the unclaimed member {member} on {name} to be {what}");
        self.note_node(node, now, "member.unclaimed-end-asked", message);
        Ok(())
    }

    /// An agent tells what a member is while nobody names it. One that an operator has ordered to end
    /// is named, and occupies its node all the same until it has ended.
    pub(super) fn keep_spec(&self, node: NodeId, member: MemberId, foreign: &mut Foreign) {
        if foreign.spec.is_none() {
            let known = self.nodes[&node].condemned.get(&member);
            foreign.spec = known.map(|known| known.spec.clone());
        }
    }

    /// What is gone, or has been claimed since, is no longer ordered to end.
    pub(super) fn forget_condemned(&mut self, node: NodeId) {
        let entry = self.nodes.get_mut(&node).expect("its report was taken");
        let before = entry.condemned.len();
        let foreign = &entry.foreign;
        entry
            .condemned
            .retain(|id, _| foreign.get(id).is_some_and(is_unclaimed));
        if entry.condemned.len() != before {
            self.out.dirty_nodes.insert(node);
        }
    }

    /// The members that a node last reported and that no session knows. They run on; only an
    /// operator decides about them.
    pub fn unclaimed(&self, node: NodeId) -> Vec<ReportedMember> {
        let Some(entry) = self.nodes.get(&node) else {
            return Vec::new();
        };
        let unclaimed = entry.foreign.iter().filter(|(_, foreign)| !foreign.ours);
        unclaimed
            .map(|(id, foreign)| ReportedMember {
                id: *id,
                state: foreign.state.clone(),
                pause: foreign.pause.clone(),
                unclaimed: true,
                spec: foreign.spec.clone(),
            })
            .collect()
    }
}

fn is_unclaimed(foreign: &Foreign) -> bool {
    !foreign.ours && foreign.state != MemberState::Gone
}
