//! The fake store: it commits whole batches or none, and remembers what was ever promised.
//!
//! Every commit is looked at as any reader could: what is committed is what people are told.

use crate::violation::Violation;
use domain::{
    ArrayId, ArrayRecord, Cause, Intention, MemberId, MemberState, NodeId, NodeRecord, Outcome,
    SessionId, SessionRecord, SessionState, SiteId, Slots, session::Requeue,
};
use lifecycle::manager::{EventKind, Site};
use lifecycle::rows::{IdempotencyRow, Loaded, RowChange, SiteRow};
use std::collections::{BTreeMap, BTreeSet};

/// The rows, and what was told of them.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) site: SiteRow,
    pub(crate) sessions: BTreeMap<SessionId, SessionRecord>,
    pub(crate) arrays: BTreeMap<ArrayId, ArrayRecord>,
    pub(crate) nodes: BTreeMap<NodeId, NodeRecord>,
    keys: BTreeMap<(String, String), IdempotencyRow>,
    last_event: u64,
    /// Sessions of which a user was told that they are ended.
    pub(crate) told_to_end: BTreeSet<SessionId>,
}

/// The store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) rows: Rows,
    copies: Vec<Rows>,
    /// A copy is made after the next commit in which a session waits: what it is of the most harm for.
    copy_soon: bool,
    pub(crate) commits: u64,
    /// Members that any committed row ever placed, and where, through all restores.
    pub(crate) placed: BTreeSet<(MemberId, NodeId)>,
    /// Members that a committed row, of any lineage, gives a reason to end.
    pub(crate) may_end: BTreeSet<MemberId>,
    /// Sessions that any committed row had.
    pub(crate) ever: BTreeSet<SessionId>,
    /// Sessions, and arrays by the number of their ids, whose removal was asked for.
    pub(crate) asked_to_remove: BTreeSet<SessionId>,
    /// Members that an operator ordered to end because no session claims them.
    pub(crate) condemned: BTreeSet<MemberId>,
    /// Nodes that some operator asked to be taken back, ever.
    pub(crate) undrained: BTreeSet<NodeId>,
    /// Members that were placed on a node that was removed later: what is left of them is nobody's.
    pub(crate) left_behind: BTreeSet<MemberId>,
    /// What each session that ever was asked for.
    pub(crate) asked: BTreeMap<SessionId, Slots>,
    pub(crate) lives: u64,
    pub(crate) restores: u64,
    /// As its mark tells: it is a copy, and the highest incarnation that there was, until a leader has
    /// taken it over.
    restored: Option<u64>,
    /// The batch that is committed begins an incarnation.
    begins_incarnation: bool,
}

/// A commit was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fenced;

impl Store {
    pub(crate) fn new() -> Self {
        let site = SiteRow {
            id: SiteId(1),
            incarnation: 1,
            epoch: 0,
            next_event: 1,
            restored_epoch: 0,
        };
        Self {
            rows: Rows {
                site,
                sessions: BTreeMap::new(),
                arrays: BTreeMap::new(),
                nodes: BTreeMap::new(),
                keys: BTreeMap::new(),
                last_event: 0,
                told_to_end: BTreeSet::new(),
            },
            copies: Vec::new(),
            copy_soon: false,
            commits: 0,
            placed: BTreeSet::new(),
            may_end: BTreeSet::new(),
            ever: BTreeSet::new(),
            asked_to_remove: BTreeSet::new(),
            condemned: BTreeSet::new(),
            undrained: BTreeSet::new(),
            left_behind: BTreeSet::new(),
            asked: BTreeMap::new(),
            lives: 0,
            restores: 0,
            restored: None,
            begins_incarnation: false,
        }
    }

    /// What a leader loads.
    pub(crate) fn load(&self) -> Loaded {
        let rows = &self.rows;
        Loaded {
            site: rows.site.clone(),
            restored: self.restored,
            sessions: rows.sessions.values().cloned().collect(),
            arrays: rows.arrays.values().cloned().collect(),
            nodes: rows.nodes.values().cloned().collect(),
            idempotency: rows.keys.values().cloned().collect(),
            images: Vec::new(),
            image_names: Vec::new(),
            uploads: Vec::new(),
        }
    }

    /// Commits all of `changes`, of a leader that holds `epoch`, or takes it over with the first.
    pub(crate) fn commit(
        &mut self,
        epoch: u64,
        takes_over: bool,
        changes: &[RowChange],
    ) -> Result<Result<(), Violation>, Fenced> {
        let held = self.rows.site.epoch + u64::from(takes_over);
        if epoch != held {
            return Err(Fenced);
        }
        self.commits += 1;
        self.restored = None;
        let known = self.rows.site.incarnation;
        self.begins_incarnation = changes.iter().any(|change| match change {
            RowChange::PutSite { site } => site.incarnation > known,
            _ => false,
        });
        for change in changes {
            if let Err(violation) = self.apply(change) {
                return Ok(Err(violation));
            }
        }
        if let Err(violation) = self.check_removals(changes) {
            return Ok(Err(violation));
        }
        let waits = |session: &SessionRecord| session.state == SessionState::Pending;
        if self.copy_soon && self.living().any(waits) {
            self.copies.push(self.rows.clone());
            self.copy_soon = false;
        }
        Ok(Ok(()))
    }

