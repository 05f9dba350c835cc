//! Which sessions their nodes still have to do something for, and what nodes merely keep: no step
//! walks all sessions that have ever ended.

use super::site::{Entry, Site};
use domain::{Intention, MemberId, MemberState, NodeId, SessionId, SessionRecord};

impl Site {
    /// Puts a session into the indexes where it belongs after it changed.
    pub(super) fn reindex(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get_mut(&id) else {
            return;
        };
        let record = &entry.record;
        let removed = entry.purge || matches!(record.intention, Intention::Remove { .. });
        let active = removed || record.state.is_living();
        if active != entry.is_active {
            entry.is_active = active;
            if active {
                self.active.insert(id);
            } else {
                self.active.remove(&id);
            }
        }
        self.index_life(id);
        let entry = &self.sessions[&id];
        let record = &entry.record;
        for member in record.all_members() {
            let kept = self.kept.entry(member.node).or_default();
            if active || !matches!(member.state, MemberState::Exited { .. }) {
                kept.remove(&member.id);
                continue;
            }
            // One that its node was told of in this epoch is already expected in its reports; any
            // other is named by the node's next set.
            let next = self.nodes.get(&member.node).map(|entry| &entry.record);
            let next = next.or_else(|| self.removed.get(&member.node));
            let next = next.map_or(0, |record| record.generation) + 1;
            let since = entry.told.get(&member.id).map_or(next, |told| told.since);
            kept.entry(member.id).or_insert(since);
        }
    }

    /// Drops a session from memory.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.unindex_life(id);
        let Some(entry) = self.sessions.remove(&id) else {
            return;
        };
        self.unindex_places(&entry);
        self.active.remove(&id);
        self.living.remove(&id);
        if let Some((array, index)) = entry.record.array
            && let Some(array_entry) = self.arrays.get_mut(&array)
        {
            array_entry.index.remove(index, id);
            if array_entry.index.elements.is_empty() {
                self.arrays.remove(&array);
                self.out.changed_arrays.remove(&array);
            }
        }
        self.ended.remove(&super::site::ended_key(&entry.record));
        for member in entry.record.all_members() {
            if let Some(kept) = self.kept.get_mut(&member.node) {
                kept.remove(&member.id);
            }
        }
    }

    /// Sessions that live or are being removed; within a batch also some that have just ended.
    pub(super) fn active(&self) -> impl Iterator<Item = &Entry> {
        self.active.iter().filter_map(|id| self.sessions.get(id))
    }

    /// The records of [`Site::active`].
    pub(super) fn active_records(&self) -> impl Iterator<Item = &SessionRecord> {
        self.active().map(|entry| entry.record.as_ref())
    }

    /// Those of [`Site::active`] of which a node has, or should have, anything.
    pub(super) fn held(&self) -> impl Iterator<Item = &Entry> {
        self.held.iter().filter_map(|id| self.sessions.get(id))
    }

    /// Members of ended sessions whose files a node keeps, by id, with the first generation that
    /// the node has to have obeyed for their absence in its report to mean anything.
    pub(super) fn kept_on(&self, node: NodeId) -> impl Iterator<Item = (MemberId, u64)> {
        let kept = self.kept.get(&node).into_iter().flatten();
        kept.map(|(id, since)| (*id, *since))
    }
}
