//! What is shown: only what has been committed.

use super::arrays::ArrayIndex;
use super::images::Catalogue;
use super::names::Names;
use super::placement::{used_of, view_nodes};
use super::{Effects, Holder};
use crate::rows::{Loaded, RowChange, SiteRow};
use domain::{
    ArrayId, ArrayRecord, NodeId, NodeRecord, Owner, SessionId, SessionName, SessionRecord,
    SlotName,
};
use node_api::ReportedMember;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sessions and nodes as they stand in the store, changed only after a commit. Reads, events and
/// `why` are answered from here, so that nobody sees what a crash could take back.
#[derive(Clone, Debug)]
pub struct View {
    /// The site's own row.
    pub site: SiteRow,
    /// Sessions that live or ended within the retention of memory.
    pub sessions: BTreeMap<SessionId, Arc<SessionRecord>>,
    /// All nodes; also those that operators have removed, for their names.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Members that nodes have and no session claims.
    pub unclaimed: BTreeMap<NodeId, Vec<ReportedMember>>,
    /// The images.
    pub catalogue: Catalogue,
    /// Arrays of which an element is here.
    arrays: BTreeMap<ArrayId, ViewArray>,
    /// Sessions that have not ended.
    living: BTreeSet<SessionId>,
    /// Living sessions, and arrays with a living element, by name.
    names: Names,
}

#[derive(Clone, Debug)]
struct ViewArray {
    record: Arc<ArrayRecord>,
    index: ArrayIndex,
}

impl View {
    /// What the store held.
    pub fn from_loaded(loaded: &Loaded) -> Self {
        let mut view = Self {
            site: loaded.site.clone(),
            sessions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            arrays: BTreeMap::new(),
            living: BTreeSet::new(),
            catalogue: Catalogue::of(loaded.images.clone(), loaded.image_names.clone()),
            names: Names::default(),
        };
        for array in &loaded.arrays {
            view.put_array(array);
        }
        for session in &loaded.sessions {
            view.put(&Arc::new(session.clone()));
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
            if self.nodes.get(node).is_some_and(NodeRecord::is_present) {
                self.unclaimed.insert(*node, members.clone());
            }
        }
    }

    fn apply_row(&mut self, row: &RowChange) {
        match row {
            RowChange::PutArray { array } => self.put_array(array),
            RowChange::PutSession { session } => self.put(session),
            RowChange::DeleteSession { session } => self.drop_session(*session),
            RowChange::PutNode { node } => {
                if !node.is_present() {
                    self.unclaimed.remove(&node.id);
                }
                self.nodes.insert(node.id, node.as_ref().clone());
            }
            RowChange::DeleteNode { node } => {
                self.nodes.remove(node);
                self.unclaimed.remove(node);
            }
            RowChange::PutSite { site } => self.site = site.clone(),
            RowChange::PutImage { .. }
            | RowChange::DeleteImage { .. }
            | RowChange::PutImageName { .. }
            | RowChange::DeleteImageName { .. } => self.catalogue.apply(row),
            RowChange::AddEvent { .. } | RowChange::PutIdempotencyKey { .. } => {}
        }
    }

    fn put_array(&mut self, array: &ArrayRecord) {
        let record = Arc::new(array.clone());
        match self.arrays.get_mut(&array.id) {
            Some(known) => known.record = record,
            None => {
                let index = ArrayIndex::default();
                self.arrays.insert(array.id, ViewArray { record, index });
            }
        }
    }

    fn put(&mut self, session: &Arc<SessionRecord>) {
        if let Some(before) = self.sessions.get(&session.id)
            && before.name != session.name
        {
            let holder = holder_of(session);
            self.names.give_back(&before.owner, &before.name, holder);
        }
        if let Some((array, index)) = session.array
            && let Some(entry) = self.arrays.get_mut(&array)
        {
            entry.index.put(session, index);
        }
        if session.state.is_living() {
            let holder = holder_of(session);
            self.names.put(&session.owner, &session.name, holder);
            self.living.insert(session.id);
        } else {
            self.living.remove(&session.id);
            self.free_name(session);
        }
        self.sessions.insert(session.id, Arc::clone(session));
    }

