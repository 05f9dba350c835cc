//! What agents tell: that they are there, that they are not, and what they have.

use super::desired::kind;
use super::site::{Foreign, NodeEntry, Site};
use crate::planted::{Planted, planted};
use domain::{
    Intention, MemberId, MemberPause, MemberRecord, MemberState, NodeId, NodeRecord, NodeStatus,
    Now, SessionId,
};
use node_api::{Hello, Obeyed, Report, ReportedMember, Want};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Site {
    pub(super) fn node_connected(&mut self, hello: Hello, now: Now) {
        let node = hello.node;
        let returns = !self.is_connected(node);
        let removed = self.removed.remove(&node);
        let known = self.nodes.get(&node).map(|entry| &entry.record);
        let known = known.or(removed.as_ref());
        let generation = known.map_or(0, |record| record.generation);
        let drain = match &removed {
            Some(record) => super::nodes::drain_of_returned(record, now),
            None if planted(Planted::DrainEndsWithConnection) => None,
            None => known.and_then(|record| record.drain.clone()),
        };
        let message = format!("node {} is connected", hello.name);
        let obeyed = hello.obeyed.filter(|_| hello.site == Some(self.row.id));
        let record = NodeRecord {
            id: node,
            name: hello.name,
            pool: hello.pool,
            offers: hello.offers,
            capabilities: hello.capabilities,
            status: NodeStatus::Connected,
            generation,
            heard_in: known.map_or(0, |known| known.heard_in),
            drain,
            removal: None,
        };
        let mut entry = NodeEntry::new(record);
        // What a removed node still has, the site has given up: it has to tell first.
        entry.unheard = removed.is_some();
        if let Some(known) = self.nodes.remove(&node) {
            entry.foreign = known.foreign;
            entry.condemned = known.condemned;
            entry.unheard = known.unheard;
            if planted(Planted::SequenceOutlivesAgent) {
                entry.sequence = known.sequence;
            }
        }
        self.nodes.insert(node, entry);
        self.index_node(node);
        self.out.changed_nodes.insert(node);
        self.out.dirty_nodes.insert(node);
        self.out.place = true;
        // A node that says hello again and again while it is connected puts nothing off.
        if returns {
            self.restart_timers(node);
        }
        self.note_node(node, now, "node.connected", message);
        if let Some(record) = removed {
            self.note_returned(&record, now);
        }
        if let Some(obeyed) = obeyed {
            self.outdo(node, obeyed, now);
        }
    }

    /// A node that has obeyed what this store never told was told it by a later state of a store
    /// that has since been restored from an older copy (or has lost its last commits). It refuses
    /// everything older, and rightly. A new incarnation is above all that: it is obeyed again, and
    /// what the node has of that lost future becomes unclaimed.
    fn outdo(&mut self, node: NodeId, obeyed: Obeyed, now: Now) {
        let record = &self.nodes[&node].record;
        let known = Obeyed {
            incarnation: self.row.incarnation,
            epoch: self.row.epoch,
            generation: record.generation,
        };
        // Generations rise through all epochs: one alone tells, where the restored store's leader
        // happens to have the higher epoch.
        let later = obeyed.epoch > known.epoch || obeyed.generation > known.generation;
        let (theirs, ours) = (obeyed.incarnation, known.incarnation);
        let entry = self.nodes.get_mut(&node).expect("it has just connected");
        entry.unheard |= theirs != ours || later;
        self.index_node(node);
        if theirs < ours || theirs == ours && !later {
            return;
        }
        let record = &self.nodes[&node].record;
        let message = format!(
            "node {} has obeyed a later state of the site than its store knows: the store was \
             restored from an older copy, and members of sessions that it does not know are \
             unclaimed",
            record.name
        );
        self.begin_incarnation(obeyed.incarnation, now);
        self.note_node(node, now, "site.restored", message);
    }

    pub(super) fn node_disconnected(&mut self, node: NodeId, now: Now) {
        if !self.is_connected(node) {
            return;
        }
        let entry = self.nodes.get_mut(&node).expect("it is connected");
        entry.record.status = NodeStatus::Disconnected;
        let message = format!("node {} is disconnected", entry.record.name);
        self.index_node(node);
        self.out.changed_nodes.insert(node);
        // What one that starved had closed may be open again: it may not fit any more.
        self.out.place = true;
        self.restart_timers(node);
        self.note_node(node, now, "node.disconnected", message);
    }

    pub(super) fn report(&mut self, report: &Report, now: Now) {
        let Some(entry) = self.nodes.get_mut(&report.node) else {
            return;
        };
        let old = entry.sequence.is_some_and(|seen| report.sequence <= seen);
        if old || entry.record.status == NodeStatus::Disconnected {
            return;
        }
        entry.sequence = Some(report.sequence);
        let is_heard = report.incarnation == self.row.incarnation;
        if entry.unheard && is_heard {
            entry.unheard = false;
            self.index_node(report.node);
            self.out.place = true;
        }
        let mut foreign = BTreeMap::new();
        let mut present = Present {
            told: BTreeSet::new(),
            settled: report.settled.clone(),
        };
        present.settled.sort_unstable();
        for member in &report.members {
            present.told.insert(member.id);
            match self.standing(report.node, member) {
                Standing::Current => {
                    self.take_state(member, now);
                    self.take_pause(member, now);
                }
                Standing::Older => {
                    foreign.insert(member.id, foreign_of(member, true));
                }
                // The node still tells that it removed what we have forgotten since.
                Standing::Unknown if member.state == MemberState::Gone => {}
                Standing::Unknown => {
                    let mut unknown = foreign_of(member, false);
                    self.keep_spec(report.node, member.id, &mut unknown);
                    foreign.insert(member.id, unknown);
                }
            }
        }
        self.miss_absent(report, &present, now);
        self.set_foreign(report.node, foreign, now);
        if is_heard {
            self.note_heard(report.node, now);
        }
    }

    /// What nodes have of a session that its user ends is no longer unclaimed; and what they have
    /// been told to stop of it already, they may have to be told to remove.
    pub(super) fn claim_foreign(&mut self, session: SessionId) {
        let bound = |attempt, index| MemberId {
            session,
            attempt,
            index,
        };
        let theirs = bound(0, 0)..=bound(u32::MAX, u32::MAX);
        let nodes: Vec<NodeId> = self.nodes_with_foreign().map(|(node, _)| node).collect();
        for node in nodes {
            let entry = self.nodes.get_mut(&node).expect("it has something");
            for (_, foreign) in entry.foreign.range_mut(theirs.clone()) {
                self.out.dirty_nodes.insert(node);
                if !foreign.ours {
                    foreign.ours = true;
                    self.out.unclaimed.insert(node);
                }
            }
        }
    }

    fn standing(&self, node: NodeId, reported: &ReportedMember) -> Standing {
        let member = reported.id;
        let Some(record) = self.session(member.session) else {
            return Standing::Unknown;
        };
        let there = |m: &&MemberRecord| m.id == member && m.node == node;
        // Of an earlier attempt: it is kept, unless its node has told that it lost it.
        let mut former = record.former.iter().filter(there);
        let kept = former.any(|m| m.state != MemberState::Gone);
        // One that was given up with a node that was removed, and has come back, is not taken up
        // again: its session has gone on without it.
        let given_up =
            |m: &MemberRecord| m.state == MemberState::Gone && reported.state != MemberState::Gone;
        let mut members_here = record.members.iter().filter(there);
        let current = kept || members_here.any(|m| !given_up(m));
        let members = record.spec.members;
        let requeued = member.attempt == record.attempt && record.members.is_empty();
        // Of an attempt that we do not know, or elsewhere: only its user may end it.
        let asked = is_asked_to_end(&record.intention);
        if current {
            Standing::Current
        } else if member.index < members && (member.attempt < record.attempt || requeued || asked) {
            Standing::Older
        } else {
            Standing::Unknown
        }
    }

    /// Takes a member's state as its node tells it, if it leads forward: a member runs once, and
    /// one that has ended stays ended.
    fn take_state(&mut self, reported: &ReportedMember, now: Now) {
        let session = reported.id.session;
        let known = &mut self.member_mut(reported.id).state;
        let same = reported.state == *known;
        let back = rank(&reported.state) <= rank(known);
        if same || back && !planted(Planted::StateGoesBack) {
            return;
        }
        let frees = known.occupies() && !reported.state.occupies();
        let lost = frees && reported.state == MemberState::Gone;
        *known = reported.state.clone();
        self.out.changed.insert(session);
        self.out.touched.insert(session);
        self.out.place |= frees;
        if lost {
            self.note_gone(reported.id, now);
        }
    }

    /// A member of a current attempt.
    pub(super) fn member_mut(&mut self, id: MemberId) -> &mut MemberRecord {
        let record = Arc::make_mut(&mut self.entry_mut(id.session).record);
        let members = record.former.iter_mut().chain(&mut record.members);
        let mut found = members.filter(|member| member.id == id);
        found.next().expect("the caller has found it")
    }

    /// Looks for current members that the node should have and does not report.
    fn miss_absent(&mut self, report: &Report, present: &Present, now: Now) {
        let mut gone = self.missing_kept(report, present);
        for (entry, member) in self.members_on(report.node) {
            if present.contains(member.id) {
                continue;
            }
            let Some(told) = entry.told.get(&member.id) else {
                continue;
            };
            if self.is_obeyed_by(report, told.since) && is_over(&member.state, &told.want) {
                gone.push((member.id, member.state.occupies()));
            }
        }
        // A session that ended within this batch is in both indexes' sight.
        gone.sort_unstable();
        gone.dedup();
        for (member, occupied) in gone {
            let known = self.member_mut(member);
            (known.state, known.pause) = (MemberState::Gone, MemberPause::Off);
            self.out.changed.insert(member.session);
            self.out.touched.insert(member.session);
            self.out.place |= occupied;
            if occupied {
                self.note_gone(member, now);
            }
        }
    }

    /// Members of ended sessions that the node should keep and does not report. Both lists are
    /// sorted and nearly the same, so they are walked side by side.
    fn missing_kept(&self, report: &Report, present: &Present) -> Vec<(MemberId, bool)> {
        let mut settled = present.settled.iter().copied().peekable();
        let mut missing = Vec::new();
        for (id, since) in self.kept_on(report.node) {
            while settled.next_if(|other| *other < id).is_some() {}
            let there = settled.next_if_eq(&id).is_some() || present.told.contains(&id);
            if !there && self.is_obeyed_by(report, since) {
                missing.push((id, false));
            }
        }
        missing
    }

    /// For the operator: a member went without leaving a record. Expected if it was removed.
    pub(super) fn note_gone(&mut self, member: MemberId, now: Now) {
        let record = &self.sessions[&member.session].record;
        if record.intention == Intention::Run {
            let message = format!("the node of session {} has lost it", record.shown_name());
            self.note_session(member.session, now, "member.lost", message);
        }
    }

    fn set_foreign(&mut self, node: NodeId, foreign: BTreeMap<MemberId, Foreign>, now: Now) {
        let entry = self.nodes.get_mut(&node).expect("its report was taken");
        if entry.foreign == foreign {
            return;
        }
        let name = entry.record.name.clone();
        let before = std::mem::replace(&mut entry.foreign, foreign.clone());
        self.index_foreign(node);
        let ours = |all: &BTreeMap<MemberId, Foreign>| -> BTreeSet<MemberId> {
            let ours = all.iter().filter(|(_, foreign)| foreign.ours);
            ours.map(|(id, _)| *id).collect()
        };
        let (had, has) = (ours(&before), ours(&foreign));
        // Each is told what becomes of it, not only the first of its session: a node that keeps one
        // by the word of a future that the store has lost names it when it has obeyed this leader.
        if !has.is_subset(&had) {
            self.out.dirty_nodes.insert(node);
        }
        self.out.touched.extend(had.iter().map(|id| id.session));
        self.out.place = true;
        self.out.unclaimed.insert(node);
        self.forget_condemned(node);
        for (id, _) in foreign.iter().filter(|(_, foreign)| !foreign.ours) {
            if !before.contains_key(id) {
                let message = format!("node {name} has the member {id}, which no session claims");
                self.note_node(node, now, "member.unclaimed", message);
            }
        }
    }
}

