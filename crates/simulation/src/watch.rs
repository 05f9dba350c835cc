//! What must hold, looked at from outside: nothing here asks a core what it believes.

use crate::clock::{MINUTE, Micros, SECOND};
use crate::store::add;
use crate::world::World;
use domain::{Intention, MemberId, NodeId, SessionId, SessionState, SlotName};
use lifecycle::manager::{
    PLACED_DEADLINE_MS, PREPARING_DEADLINE_MS, RETRY_PAUSE_LIMIT_MS, STARTING_DEADLINE_MS,
    STOPPING_DEADLINE_MS,
};
use lifecycle::rows::RowChange;
use node_api::{Desired, Want};
use std::collections::BTreeMap;

/// Between two looks.
const LOOK: Micros = 10 * SECOND;
/// Beyond a deadline: ticks, grace, kills that are asked for again, what is lost and sent again.
const SLACK: Micros = 2 * MINUTE;

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// For how long a session has been in its state while everyone who must act could.
    counted: BTreeMap<SessionId, (&'static str, Micros)>,
    pub(crate) looks: u64,
    pub(crate) states: crate::blame::States,
    /// The latest that the wall clock of a manager has shown.
    pub(crate) latest: Option<domain::Timestamp>,
    /// By act: which try of it has made something, when, and after how many restored stores.
    pub(crate) made: BTreeMap<u64, (u64, domain::Timestamp, u64)>,
    /// How often in a row a session was seen to wait for nothing.
    pub(crate) idle: BTreeMap<SessionId, u32>,
}

impl World {
    /// A guest was told *go*.
    pub(crate) fn began(&mut self, node: usize, member: MemberId) {
        let id = self.machines[node].id;
        self.trace
            .line(self.now, format_args!("{member} begins on {id}"));
        let starts = self.starts.entry(member).or_default();
        *starts += 1;
        if *starts > 1 {
            self.broken(format!("{member} is run twice"));
        }
        if !self.store.placed.contains(&(member, id)) {
            self.broken(format!(
                "{member} runs on {id}, and no commit has placed it there"
            ));
        }
        let guests = self
            .machines
            .iter()
            .flat_map(|machine| machine.guests.keys());
        let mut others = guests
            .filter(|other| other.session == member.session && other.attempt != member.attempt);
        if let Some(other) = others.next() {
            let other = *other;
            self.broken(format!("{member} runs while {other} does"));
        }
        self.check_node(node);
    }

    /// What lives on a machine is no more than it offers.
    fn check_node(&mut self, node: usize) {
        let mut sum: BTreeMap<SlotName, u128> = BTreeMap::new();
        for member in self.machines[node].guests.keys() {
            // Also of those that a restored store does not know.
            add(&mut sum, &self.store.asked[&member.session]);
        }
        let offers = Self::offers();
        let over = sum
            .iter()
            .find(|(slot, amount)| **amount > u128::from(offers.get(slot)));
        if let Some((slot, amount)) = over {
            let id = self.machines[node].id;
            let message = format!("{amount} of {slot} are in use on {id}");
            self.broken(message);
        }
    }

    /// A living member was ordered to end: somebody who knows must have said so.
    pub(crate) fn hurt(&mut self, node: usize, member: MemberId) {
        let id = self.machines[node].id;
        self.trace
            .line(self.now, format_args!("{member} is ended on {id}"));
        let known =
            self.store.may_end.contains(&member) || self.store.is_asked_to_end(member.session);
        let condemned = self.store.condemned.contains(&member);
        // Of an attempt that is over, as the manager was told.
        let superseded = self
            .store
            .rows
            .sessions
            .get(&member.session)
            .is_some_and(|session| session.attempt > member.attempt);
        if !known && !condemned && !superseded {
            self.broken(format!(
                "{member} is ended on {id}, and nobody has asked for that"
            ));
        }
    }

    /// What is deleted from the store lives nowhere.
    pub(crate) fn check_deleted(&mut self, rows: &[RowChange]) {
        for row in rows {
            let RowChange::DeleteSession { session } = row else {
                continue;
            };
            let guests = self
                .machines
                .iter()
                .flat_map(|machine| machine.guests.keys());
            let mut living = guests.filter(|member| member.session == *session);
            if let Some(member) = living.next() {
                let member = *member;
                self.broken(format!("session {session} is deleted while {member} lives"));
            }
        }
    }

    /// A desired set leaves the manager: all that it says is committed.
    pub(crate) fn check_desired(&mut self, desired: &Desired, node: NodeId) {
        for member in &desired.members {
            let placed = self.store.placed.contains(&(member.id, node));
            let may_end = self.store.may_end.contains(&member.id)
                || self.store.condemned.contains(&member.id)
                || self.store.is_asked_to_end(member.id.session)
                || self.store.has_gone_on(member.id)
                || !placed;
            let is_known = match &member.want {
                Want::Run => placed,
                Want::Stop { .. } | Want::Purge { .. } => may_end,
            };
            if !is_known {
                let (id, want) = (member.id, &member.want);
                self.broken(format!(
                    "{node} is told of {id} ({want:?}), and no commit says so"
                ));
            }
        }
    }

