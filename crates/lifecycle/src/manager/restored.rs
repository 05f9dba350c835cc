//! A store that was restored from an older copy: what ran on since is taken up again, and nothing
//! that may run already is begun a second time.
//!
//! The copy knows nothing of what was placed after it was made. A session that waits in it may be
//! living on a node, or have ended there. So each session that is as old as the copy waits until
//! every node of the site has told what it has, or has been removed. What is found of a later
//! attempt is then the session's; where nothing is found, it is placed anew, under a number that
//! no attempt of the lost future had.
//!
//! A session that had a place in the copy and was not seen to begin there may have begun, ended and
//! made room for others since: its place is taken back, and it waits like the others. Where some of
//! its members had begun it is left where it is; the others' nodes are told of them when they have
//! told what they have, if that leaves room.

use super::site::{Foreign, NodeEntry, Site};
use super::view::View;
use super::waiting::waits;
use crate::rows::SiteRow;
use domain::session::Requeue;
use domain::{
    AttemptNumber, Dependency, DependencyState, Intention, MemberId, MemberPause, MemberRecord,
    MemberState, NodeId, NodeRecord, Now, SessionId, SessionRecord, SessionState,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Attempts that are begun after a store was restored are numbered from the next multiple for its
/// incarnation. More than a session can have in one.
pub const ATTEMPTS_OF_AN_INCARNATION: AttemptNumber = 100;

/// A session may have been placed in a future that its store has lost.
fn is_as_old_as_the_copy(site: &SiteRow, record: &SessionRecord) -> bool {
    // Rows of before epochs were kept have none, and most stores were never restored.
    site.restored_epoch > 0 && record.epoch <= site.restored_epoch
}

/// A node may have what the store does not know.
pub(super) fn is_unheard(site: &SiteRow, node: &NodeRecord) -> bool {
    node.heard_in < site.incarnation
}

/// The nodes that `session` has to wait for before it is placed, because they may have it already.
pub(super) fn unheard_nodes<'a>(view: &'a View, session: &SessionRecord) -> Vec<&'a NodeRecord> {
    if !is_as_old_as_the_copy(&view.site, session) {
        return Vec::new();
    }
    let nodes = view.present_nodes();
    nodes.filter(|node| is_unheard(&view.site, node)).collect()
}

/// It has a place, and nothing of it was seen to begin there.
fn is_only_placed(record: &SessionRecord) -> bool {
    let assigned = |member: &MemberRecord| member.state == MemberState::Assigned;
    record.intention == Intention::Run
        && record.state == SessionState::Placed
        && record.members.iter().all(assigned)
}

/// A member is not to begin on its node yet: it had not when the store was copied, and what the node
/// has begun since may leave no room for it.
pub(super) fn is_withheld(
    site: &SiteRow,
    node: Option<&NodeRecord>,
    record: &SessionRecord,
    member: &MemberRecord,
) -> bool {
    member.state == MemberState::Assigned
        && is_as_old_as_the_copy(site, record)
        && node.is_some_and(|node| is_unheard(site, node))
}

/// A member was ordered to stop in a future that the store has lost. It is not to run on: its state
/// leads only forward, and an agent that is killed forgets the order.
pub(super) fn is_stopped_since(
    site: &SiteRow,
    record: &SessionRecord,
    member: &MemberRecord,
) -> bool {
    matches!(member.state, MemberState::Stopping { .. }) && is_as_old_as_the_copy(site, record)
}

/// The number of a session's next attempt.
pub fn next_attempt(site: &SiteRow, record: &SessionRecord) -> AttemptNumber {
    let mut last = record.attempt;
    if is_as_old_as_the_copy(site, record) {
        let before = site.incarnation.saturating_sub(1);
        let base = before.saturating_mul(ATTEMPTS_OF_AN_INCARNATION.into());
        // No site is restored so often; a node that claims so is not followed.
        last = AttemptNumber::try_from(base).map_or(last, |base| last.max(base));
    }
    last + 1
}

impl Site {
    /// Begins an incarnation above `known`: from here on nodes obey this store, and all that it
    /// holds of the time before this leader is in doubt until they have told what they have.
    pub(super) fn begin_incarnation(&mut self, known: u64, now: Now) {
        self.row.incarnation = known.max(self.row.incarnation).saturating_add(1);
        self.row.restored_epoch = self.row.epoch - 1;
        self.out.site_changed = true;
        // What they report counts once they have obeyed the new incarnation. Until then nothing is
        // placed there: what had a place may be about to begin.
        self.out.dirty_nodes.extend(self.nodes.keys());
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in nodes {
            if let Some(entry) = self.nodes.get_mut(&node) {
                entry.unheard = true;
            }
            self.index_node(node);
        }
        let held = self.held().map(|entry| &entry.record);
        let placed = held
            .filter(|record| is_as_old_as_the_copy(&self.row, record) && is_only_placed(record));
        let placed: Vec<SessionId> = placed.map(|record| record.id).collect();
        for session in placed {
            self.take_back_place(session, now);
        }
    }

