//! The memory of a leader, and the one function that changes it.

use super::arrays::{ArrayEntry, ArrayIndex};
use super::deadlines::Timer;
use super::desired::Told;
use super::images::Catalogue;
use super::names::Names;
use super::occupancy::{Occupancy, Place};
use super::unclaimed::Condemned;
use super::waiting::{Stand, Waiting};
use super::{Answer, Effects, Event, EventKind, Holder, RequestToken};
use crate::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent, SiteRow};
use domain::{
    ArrayId, ArrayRecord, MemberId, MemberPause, MemberState, Monotonic, NodeId, NodeRecord,
    NodeStatus, Now, SessionId, SessionRecord, Timestamp, UploadId,
};
use node_api::{Desired, MemberSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most tries of one session; after the last, a lost node ends it.
pub const ATTEMPT_LIMIT: usize = 10;
/// Most rounds in which one batch may settle. Two are needed: a session that ends makes room, and
/// one that is placed there is told of.
const SETTLE_LIMIT: usize = 8;

/// Everything a leader knows. Changed only by [`Site::step`] and [`Site::step_batch`].
#[derive(Debug)]
pub struct Site {
    pub(super) row: SiteRow,
    pub(super) sessions: BTreeMap<SessionId, Entry>,
    /// Sessions that live or are being removed: those that steps walk.
    pub(super) active: BTreeSet<SessionId>,
    /// Members of all other sessions whose files nodes keep, see [`Site::kept_on`].
    pub(super) kept: BTreeMap<NodeId, BTreeMap<MemberId, u64>>,
    /// Those of the active ones of which a node has, or should have, anything.
    pub(super) held: BTreeSet<SessionId>,
    /// Sessions that have not ended.
    pub(super) living: BTreeSet<SessionId>,
    /// Sessions that are not placed, by what they wait for.
    pub(super) waiting: Waiting,
    /// Who is on which node.
    pub(super) occupancy: Occupancy,
    /// Arrays of which an element is in memory.
    pub(super) arrays: BTreeMap<ArrayId, ArrayEntry>,
    pub(super) nodes: BTreeMap<NodeId, NodeEntry>,
    /// Nodes that operators have removed, to know them again.
    pub(super) removed: BTreeMap<NodeId, NodeRecord>,
    /// Living sessions, and arrays with a living element, by name.
    pub(super) names: Names,
    /// Ended sessions by the time of their end, for retention.
    pub(super) ended: BTreeSet<(Timestamp, SessionId)>,
    /// By user and key.
    pub(super) keys: BTreeMap<(String, String), IdempotencyRow>,
    /// The images.
    pub(super) catalogue: Catalogue,
    pub(super) last_tick: Option<Monotonic>,
    pub(super) out: Out,
}

/// A session in memory.
#[derive(Debug)]
pub(super) struct Entry {
    /// Shared with the rows and the view that were told of it, until it changes.
    pub(super) record: Arc<SessionRecord>,
    /// The deadline of the state it is in, while it is counted.
    pub(super) timer: Option<Timer>,
    /// What the nodes were last told of its members, in this epoch.
    pub(super) told: BTreeMap<MemberId, Told>,
    /// The retention of its files on nodes is over.
    pub(super) purge: bool,
    /// Where it stands among those that wait.
    pub(super) stand: Option<Stand>,
    /// Where its members are, as far as the indexes know.
    pub(super) places: Vec<Place>,
    /// It is in [`Site::active`].
    pub(super) is_active: bool,
    /// It is in [`Site::held`].
    pub(super) is_held: bool,
}

impl Entry {
    pub(super) fn new(record: SessionRecord) -> Self {
        Self {
            record: Arc::new(record),
            timer: None,
            told: BTreeMap::new(),
            purge: false,
            stand: None,
            places: Vec::new(),
            is_active: false,
            is_held: false,
        }
    }
}

/// A node in memory.
#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) record: NodeRecord,
    /// Number of the last report since the agent connected.
    pub(super) sequence: Option<u64>,
    /// What it last reported and no current attempt has.
    pub(super) foreign: BTreeMap<MemberId, Foreign>,
    /// Those of `foreign` that no session claims and that an operator has ordered to end.
    pub(super) condemned: BTreeMap<MemberId, Condemned>,
    /// This leader did not make it known, or it obeyed another incarnation, and it has not yet told
    /// what it has: nothing is placed there, for it may have what the store knows nothing of.
    pub(super) unheard: bool,
}

