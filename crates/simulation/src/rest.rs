//! A calm is over: what runs is what is said to run, and what waits has a reason.

use crate::blame::{fits, turn, waits_since};
use crate::clock::{MINUTE, Micros, SECOND};
use crate::world::{NODE_CPUS, World};
use domain::{
    DependencyState, DependencyTarget, Intention, MemberRecord, NodeId, NodeStatus, SessionRecord,
    SessionState, SlotName, Timestamp,
};
use lifecycle::manager::STARVATION_MS;
use std::collections::BTreeMap;

/// Looks in a row at which one that could start has to be seen waiting.
const IDLE_LOOKS: u32 = 4;
/// For so long everything has to have been well, to be sure that somebody could be placed.
const READY: Micros = MINUTE;
/// After a calm all agree at some time within this.
const HAPPENS: Micros = MINUTE;
/// After this time, in milliseconds, one that waits may close the nodes to those that come after it.
const MAY_CLOSE_MS: u64 = STARVATION_MS - 30_000;

impl World {
    /// What waits for a place waits because there is none, and what waits for an end, because that
    /// has not come.
    pub(crate) fn look_at_waiting(&mut self) {
        let mut idle = BTreeMap::new();
        if let Some((ready, now)) = self.ready_nodes() {
            for session in self.store.living() {
                let waits = session.state == SessionState::Pending;
                if waits && self.waits_without_reason(session, &ready, now) {
                    let before = self.watch.idle.get(&session.id).copied().unwrap_or(0);
                    idle.insert(session.id, before + 1);
                }
            }
        }
        let found = idle.iter().find(|(_, looks)| **looks >= IDLE_LOOKS);
        let found = found.map(|(session, _)| *session);
        self.watch.idle = idle;
        if let Some(session) = found {
            self.broken(format!("session {session} waits, and nothing is missing"));
        }
    }

    /// Nodes that are well, and the manager's time; `None` where it may have to wait itself.
    fn ready_nodes(&self) -> Option<(Vec<NodeId>, Timestamp)> {
        let since = self.now.checked_sub(READY)?;
        let manager = self.managers.acting()?;
        let settled = manager
            .leads_since
            .max(manager.jumped_at)
            .max(self.managers.slow_until);
        let ready = self.fine_nodes(manager, since);
        // What waits in a restored store waits until every node was heard of.
        let heard = self.has_heard_all(&ready);
        let ready = ready.into_iter().filter(|node| self.is_open(*node));
        let ready: Vec<NodeId> = ready.collect();
        let now = manager.clocks.now(self.now).wall;
        (settled <= since && heard).then_some((ready, now))
    }

    fn waits_without_reason(
        &self,
        session: &SessionRecord,
        ready: &[NodeId],
        now: Timestamp,
    ) -> bool {
        if session.intention != Intention::Run {
            return false;
        }
        let mut undecided = session.after.iter();
        if undecided.any(|on| on.state == DependencyState::Waiting && !self.lives(on.on)) {
            return true;
        }
        if !self.waits_for_place(session) {
            return false;
        }
        let closes = |other: &SessionRecord| {
            turn(other) < turn(session)
                && self.waits_for_place(other)
                && now.micros_since(waits_since(other)) / 1_000 >= MAY_CLOSE_MS
                && fits(other, self.connected())
        };
        !self.store.living().any(closes) && self.has_room(session, ready)
    }

    fn connected(&self) -> usize {
        let nodes = self.store.rows.nodes.values();
        let connected = nodes.filter(|node| node.status == NodeStatus::Connected);
        connected.count()
    }