    /// Makes a session wait as it did before it was placed.
    fn take_back_place(&mut self, session: SessionId, now: Now) {
        let entry = self.entry_mut(session);
        let record = Arc::make_mut(&mut entry.record);
        let members = std::mem::take(&mut record.members);
        for member in &members {
            entry.told.remove(&member.id);
        }
        entry.timer = None;
        let record = self.record_mut(session);
        super::derive::change_state(record, SessionState::Pending, Requeue::ByPolicy);
        // If a node has this attempt, it is a later one than those that are known.
        record.attempt -= 1;
        let name = record.shown_name();
        let message = format!(
            "session {name} waits again: it had a place when the store was copied, and may have \
             begun there since"
        );
        self.note_session(session, now, "session.withdrawn", message);
        self.out.touched.insert(session);
        self.index_life(session);
    }

    /// A node has told all that it has, and obeys this incarnation.
    pub(super) fn note_heard(&mut self, node: NodeId, now: Now) {
        let incarnation = self.row.incarnation;
        let entry = self.nodes.get_mut(&node).expect("its report was taken");
        if entry.record.heard_in != incarnation {
            entry.record.heard_in = incarnation;
            self.index_node(node);
            self.out.changed_nodes.insert(node);
            self.out.place = true;
            self.release_withheld(node, now);
            self.look_at_removed();
        }
    }

    /// Has removed sessions deleted that waited for the last node to tell what it has.
    pub(super) fn look_at_removed(&mut self) {
        if self.are_all_heard() {
            let ended = self
                .active_records()
                .filter(|record| !record.state.is_living());
            let ended: Vec<SessionId> = ended.map(|record| record.id).collect();
            self.out.touched.extend(ended);
        }
    }

    /// Lets the members begin that were withheld from a node. Those for which it has no room are
    /// lost: their session has ended in the future that the store has lost.
    fn release_withheld(&mut self, node: NodeId, now: Now) {
        let members = self.members_on(node);
        let old = members.filter(|(entry, _)| is_as_old_as_the_copy(&self.row, &entry.record));
        let assigned = old.filter(|(entry, member)| {
            let is_current = entry.record.members.iter().any(|m| m.id == member.id);
            is_current && member.state == MemberState::Assigned
        });
        let withheld: Vec<MemberId> = assigned.map(|(_, member)| member.id).collect();
        for id in withheld {
            self.out.touched.insert(id.session);
            if self.is_overcommitted(node) {
                self.member_mut(id).state = MemberState::Gone;
                self.out.changed.insert(id.session);
                self.note_gone(id, now);
            }
        }
    }

    /// It waits until it is known whether it was placed already.
    pub(super) fn is_in_doubt(&self, record: &SessionRecord, all_heard: bool) -> bool {
        !all_heard && is_as_old_as_the_copy(&self.row, record)
    }

    /// Gives sessions that wait the later attempts that nodes have of them.
    pub(super) fn take_up_attempts(&mut self, now: Now) {
        let all_heard = self.are_all_heard();
        for (session, attempt) in self.later_attempts() {
            let members = self.members_of(session, attempt);
            let asked = self.sessions[&session].record.spec.members;
            let is_whole = u32::try_from(members.len()) == Ok(asked);
            let states = || members.values().map(|(_, found)| &found.state);
            let has_begun = states().any(|state| !is_before_start(state));
            let lives = has_begun && states().any(MemberState::occupies);
            // There is nothing later than what lives. What has ended may have been followed.
            if is_whole && lives || all_heard && (has_begun || self.is_condemned(&members)) {
                self.take_up(session, attempt, members, now);
            } else if all_heard {
                self.pass_over(session, attempt, members, now);
            }
        }
    }

    /// An operator has ordered one of them to end.
    fn is_condemned(&self, members: &BTreeMap<MemberId, (NodeId, Foreign)>) -> bool {
        let mut members = members.iter();
        members.any(|(id, (node, _))| self.nodes[node].condemned.contains_key(id))
    }