pub(super) fn is_asked_to_end(intention: &Intention) -> bool {
    match intention {
        Intention::Stop { .. } | Intention::Remove { .. } => true,
        Intention::Run | Intention::Fail { .. } => false,
    }
}

/// What a report names.
struct Present {
    /// With their states.
    told: BTreeSet<MemberId>,
    /// By bare ids, sorted.
    settled: Vec<MemberId>,
}

impl Present {
    fn contains(&self, id: MemberId) -> bool {
        self.told.contains(&id) || self.settled.binary_search(&id).is_ok()
    }
}

/// What a reported member is to us.
enum Standing {
    /// Of the current attempt, on the node where it was placed.
    Current,
    /// Of another attempt of a session that we know, and to be ended.
    Older,
    /// Not ours, as far as we know.
    Unknown,
}

fn foreign_of(member: &ReportedMember, ours: bool) -> Foreign {
    Foreign {
        state: member.state.clone(),
        pause: member.pause.clone(),
        spec: member.spec.clone(),
        ours,
    }
}

/// Whether absence ends a member. One that a node was only just told to run may not have been
/// begun yet: its deadline looks after it. Everything else that the node should have is lost, or
/// was never begun, or has been removed.
fn is_over(state: &MemberState, told: &Want) -> bool {
    match state {
        MemberState::Assigned => kind(told) != kind(&Want::Run),
        MemberState::Preparing
        | MemberState::Starting
        | MemberState::Running { .. }
        | MemberState::Stopping { .. }
        | MemberState::Exited { .. } => true,
        MemberState::Gone => false,
    }
}

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