    fn apply(&mut self, change: &RowChange) -> Result<(), Violation> {
        match change {
            RowChange::PutArray { array } => {
                self.rows.arrays.insert(array.id, array.as_ref().clone());
            }
            RowChange::PutSession { session } => {
                self.check_session(session)?;
                self.note(session);
                let rows = &mut self.rows.sessions;
                rows.insert(session.id, session.as_ref().clone());
            }
            RowChange::DeleteSession { session } => self.delete(*session)?,
            RowChange::PutNode { node } => {
                self.check_node(node)?;
                if !node.is_present() {
                    let there = self.placed.iter().filter(|(_, place)| *place == node.id);
                    self.left_behind.extend(there.map(|(member, _)| *member));
                }
                self.rows.nodes.insert(node.id, node.as_ref().clone());
            }
            RowChange::DeleteNode { node } => {
                self.rows.nodes.remove(node);
            }
            RowChange::AddEvent { event } => {
                let last = self.rows.last_event;
                if event.number != last + 1 {
                    return Err(Violation::new(format!(
                        "event {} comes after {last}",
                        event.number
                    )));
                }
                self.rows.last_event = event.number;
            }
            RowChange::PutIdempotencyKey { key } => {
                let name = (key.user.clone(), key.key.clone());
                self.rows.keys.insert(name, key.clone());
            }
            RowChange::PutSite { site } => {
                let known = &self.rows.site;
                if site.epoch < known.epoch || site.incarnation < known.incarnation {
                    return Err(Violation::new("the site's epoch or incarnation falls"));
                }
                self.rows.site = site.clone();
            }
            RowChange::PutImage { .. }
            | RowChange::DeleteImage { .. }
            | RowChange::PutImageName { .. }
            | RowChange::DeleteImageName { .. } => {}
        }
        Ok(())
    }

    fn check_node(&self, node: &NodeRecord) -> Result<(), Violation> {
        let known = self.rows.nodes.get(&node.id);
        let was_drained = known.is_some_and(|known| known.drain.is_some());
        let is_taken_back = node.is_present() && node.drain.is_none();
        if was_drained && is_taken_back && !self.undrained.contains(&node.id) {
            let message = format!(
                "{} is drained no longer, and nobody asked for that",
                node.id
            );
            return Err(Violation::new(message));
        }
        match known.filter(|known| node.generation < known.generation) {
            Some(_) => Err(Violation::new(format!(
                "the generation of {} falls",
                node.id
            ))),
            None => Ok(()),
        }
    }

    /// Nothing lives on a node from the commit of its removal on.
    fn check_removals(&self, changes: &[RowChange]) -> Result<(), Violation> {
        let removed = changes.iter().filter_map(|change| match change {
            RowChange::PutNode { node } if !node.is_present() => Some(node.id),
            _ => None,
        });
        for node in removed {
            let members = self.living().flat_map(SessionRecord::all_members);
            let mut living = members.filter(|m| m.node == node && m.state.occupies());
            if let Some(member) = living.next() {
                let message = format!("{node} is removed, and {} may live there", member.id);
                return Err(Violation::new(message));
            }
        }
        Ok(())
    }

    /// What lives is on nodes of the site, and nothing new on those that are drained.
    fn check_places(&self, next: &SessionRecord) -> Result<(), Violation> {
        for member in next.members.iter().filter(|m| m.state.occupies()) {
            let (id, place) = (member.id, member.node);
            let node = self.rows.nodes.get(&place);
            let Some(node) = node.filter(|node| node.is_present()) else {
                return Err(Violation::new(format!("{id} may live on {place}, no node")));
            };
            let is_new = !self.placed.contains(&(id, place));
            if is_new && node.drain.is_some() {
                return Err(Violation::new(format!(
                    "{id} is placed on {place}, a drained node"
                )));
            }
        }
        Ok(())
    }