    /// Has an attempt ended of which nothing has begun: no session claims it, so nothing of it ever
    /// will, and what it was to have its node may have given to others. The next is placed.
    fn pass_over(
        &mut self,
        session: SessionId,
        attempt: AttemptNumber,
        found: BTreeMap<MemberId, (NodeId, Foreign)>,
        now: Now,
    ) {
        for (id, (node, _)) in found {
            let entry = self.nodes.get_mut(&node).expect("it was found there");
            let foreign = entry.foreign.get_mut(&id);
            foreign.expect("it was found there").ours = true;
            self.out.dirty_nodes.insert(node);
            self.out.unclaimed.insert(node);
        }
        let record = self.record_mut(session);
        record.attempt = attempt;
        let name = record.shown_name();
        let message = format!(
            "attempt {attempt} of session {name} had not begun when the store was restored: \
             another one is"
        );
        self.note_session(session, now, "session.passed-over", message);
    }

    /// The last attempt that nodes have of each session that waits and knows nothing of it.
    fn later_attempts(&self) -> BTreeMap<SessionId, AttemptNumber> {
        let mut last: BTreeMap<SessionId, AttemptNumber> = BTreeMap::new();
        let nodes = self.nodes_with_foreign();
        for (id, _) in nodes.flat_map(|(_, entry)| unclaimed(entry)) {
            let Some(entry) = self.sessions.get(&id.session) else {
                continue;
            };
            if waits(&entry.record) && id.attempt > entry.record.attempt {
                let found = last.entry(id.session).or_default();
                *found = id.attempt.max(*found);
            }
        }
        last
    }

    /// What nodes have of an attempt; of one index, what lives before what does not.
    fn members_of(
        &self,
        session: SessionId,
        attempt: AttemptNumber,
    ) -> BTreeMap<MemberId, (NodeId, Foreign)> {
        let asked = self.sessions[&session].record.spec.members;
        let mut members: BTreeMap<MemberId, (NodeId, Foreign)> = BTreeMap::new();
        for (node, entry) in self.nodes_with_foreign() {
            let of_it = unclaimed(entry)
                .filter(|(id, _)| id.session == session && id.attempt == attempt)
                .filter(|(id, _)| id.index < asked);
            for (id, found) in of_it {
                let known = members.get(id);
                if known.is_none_or(|(_, known)| !known.state.occupies()) {
                    members.insert(*id, (node, found.clone()));
                }
            }
        }
        members
    }

    fn take_up(
        &mut self,
        session: SessionId,
        attempt: AttemptNumber,
        mut found: BTreeMap<MemberId, (NodeId, Foreign)>,
        now: Now,
    ) {
        let Some((some_node, _)) = found.values().next() else {
            return;
        };
        let some_node = *some_node;
        let mut condemned = None;
        let mut members = Vec::new();
        for index in 0..self.sessions[&session].record.spec.members {
            let id = MemberId {
                session,
                attempt,
                index,
            };
            // No node has it any more.
            let mut member = MemberRecord {
                id,
                node: some_node,
                state: MemberState::Gone,
                pause: MemberPause::Off,
            };
            if let Some((node, foreign)) = found.remove(&id) {
                let entry = self.nodes.get_mut(&node).expect("it was found there");
                entry.foreign.remove(&id);
                condemned = entry.condemned.remove(&id).or(condemned);
                (member.node, member.state, member.pause) = (node, foreign.state, foreign.pause);
                self.index_foreign(node);
                self.out.dirty_nodes.insert(node);
                self.out.unclaimed.insert(node);
            }
            members.push(member);
        }
        let record = self.record_mut(session);
        super::derive::change_state(record, SessionState::Placed, Requeue::No);
        // Its epoch stays: a later attempt of it may have been told of and be forgotten.
        record.attempt = attempt;
        record.members = members;
        record.retry.at = None;
        // It was begun, so what it waited for had come; a further attempt does not wait again.
        let waiting = |other: &&mut Dependency| other.state == DependencyState::Waiting;
        for dependency in record.after.iter_mut().filter(waiting) {
            dependency.state = DependencyState::Met { at: now.wall };
        }
        if let Some(condemned) = condemned {
            record.intention = Intention::Stop {
                order: condemned.order,
            };
        }
        let name = record.shown_name();
        let message = format!(
            "session {name} is taken up again: its attempt {attempt} was begun before the store \
             was restored"
        );
        self.note_session(session, now, "session.taken-up", message);
        self.out.touched.insert(session);
        self.index_life(session);
    }
}

/// An agent begins it only if it is claimed.
fn is_before_start(state: &MemberState) -> bool {
    matches!(state, MemberState::Assigned | MemberState::Preparing)
}

fn unclaimed(entry: &NodeEntry) -> impl Iterator<Item = (&MemberId, &Foreign)> {
    let foreign = entry.foreign.iter();
    foreign.filter(|(_, foreign)| !foreign.ours && foreign.state != MemberState::Gone)
}