impl NodeEntry {
    pub(super) fn new(record: NodeRecord) -> Self {
        Self {
            record,
            sequence: None,
            foreign: BTreeMap::new(),
            condemned: BTreeMap::new(),
            unheard: false,
        }
    }
}

/// A member that a node has and that belongs to no current attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) state: MemberState,
    pub(super) pause: MemberPause,
    pub(super) spec: Option<MemberSpec>,
    /// It is of an older attempt of a session that we know, or of one whose user ends it, so we may
    /// order it to end.
    pub(super) ours: bool,
}

/// What a batch has changed so far.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) answers: Vec<(RequestToken, Answer)>,
    pub(super) events: Vec<SiteEvent>,
    pub(super) site_changed: bool,
    /// Sessions whose record changed.
    pub(super) changed: BTreeSet<SessionId>,
    /// Sessions whose state and wants have to be looked at again.
    pub(super) touched: BTreeSet<SessionId>,
    pub(super) deleted: BTreeSet<SessionId>,
    pub(super) keys: Vec<IdempotencyRow>,
    /// Changes of images, in order.
    pub(super) images: Vec<RowChange>,
    /// Nodes whose record changed.
    pub(super) changed_nodes: BTreeSet<NodeId>,
    /// Nodes of which not even the removal is remembered.
    pub(super) deleted_nodes: Vec<NodeId>,
    /// Nodes that have to be told a new desired set.
    pub(super) dirty_nodes: BTreeSet<NodeId>,
    /// Something may be placed now that could not be before.
    pub(super) place: bool,
    /// Uploads that sessions named which have ended.
    pub(super) ended_uploads: BTreeSet<UploadId>,
    /// Arrays whose record changed.
    pub(super) changed_arrays: BTreeSet<ArrayId>,
    pub(super) forgotten: Vec<SessionId>,
    pub(super) unclaimed: BTreeSet<NodeId>,
}

impl Site {
    /// Takes over what the store holds, under a new epoch. The effects are to be committed before
    /// anything else happens. All nodes count as disconnected until their agents say hello, and
    /// every deadline starts anew.
    pub fn from_loaded(loaded: Loaded, now: Now) -> (Self, Effects) {
        let restored = loaded.restored;
        let mut row = loaded.site;
        row.epoch += 1;
        let mut site = Self {
            row,
            sessions: BTreeMap::new(),
            active: BTreeSet::new(),
            kept: BTreeMap::new(),
            held: BTreeSet::new(),
            living: BTreeSet::new(),
            waiting: Waiting::default(),
            occupancy: Occupancy::default(),
            arrays: BTreeMap::new(),
            nodes: BTreeMap::new(),
            removed: BTreeMap::new(),
            names: Names::default(),
            ended: BTreeSet::new(),
            keys: BTreeMap::new(),
            catalogue: Catalogue::of(loaded.images, loaded.image_names),
            last_tick: None,
            out: Out::default(),
        };
        site.out.site_changed = true;
        site.out.place = true;
        for mut node in loaded.nodes {
            if !node.is_present() {
                site.removed.insert(node.id, node);
                continue;
            }
            if node.status == NodeStatus::Connected {
                node.status = NodeStatus::Disconnected;
                site.out.changed_nodes.insert(node.id);
            }
            // What it told the leader before, and no session had, is not stored.
            if site.row.restored_epoch > 0 && node.heard_in > 0 {
                node.heard_in = 0;
                site.out.changed_nodes.insert(node.id);
            }
            let id = node.id;
            let mut entry = NodeEntry::new(node);
            entry.unheard = true;
            site.nodes.insert(id, entry);
            site.index_node(id);
        }
        for array in loaded.arrays {
            site.remember_array(array);
        }
        for record in loaded.sessions {
            site.out.touched.insert(record.id);
            site.remember(record);
        }
        site.find_removed_arrays();
        for key in loaded.idempotency {
            let name = (key.user.clone(), key.key.clone());
            site.keys.insert(name, key);
        }
        site.drop_uploads_of_ended(&loaded.uploads);
        if let Some(known) = restored {
            site.begin_incarnation(known, now);
            let message = "the store was restored from an older copy: sessions that wait in it are \
                           placed when all nodes have told what they have";
            site.note_site(now, "site.restored", message.to_owned());
        }
        let effects = site.settle(now);
        (site, effects)
    }