    /// What a row may say after the one before it.
    fn check_session(&self, next: &SessionRecord) -> Result<(), Violation> {
        self.check_places(next)?;
        let id = next.id;
        if self.rows.told_to_end.contains(&id) && next.intention == Intention::Run {
            let living = next.state.is_living();
            let message = format!("session {id} was to end, and is to run again");
            return if living {
                Err(Violation::new(message))
            } else {
                Ok(())
            };
        }
        let Some(known) = self.rows.sessions.get(&id) else {
            if self.ever.contains(&id) && self.restores == 0 {
                return Err(Violation::new(format!(
                    "session {id} was removed and is back"
                )));
            }
            return Ok(());
        };
        if let SessionState::Ended { outcome } = &known.state {
            let same =
                matches!(&next.state, SessionState::Ended { outcome: now } if now == outcome);
            if !same || known.ended_at != next.ended_at {
                let now = &next.state;
                return Err(Violation::new(format!(
                    "session {id} had ended ({outcome}), and is {now:?}"
                )));
            }
        }
        check_tries(known, next)?;
        let requeued = next.attempt > known.attempt || next.past.len() > known.past.len();
        let requeue = if requeued {
            Requeue::ByPolicy
        } else {
            Requeue::No
        };
        // A batch may hold several moves; each state is reached from those before it.
        let legal =
            requeued || known.state == next.state || known.state.may_become(&next.state, requeue);
        if !self.is_withdrawn(known, next) && (!legal || next.attempt < known.attempt) {
            let (from, to) = (known.state.word(), next.state.word());
            return Err(Violation::new(format!(
                "session {id} goes from {from} to {to}"
            )));
        }
        for member in &next.members {
            if member.id.session != id || member.id.attempt != next.attempt {
                return Err(Violation::new(format!(
                    "session {id} has member {}",
                    member.id
                )));
            }
        }
        let runs_again = !next.members.is_empty() && next.attempt > known.attempt;
        let lives = known
            .members
            .iter()
            .filter(|member| member.state.occupies());
        let mut unknown = lives.filter(|member| {
            let former = next.former.iter().find(|former| former.id == member.id);
            former.is_none_or(|former| former.state.occupies())
        });
        match unknown.next().filter(|_| runs_again) {
            Some(member) => Err(Violation::new(format!(
                "session {id} is placed again while {} may live",
                member.id
            ))),
            None => Ok(()),
        }
    }

    /// It had a place in a copy of the store, which is taken back.
    fn is_withdrawn(&self, known: &SessionRecord, next: &SessionRecord) -> bool {
        self.begins_incarnation
            && known.state == SessionState::Placed
            && next.state == SessionState::Pending
            && next.members.is_empty()
            && next.attempt + 1 == known.attempt
    }

    fn note(&mut self, session: &SessionRecord) {
        if self.ever.insert(session.id) {
            self.lives += 1;
            self.asked.insert(session.id, session.spec.slots.clone());
        }
        self.placed.extend(
            session
                .members
                .iter()
                .map(|member| (member.id, member.node)),
        );
        let over = session.intention != Intention::Run
            || !session.state.is_living()
            || session
                .members
                .iter()
                .any(|member| !member.state.occupies());
        let ending = session.members.iter().filter(|_| over);
        self.may_end
            .extend(session.former.iter().chain(ending).map(|member| member.id));
    }

    fn delete(&mut self, session: SessionId) -> Result<(), Violation> {
        let Some(record) = self.rows.sessions.remove(&session) else {
            return Err(Violation::new(format!(
                "session {session} is deleted and not there"
            )));
        };
        let array = record.array.map(|(array, _)| SessionId(array.0));
        let asked = |id: SessionId| self.asked_to_remove.contains(&id);
        if !asked(session) && !array.is_some_and(asked) {
            return Err(Violation::new(format!(
                "session {session} is lost: nobody removed it"
            )));
        }
        if let Some((array, _)) = record.array {
            let mut others = self.rows.sessions.values();
            if !others.any(|other| other.array.is_some_and(|(theirs, _)| theirs == array)) {
                self.rows.arrays.remove(&array);
            }
        }
        Ok(())
    }

    /// Has a copy made, soon.
    pub(crate) fn copy(&mut self) {
        self.copy_soon = true;
    }

    /// Its user wants nothing of it to run, whatever attempt that is.
    pub(crate) fn is_asked_to_end(&self, session: SessionId) -> bool {
        let row = self.rows.sessions.get(&session);
        row.is_some_and(|row| match row.intention {
            Intention::Stop { .. } | Intention::Remove { .. } => true,
            Intention::Run | Intention::Fail { .. } => false,
        })
    }

    /// Its session waits for another attempt, or has one.
    pub(crate) fn has_gone_on(&self, member: MemberId) -> bool {
        let row = self.rows.sessions.get(&member.session);
        row.is_some_and(|row| {
            let waits = row.members.is_empty() && row.attempt == member.attempt;
            waits || row.attempt > member.attempt
        })
    }

