//! What agents tell: that they are there, that they are not, and what they have.

use super::desired::kind;
use super::site::{Foreign, NodeEntry, Site};
use domain::{MemberId, MemberRecord, MemberState, NodeId, NodeRecord, NodeStatus, Now, SessionId};
use node_api::{Hello, Report, ReportedMember, Want};
use std::collections::{BTreeMap, BTreeSet};

impl Site {
    pub(super) fn node_connected(&mut self, hello: Hello, now: Now) {
        let node = hello.node;
        let generation = self
            .nodes
            .get(&node)
            .map_or(0, |entry| entry.record.generation);
        let message = format!("node {} is connected", hello.name);
        let record = NodeRecord {
            id: node,
            name: hello.name,
            pool: hello.pool,
            offers: hello.offers,
            capabilities: hello.capabilities,
            status: NodeStatus::Connected,
            generation,
        };
        let foreign = self.nodes.remove(&node).map(|entry| entry.foreign);
        let mut entry = NodeEntry::new(record);
        entry.foreign = foreign.unwrap_or_default();
        self.nodes.insert(node, entry);
        self.out.changed_nodes.insert(node);
        self.out.dirty_nodes.insert(node);
        self.out.place = true;
        self.restart_timers(node);
        self.note_node(node, now, "node.connected", message);
    }

    pub(super) fn node_disconnected(&mut self, node: NodeId, now: Now) {
        if !self.is_connected(node) {
            return;
        }
        let entry = self.nodes.get_mut(&node).expect("it is connected");
        entry.record.status = NodeStatus::Disconnected;
        let message = format!("node {} is disconnected", entry.record.name);
        self.out.changed_nodes.insert(node);
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
        let mut foreign = BTreeMap::new();
        let mut present = BTreeSet::new();
        for member in &report.members {
            present.insert(member.id);
            match self.standing(report.node, member.id) {
                Standing::Current => self.take_state(member, now),
                Standing::Older => {
                    foreign.insert(member.id, foreign_of(member, true));
                }
                Standing::Unknown => {
                    foreign.insert(member.id, foreign_of(member, false));
                }
            }
        }
        self.miss_absent(report, &present, now);
        self.set_foreign(report.node, foreign, now);
    }

    fn standing(&self, node: NodeId, member: MemberId) -> Standing {
        let Some(record) = self.session(member.session) else {
            return Standing::Unknown;
        };
        let current = record
            .members
            .iter()
            .any(|m| m.id == member && m.node == node);
        let members = record.spec.members;
        let requeued = member.attempt == record.attempt && record.members.is_empty();
        if current {
            Standing::Current
        } else if member.index < members && (member.attempt < record.attempt || requeued) {
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
        if rank(&reported.state) <= rank(known) {
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
    fn member_mut(&mut self, id: MemberId) -> &mut MemberRecord {
        let members = &mut self.entry_mut(id.session).record.members;
        let mut found = members.iter_mut().filter(|member| member.id == id);
        found.next().expect("the caller has found it")
    }

    /// Looks for current members that the node should have and does not report.
    fn miss_absent(&mut self, report: &Report, present: &BTreeSet<MemberId>, now: Now) {
        let epoch = self.row.epoch;
        let mut gone = Vec::new();
        for entry in self.sessions.values() {
            for member in &entry.record.members {
                if member.node != report.node || present.contains(&member.id) {
                    continue;
                }
                let Some(told) = entry.told.get(&member.id) else {
                    continue;
                };
                if told.is_obeyed_by(report, epoch) && is_over(&member.state, &told.want) {
                    gone.push((member.id, member.state.occupies()));
                }
            }
        }
        for (member, occupied) in gone {
            self.member_mut(member).state = MemberState::Gone;
            self.out.changed.insert(member.session);
            self.out.touched.insert(member.session);
            self.out.place |= occupied;
            if occupied {
                self.note_gone(member, now);
            }
        }
    }

    /// For the operator: a member went without leaving a record. Expected if it was removed.
    fn note_gone(&mut self, member: MemberId, now: Now) {
        let record = &self.sessions[&member.session].record;
        if record.intention == domain::Intention::Run {
            let message = format!("the node of session {} has lost it", record.name);
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
        let ours = |all: &BTreeMap<MemberId, Foreign>| -> BTreeSet<SessionId> {
            let ours = all.iter().filter(|(_, foreign)| foreign.ours);
            ours.map(|(id, _)| id.session).collect()
        };
        let (had, has) = (ours(&before), ours(&foreign));
        if has.iter().any(|session| !had.contains(session)) {
            self.out.dirty_nodes.insert(node);
        }
        self.out.touched.extend(had);
        self.out.place = true;
        self.out.unclaimed.insert(node);
        for (id, _) in foreign.iter().filter(|(_, foreign)| !foreign.ours) {
            if !before.contains_key(id) {
                let message = format!("node {name} has the member {id}, which no session claims");
                self.note_node(node, now, "member.unclaimed", message);
            }
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
                unclaimed: true,
                spec: foreign.spec.clone(),
            })
            .collect()
    }
}

/// What a reported member is to us.
enum Standing {
    /// Of the current attempt, on the node where it was placed.
    Current,
    /// Of an older attempt of a session that we know.
    Older,
    /// Not ours, as far as we know.
    Unknown,
}

fn foreign_of(member: &ReportedMember, ours: bool) -> Foreign {
    Foreign {
        state: member.state.clone(),
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