    /// Puts a record into memory and its indexes.
    pub(super) fn remember(&mut self, record: SessionRecord) {
        let id = record.id;
        let mut holder = Holder::Session(id);
        if let Some((array, index)) = record.array {
            holder = Holder::Array(array);
            if let Some(entry) = self.arrays.get_mut(&array) {
                entry.index.put(&record, index);
            }
        }
        if record.state.is_living() {
            self.names.put(&record.owner, &record.name, holder);
            self.living.insert(id);
        } else {
            self.ended.insert(ended_key(&record));
        }
        self.sessions.insert(id, Entry::new(record));
        self.mark_foreign_of(id);
        self.reindex(id);
    }

    /// Puts an array into memory, before its elements.
    pub(super) fn remember_array(&mut self, record: ArrayRecord) {
        self.arrays.entry(record.id).or_insert(ArrayEntry {
            record,
            index: ArrayIndex::default(),
            removed: false,
        });
    }

    /// Takes one event in and settles all that follows from it.
    pub fn step(&mut self, event: Event) -> Effects {
        self.step_batch(vec![event])
    }

    /// Takes events in, in order, and settles once what follows from all of them. An empty batch
    /// changes nothing.
    pub fn step_batch(&mut self, events: Vec<Event>) -> Effects {
        let Some(now) = events.last().map(|event| event.now) else {
            return Effects::default();
        };
        for event in events {
            self.take_in(event);
        }
        self.settle(now)
    }

    fn take_in(&mut self, event: Event) {
        let now = event.now;
        match event.kind {
            EventKind::Create { token, request } => self.create(token, *request, now),
            EventKind::Stop {
                token,
                session,
                order,
            } => self.stop(token, session, order, now),
            EventKind::EndRetries { token, session } => self.end_retries(token, session, now),
            EventKind::Remove {
                token,
                session,
                order,
            } => self.remove(token, session, order, now),
            EventKind::Pause {
                token,
                session,
                order,
            } => self.pause(token, session, order, now),
            EventKind::Resume { token, session, by } => self.resume(token, session, &by, now),
            EventKind::PauseArray {
                token,
                array,
                order,
            } => self.pause_array(token, array, &order, now),
            EventKind::ResumeArray { token, array, by } => {
                self.resume_array(token, array, &by, now);
            }
            EventKind::EndUnclaimed { token, asked } => self.end_unclaimed(token, *asked, now),
            EventKind::Rename {
                token,
                session,
                name,
            } => self.rename(token, session, name, now),
            EventKind::CreateArray { token, request } => self.create_array(token, *request, now),
            EventKind::StopArray {
                token,
                array,
                order,
            } => self.stop_array(token, array, &order, now),
            EventKind::RemoveArray {
                token,
                array,
                order,
            } => self.remove_array(token, array, &order, now),
            EventKind::Throttle {
                token,
                array,
                throttle,
            } => self.throttle_array(token, array, throttle, now),
            EventKind::Prioritize { token, asked } => self.prioritize(token, &asked, now),
            EventKind::NodeConnected { hello } => self.node_connected(*hello, now),
            EventKind::NodeDisconnected { node } => self.node_disconnected(node, now),
            EventKind::Report { report } => self.report(&report, now),
            EventKind::Recalled { session, array } => {
                self.recalled(*session, array.map(|array| *array));
            }
            EventKind::AddImage { token, image, name } => self.add_image(token, *image, name, now),
            EventKind::RemoveImage {
                token,
                owner,
                target,
            } => self.remove_image(token, &owner, &target, now),
            EventKind::PruneImages { token, owner } => self.prune_images(token, &owner, now),
            EventKind::OrderNode { token, node, order } => {
                self.order_node(token, node, *order, now);
            }
            EventKind::Tick => self.tick(now),
        }
    }