    /// All of its members fit on these nodes now.
    fn has_room(&self, session: &SessionRecord, nodes: &[NodeId]) -> bool {
        let slot = SlotName::cpu();
        let mut used: BTreeMap<NodeId, u64> = BTreeMap::new();
        for other in self.store.living() {
            for member in other.all_members().filter(|one| one.state.occupies()) {
                *used.entry(member.node).or_default() += other.spec.slots.get(&slot);
            }
        }
        let asked = session.spec.slots.get(&slot).max(1);
        let offered = NODE_CPUS * domain::amounts::WHOLE;
        let free = nodes.iter().map(|node| {
            let used = used.get(node).copied().unwrap_or(0);
            offered.saturating_sub(used) / asked
        });
        // What nobody claims has something of a node, too.
        self.unclaimed().is_empty() && free.sum::<u64>() >= u64::from(session.spec.members)
    }

    /// After a calm all agree, but for what happens just then: a program that ran through all of it
    /// ends, and is tried again.
    pub(crate) fn check_agreement(&mut self) {
        let until = self.now + HAPPENS;
        while self.now < until && self.find_disagreement().is_some() {
            self.run_until(self.now + SECOND);
            if self.violation.is_some() {
                return;
            }
        }
        let wrong = self.find_disagreement();
        if let Some(message) = wrong.or_else(|| self.find_ghost()) {
            self.broken(format!("after a calm {message}"));
        }
    }

    fn find_disagreement(&self) -> Option<String> {
        for session in self.store.living() {
            let runs = |member: &MemberRecord| {
                let place = usize::try_from(member.node.0 - 1).expect("a node");
                self.machines[place].guests.contains_key(&member.id)
            };
            // One of several that has ended well holds nobody up.
            let members = session.members.iter();
            let mut members = members.filter(|member| member.state.occupies());
            let lives = members.clone().next().is_some() && members.all(runs);
            let (id, word) = (session.id, session.state.word());
            let fits = match session.state {
                SessionState::Running => lives,
                SessionState::Pending => session.members.is_empty(),
                _ => false,
            };
            if !fits {
                return Some(format!("session {id} is {word}"));
            }
            if session.state == SessionState::Pending && !self.has_reason_to_wait(session) {
                return Some(format!("session {id} waits for nothing"));
            }
        }
        None
    }

    /// What runs belongs to a session that says so, or is shown as what nobody claims.
    fn find_ghost(&self) -> Option<String> {
        let unclaimed = self.unclaimed();
        for machine in &self.machines {
            for member in machine.guests.keys() {
                let session = self.store.rows.sessions.get(&member.session);
                let mut members = session.into_iter().flat_map(SessionRecord::all_members);
                let is_known = members
                    .any(|one| one.id == *member && one.node == machine.id && one.state.occupies());
                if !is_known && !unclaimed.contains(member) {
                    return Some(format!("{member} runs on {}, unknown", machine.id));
                }
            }
        }
        None
    }

    fn has_reason_to_wait(&self, session: &SessionRecord) -> bool {
        if session.is_held_back() {
            let mut waits = session.after.iter();
            return waits
                .any(|other| other.state == DependencyState::Waiting && self.lives(other.on));
        }
        // That a pause between attempts is over in time is looked at all along.
        if session.retry.at.is_some() {
            return true;
        }
        let throttled = session
            .array
            .is_some_and(|(array, _)| self.is_throttled(array));
        throttled || !self.is_first_that_fits(session)
    }

    fn lives(&self, target: DependencyTarget) -> bool {
        self.store.living().any(|session| match target {
            DependencyTarget::Session(id) => session.id == id,
            DependencyTarget::Array(id) => session.array.is_some_and(|(array, _)| array == id),
        })
    }

    /// Nobody comes before it, and there is room for all of its members.
    fn is_first_that_fits(&self, session: &SessionRecord) -> bool {
        let mut others = self.store.living();
        if others.any(|other| self.waits_for_place(other) && turn(other) < turn(session)) {
            return false;
        }
        let all = self.machines.iter().map(|machine| machine.id);
        let all: Vec<NodeId> = all.filter(|node| self.is_open(*node)).collect();
        self.has_room(session, &all)
    }
}