    pub(crate) fn has_copy(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Makes the store anew from its last copy, if there is one.
    pub(crate) fn restore(&mut self) {
        let Some(rows) = self.copies.pop() else {
            return;
        };
        let highest = self.rows.site.incarnation.max(self.restored.unwrap_or(0));
        self.restored = Some(highest);
        self.rows = rows;
        self.restores += 1;
    }

    /// No node gives more than it has, and what the view says it gives is the sum of what lives there.
    pub(crate) fn check_amounts(
        &self,
        used: &BTreeMap<NodeId, BTreeMap<domain::SlotName, u128>>,
        foreign: impl Fn(NodeId) -> bool,
    ) -> Result<(), Violation> {
        let mut sums: BTreeMap<NodeId, BTreeMap<domain::SlotName, u128>> = BTreeMap::new();
        for session in self.rows.sessions.values() {
            for member in session
                .all_members()
                .filter(|member| member.state.occupies())
            {
                add(sums.entry(member.node).or_default(), &session.spec.slots);
            }
        }
        for (node, sum) in &sums {
            let offers = &self.rows.nodes[node].offers;
            for (slot, amount) in sum {
                if *amount > u128::from(offers.get(slot)) {
                    return Err(Violation::new(format!(
                        "node {node} gives {amount} of {slot}"
                    )));
                }
            }
        }
        for (node, shown) in used {
            let none = BTreeMap::new();
            let sum = sums.get(node).unwrap_or(&none);
            if shown != sum && !foreign(*node) {
                return Err(Violation::new(format!(
                    "node {node} shows {shown:?} in use, and {sum:?} is"
                )));
            }
        }
        Ok(())
    }

    /// What a request is about and memory has dropped, as the leader reads it from the store.
    pub(crate) fn recall(&self, event: &EventKind, site: &Site) -> Vec<EventKind> {
        let rows = self.rows.sessions.values();
        let rows: Vec<&SessionRecord> = match event {
            EventKind::Remove { session, .. } | EventKind::Rename { session, .. } => {
                self.rows.sessions.get(session).into_iter().collect()
            }
            EventKind::RemoveArray { array, .. } => {
                let theirs = |row: &&SessionRecord| row.array.is_some_and(|(id, _)| id == *array);
                rows.filter(theirs).collect()
            }
            _ => Vec::new(),
        };
        let dropped =
            |row: &&SessionRecord| !row.state.is_living() && site.session(row.id).is_none();
        let dropped = rows.into_iter().filter(dropped);
        let recalled = dropped.map(|row| EventKind::Recalled {
            session: Box::new(row.clone()),
            array: row
                .array
                .and_then(|(array, _)| self.rows.arrays.get(&array))
                .map(|array| Box::new(array.clone())),
        });
        recalled.collect()
    }

    /// Sessions that have not ended.
    pub(crate) fn living(&self) -> impl Iterator<Item = &SessionRecord> {
        let all = self.rows.sessions.values();
        all.filter(|session| session.state.is_living())
    }
}

/// What is tried again is what may be, and no member's life leads back.
fn check_tries(known: &SessionRecord, next: &SessionRecord) -> Result<(), Violation> {
    let id = next.id;
    if known.intention != Intention::Run && next.past.len() > known.past.len() {
        return Err(Violation::new(format!(
            "session {id} was to end, and is tried again"
        )));
    }
    let left = next.intention == Intention::Run && next.retry.used < next.retry.limit;
    if left && known.state.is_living() && is_tried_again(&next.state) {
        return Err(Violation::new(format!(
            "session {id} has failed, and had further attempts"
        )));
    }
    for member in next.all_members() {
        let before = known.all_members().find(|before| before.id == member.id);
        if before.is_some_and(|before| rank(&member.state) < rank(&before.state)) {
            let (member, word) = (member.id, member.state.word());
            return Err(Violation::new(format!("{member} is {word} again")));
        }
    }
    Ok(())
}

/// It has failed in a way for which another attempt is made.
fn is_tried_again(state: &SessionState) -> bool {
    let SessionState::Ended { outcome } = state else {
        return false;
    };
    matches!(
        outcome,
        Outcome::Failed {
            cause: Cause::ExitCode { .. }
                | Cause::PrepareFailed { .. }
                | Cause::StartFailed { .. }
                | Cause::GuestDied
        }
    )
}

/// A member's life leads forward only.
fn rank(state: &MemberState) -> u8 {
    match state {
        MemberState::Assigned => 0,
        MemberState::Preparing => 1,
        MemberState::Starting => 2,
        MemberState::Running { .. } => 3,
        MemberState::Stopping { .. } => 4,
        MemberState::Exited { .. } => 5,
        MemberState::Gone => 6,
    }
}

pub(crate) fn add(sum: &mut BTreeMap<domain::SlotName, u128>, slots: &Slots) {
    for (slot, amount) in &slots.0 {
        *sum.entry(slot.clone()).or_default() += u128::from(*amount);
    }
}