    /// Makes everything follow from what was taken in: states, placements, desired sets, rows.
    fn settle(&mut self, now: Now) -> Effects {
        let mut rounds = 0;
        let mut seen = BTreeSet::new();
        while !self.out.touched.is_empty() || self.out.place {
            rounds += 1;
            assert!(rounds <= SETTLE_LIMIT, "a batch settles in a few rounds");
            // One that ends touches those that wait for it, and so on along the chain: each ends
            // but once.
            while let Some(session) = self.out.touched.pop_first() {
                self.refresh(session, now);
                self.index_life(session);
                seen.insert(session);
            }
            if std::mem::take(&mut self.out.place) {
                self.take_up_attempts(now);
                self.place(now);
            }
        }
        for session in seen {
            self.reindex(session);
            self.compare_wants(session);
        }
        let desired = self.tell_nodes();
        debug_assert!(self.is_indexed(), "the indexes say what is so");
        self.effects(desired)
    }

    /// The effects of everything that changed since the last time, rows in an order in which each
    /// stands on those before it.
    fn effects(&mut self, desired: Vec<(NodeId, Desired)>) -> Effects {
        let out = std::mem::take(&mut self.out);
        let mut rows = Vec::new();
        if out.site_changed || !out.events.is_empty() {
            let site = self.row.clone();
            rows.push(RowChange::PutSite { site });
        }
        for node in &out.changed_nodes {
            let known = self.nodes.get(node).map(|entry| &entry.record);
            if let Some(record) = known.or_else(|| self.removed.get(node)) {
                let node = Box::new(record.clone());
                rows.push(RowChange::PutNode { node });
            }
        }
        let deleted = out.deleted_nodes.iter();
        rows.extend(deleted.map(|node| RowChange::DeleteNode { node: *node }));
        for id in &out.changed_arrays {
            if let Some(entry) = self.arrays.get(id) {
                let array = Box::new(entry.record.clone());
                rows.push(RowChange::PutArray { array });
            }
        }
        rows.extend(out.images);
        for id in &out.changed {
            if let Some(entry) = self.sessions.get(id) {
                let session = Arc::clone(&entry.record);
                rows.push(RowChange::PutSession { session });
            }
        }
        let deleted = out.deleted.iter();
        rows.extend(deleted.map(|session| RowChange::DeleteSession { session: *session }));
        let keys = out.keys.into_iter();
        rows.extend(keys.map(|key| RowChange::PutIdempotencyKey { key }));
        let events = out.events.into_iter();
        rows.extend(events.map(|event| RowChange::AddEvent { event }));
        let unclaimed = out.unclaimed.into_iter();
        Effects {
            rows,
            answers: out.answers,
            desired,
            unneeded_uploads: self.unneeded_uploads(out.ended_uploads),
            forgotten: out.forgotten,
            unclaimed: unclaimed.map(|node| (node, self.unclaimed(node))).collect(),
        }
    }

    /// The site's own row.
    pub fn row(&self) -> &SiteRow {
        &self.row
    }

    /// A session in memory.
    pub fn session(&self, id: SessionId) -> Option<&SessionRecord> {
        self.sessions.get(&id).map(|entry| entry.record.as_ref())
    }

    /// All sessions in memory, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionRecord> {
        self.sessions.values().map(|entry| entry.record.as_ref())
    }

    /// All nodes of the site, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values().map(|entry| &entry.record)
    }

    /// Nodes that operators have removed, as far as they are remembered, by id.
    pub fn removed_nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.removed.values()
    }

    pub(super) fn answer(&mut self, token: RequestToken, answer: Answer) {
        self.out.answers.push((token, answer));
    }
}

/// Where an ended session stands in the order of retention.
pub(super) fn ended_key(record: &SessionRecord) -> (Timestamp, SessionId) {
    (record.ended_at.unwrap_or(record.created_at), record.id)
}
