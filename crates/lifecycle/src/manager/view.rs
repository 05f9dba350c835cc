//! What is shown: only what has been committed.

use super::Effects;
use super::placement::view_nodes;
use crate::rows::{Loaded, RowChange, SiteRow};
use domain::{NodeId, NodeRecord, Owner, SessionId, SessionName, SessionRecord, SlotName};
use node_api::ReportedMember;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sessions and nodes as they stand in the store, changed only after a commit. Reads, events and
/// `why` are answered from here, so that nobody sees what a crash could take back.
#[derive(Clone, Debug)]
pub struct View {
    /// The site's own row.
    pub site: SiteRow,
    /// Sessions that live or ended within the retention of memory.
    pub sessions: BTreeMap<SessionId, Arc<SessionRecord>>,
    /// All nodes.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Members that nodes have and no session claims.
    pub unclaimed: BTreeMap<NodeId, Vec<ReportedMember>>,
    /// Living sessions by name.
    names: BTreeMap<(Owner, SessionName), SessionId>,
}

impl View {
    /// What the store held.
    pub fn from_loaded(loaded: &Loaded) -> Self {
        let mut view = Self {
            site: loaded.site.clone(),
            sessions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        for session in &loaded.sessions {
            view.put(session);
        }
        for node in &loaded.nodes {
            view.nodes.insert(node.id, node.clone());
        }
        view
    }

    /// Takes in effects whose rows were committed.
    pub fn apply(&mut self, effects: &Effects) {
        for row in &effects.rows {
            self.apply_row(row);
        }
        for session in &effects.forgotten {
            self.drop_session(*session);
        }
        for (node, members) in &effects.unclaimed {
            self.unclaimed.insert(*node, members.clone());
        }
    }

    fn apply_row(&mut self, row: &RowChange) {
        match row {
            RowChange::PutSession { session } => self.put(session),
            RowChange::DeleteSession { session } => self.drop_session(*session),
            RowChange::PutNode { node } => {
                self.nodes.insert(node.id, node.as_ref().clone());
            }
            RowChange::DeleteNode { node } => {
                self.nodes.remove(node);
                self.unclaimed.remove(node);
            }
            RowChange::PutSite { site } => self.site = site.clone(),
            RowChange::AddEvent { .. } | RowChange::PutIdempotencyKey { .. } => {}
        }
    }

    fn put(&mut self, session: &SessionRecord) {
        let name = (session.owner.clone(), session.name.clone());
        if let Some(before) = self.sessions.get(&session.id)
            && before.name != session.name
        {
            let before = (before.owner.clone(), before.name.clone());
            if self.names.get(&before) == Some(&session.id) {
                self.names.remove(&before);
            }
        }
        if session.state.is_living() {
            self.names.insert(name, session.id);
        } else if self.names.get(&name) == Some(&session.id) {
            self.names.remove(&name);
        }
        self.sessions.insert(session.id, Arc::new(session.clone()));
    }

    fn drop_session(&mut self, session: SessionId) {
        if let Some(record) = self.sessions.remove(&session) {
            let name = (record.owner.clone(), record.name.clone());
            if self.names.get(&name) == Some(&session) {
                self.names.remove(&name);
            }
        }
    }

    /// The living session of `owner` that has a name.
    pub fn living_named(&self, owner: &Owner, name: &SessionName) -> Option<&Arc<SessionRecord>> {
        let id = self.names.get(&(owner.clone(), name.clone()))?;
        self.sessions.get(id)
    }

    /// How many sessions have not ended.
    pub fn living(&self) -> usize {
        self.names.len()
    }

    /// What living members have of each node, by slot.
    pub fn used(&self) -> BTreeMap<NodeId, BTreeMap<SlotName, u128>> {
        let nodes = view_nodes(self).into_iter();
        nodes
            .map(|node| {
                let mut used: BTreeMap<SlotName, u128> = BTreeMap::new();
                for (slot, amount) in node.holdings.iter().flat_map(|h| &h.slots.0) {
                    *used.entry(slot.clone()).or_default() += u128::from(*amount);
                }
                (node.record.id, used)
            })
            .collect()
    }
}