    /// Gives a name back that belonged to `session`, or to its array if no element lives.
    fn free_name(&mut self, session: &SessionRecord) {
        if let Some((array, _)) = session.array
            && let Some(entry) = self.arrays.get(&array)
            && !entry.index.living.is_empty()
        {
            return;
        }
        let holder = holder_of(session);
        self.names.give_back(&session.owner, &session.name, holder);
    }

    fn drop_session(&mut self, session: SessionId) {
        let Some(record) = self.sessions.remove(&session) else {
            return;
        };
        self.living.remove(&session);
        if let Some((array, index)) = record.array
            && let Some(entry) = self.arrays.get_mut(&array)
        {
            entry.index.remove(index, session);
        }
        self.free_name(&record);
        if let Some((array, _)) = record.array
            && let Some(entry) = self.arrays.get(&array)
            && entry.index.elements.is_empty()
        {
            self.arrays.remove(&array);
        }
    }

    /// The living session of `owner` that has a name.
    pub fn living_named(&self, owner: &Owner, name: &SessionName) -> Option<&Arc<SessionRecord>> {
        match self.names.get(owner, name)? {
            Holder::Session(id) => self.sessions.get(&id),
            Holder::Array(_) => None,
        }
    }

    /// The array of `owner` with a living element that has a name.
    pub fn living_array_named(
        &self,
        owner: &Owner,
        name: &SessionName,
    ) -> Option<&Arc<ArrayRecord>> {
        match self.names.get(owner, name)? {
            Holder::Session(_) => None,
            Holder::Array(id) => self.array(id),
        }
    }

    /// An array of which an element is here.
    pub fn array(&self, id: ArrayId) -> Option<&Arc<ArrayRecord>> {
        self.arrays.get(&id).map(|entry| &entry.record)
    }

    /// All arrays of which an element is here, by id.
    pub fn arrays(&self) -> impl Iterator<Item = &Arc<ArrayRecord>> {
        self.arrays.values().map(|entry| &entry.record)
    }

    /// Whether an element of an array has not ended.
    pub fn is_array_living(&self, id: ArrayId) -> bool {
        let entry = self.arrays.get(&id);
        entry.is_some_and(|entry| !entry.index.living.is_empty())
    }

    /// The elements of an array that are here, by their index.
    pub fn elements(&self, id: ArrayId) -> impl Iterator<Item = &SessionRecord> {
        let entry = self.arrays.get(&id).into_iter();
        let ids = entry.flat_map(|entry| entry.index.elements.values());
        ids.filter_map(|id| self.sessions.get(id).map(AsRef::as_ref))
    }

    /// The same from an index on.
    pub fn elements_from(
        &self,
        id: ArrayId,
        first: u32,
    ) -> impl Iterator<Item = &Arc<SessionRecord>> {
        let entry = self.arrays.get(&id).into_iter();
        let ids = entry.flat_map(move |entry| entry.index.elements.range(first..));
        ids.filter_map(|(_, id)| self.sessions.get(id))
    }

    /// Whether every element that an array was made with is here: none was removed, or dropped
    /// because it ended long ago.
    pub fn has_all_elements(&self, id: ArrayId) -> bool {
        self.arrays.get(&id).is_some_and(|entry| {
            usize::try_from(entry.record.size) == Ok(entry.index.elements.len())
        })
    }

    /// One element of an array, if it is here.
    pub fn element(&self, array: ArrayId, index: u32) -> Option<&Arc<SessionRecord>> {
        let id = self.arrays.get(&array)?.index.elements.get(&index)?;
        self.sessions.get(id)
    }

    /// The nodes of the site, by id: those that no operator has removed.
    pub fn present_nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values().filter(|node| node.is_present())
    }

    /// Sessions that have not ended, by id.
    pub fn living_sessions(&self) -> impl Iterator<Item = &Arc<SessionRecord>> {
        self.living.iter().filter_map(|id| self.sessions.get(id))
    }

    /// How many sessions have not ended.
    pub fn living(&self) -> usize {
        self.living.len()
    }

    /// What living members have of each node, by slot.
    pub fn used(&self) -> BTreeMap<NodeId, BTreeMap<SlotName, u128>> {
        let nodes = view_nodes(self).into_iter();
        nodes.map(|node| (node.record.id, used_of(&node))).collect()
    }
}

fn holder_of(session: &SessionRecord) -> Holder {
    match session.array {
        Some((array, _)) => Holder::Array(array),
        None => Holder::Session(session.id),
    }
}