    /// Looks at everything.
    pub(crate) fn look(&mut self) {
        self.watch.looks += 1;
        for node in 0..self.machines.len() {
            self.check_node(node);
        }
        self.check_view();
        let mut unclaimed = self.unclaimed().into_iter();
        let unclaimed = unclaimed.find(|member| !self.store.left_behind.contains(member));
        if let Some(member) = unclaimed.filter(|_| self.store.restores == 0) {
            self.broken(format!(
                "{member} is unclaimed, no store was restored, and its node not removed"
            ));
        }
        self.look_at_waiting();
        self.look_at_deadlines();
    }

    /// What is shown is what is committed.
    pub(crate) fn check_view(&mut self) {
        let view = self
            .managers
            .acting()
            .and_then(|manager| manager.view.as_ref());
        if let Some(view) = view
            && view.site.epoch == self.store.rows.site.epoch
        {
            let shown = |row: &&domain::SessionRecord| {
                view.sessions.get(&row.id).map(AsRef::as_ref) == Some(*row)
            };
            let other = self.store.living().find(|row| !shown(row));
            if let Some(session) = other.map(|row| row.id) {
                return self.broken(format!("session {session} is shown otherwise"));
            }
            let used = view.used();
            let unclaimed = |node| view.unclaimed.get(&node).is_some_and(|all| !all.is_empty());
            if let Err(violation) = self.store.check_amounts(&used, unclaimed) {
                self.break_with(violation);
            }
        }
    }

    /// Every transient state leaves by its deadline, counted while those who must act can.
    fn look_at_deadlines(&mut self) {
        let leads_since = self.managers.acting().map(|manager| manager.leads_since);
        let jumped_at = self.managers.acting().map(|manager| manager.jumped_at);
        let mut counted = BTreeMap::new();
        let mut late = None;
        for session in self.store.living() {
            let Some(limit) = limit_of(session) else {
                continue;
            };
            let members = session
                .members
                .iter()
                .filter(|member| member.state.occupies());
            let can_act = members
                .map(|member| member.node)
                .all(|node| self.is_served(node));
            let leads = leads_since.is_some_and(|since| since + LOOK <= self.now);
            let word = session.state.word();
            let before = self.watch.counted.get(&session.id);
            let before = before.filter(|(state, _)| *state == word);
            let length = before.map_or(0, |(_, length)| length + LOOK);
            let pauses = session.state == SessionState::Pending;
            let jumped = pauses && jumped_at.is_some_and(|at| at + LOOK > self.now);
            let length = if can_act && leads && !jumped {
                length
            } else {
                0
            };
            counted.insert(session.id, (word, length));
            if length > limit + SLACK {
                let seconds = length / SECOND;
                late.get_or_insert(format!("session {} is {word} for {seconds} s", session.id));
            }
        }
        self.watch.counted = counted;
        if let Some(message) = late {
            self.broken(message);
        }
    }

    /// A node is well, and the leader has a connection to it.
    fn is_served(&self, node: NodeId) -> bool {
        let place = usize::try_from(node.0 - 1).expect("a node");
        let machine = &self.machines[place];
        let has = |manager: &crate::manager::Manager| manager.connections.get(&node).copied();
        let theirs = self.managers.acting().and_then(has);
        let ours = machine.agent.as_ref().and_then(|agent| agent.connection);
        machine.is_well(self.now) && theirs.is_some() && theirs == ours
    }

    /// No more faults: everything that is under way comes to an end, and then nothing is left of
    /// anything.
    pub(crate) fn come_to_rest(&mut self) {
        self.is_calm = true;
        self.heal();
        let end = self.now + Self::REST;
        self.run_until(end);
        if self.violation.is_some() {
            return;
        }
        self.check_agreement();
        for _ in 0..2 {
            self.remove_everything();
            let end = self.now + 15 * MINUTE;
            self.run_until(end);
        }
        self.check_empty();
    }

    fn check_empty(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let left = self.store.rows.sessions.values().next();
        if let Some(session) = left {
            let message = format!(
                "session {} was removed and is still there, {}: {:?}",
                session.id,
                session.state.word(),
                session
                    .all_members()
                    .map(|m| (m.id, m.node, m.state.word()))
                    .collect::<Vec<_>>()
            );
            return self.broken(message);
        }
        let mut machines = self.machines.iter();
        let found = machines.find_map(|machine| {
            let first = machine.leftovers().into_iter().next();
            first.map(|left| format!("{left} is left on {}", machine.id))
        });
        if let Some(message) = found {
            self.broken(message);
        }
    }
}

/// The deadline of the state that a session is in, with what the agent adds to it.
fn limit_of(session: &domain::SessionRecord) -> Option<Micros> {
    let ms = match session.state {
        SessionState::Placed => PLACED_DEADLINE_MS,
        SessionState::Preparing => PREPARING_DEADLINE_MS,
        SessionState::Starting => STARTING_DEADLINE_MS,
        SessionState::Stopping => {
            let grace = match &session.intention {
                Intention::Run => 10_000,
                Intention::Stop { order }
                | Intention::Fail { order, .. }
                | Intention::Remove { order } => order.grace_ms,
            };
            STOPPING_DEADLINE_MS + grace
        }
        SessionState::Pending if session.retry.at.is_some() => RETRY_PAUSE_LIMIT_MS,
        SessionState::Pending | SessionState::Running | SessionState::Ended { .. } => return None,
    };
    Some(ms * 1_000)
}
