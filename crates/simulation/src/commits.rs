//! What a leader has stepped, on its way to the store and out of it: one transaction in flight, and
//! behind it what was stepped meanwhile, as in the real leader.

use crate::clock::{MILLI, Micros, SECOND};
use crate::manager::ManagerId;
use crate::world::{Happening, World};
use domain::{NodeId, SessionId, Timestamp};
use lifecycle::manager::{Effects, RequestToken};
use lifecycle::planted::{Planted, planted};
use lifecycle::rows::RowChange;
use std::collections::{BTreeMap, BTreeSet};

/// A batch between its step and its commit.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) effects: Effects,
    pub(crate) requests: BTreeMap<RequestToken, usize>,
    pub(crate) greeted: Vec<(NodeId, u64)>,
    /// When it was made, by the manager's wall clock and in truth.
    pub(crate) made_at: (Timestamp, Micros),
}

/// The rows of a transaction.
pub(crate) fn rows_of(commits: &[Commit]) -> Vec<RowChange> {
    let rows = commits.iter().flat_map(|commit| &commit.effects.rows);
    rows.cloned().collect()
}

/// The sessions of which batches write rows.
fn sessions_of(commits: &[Commit]) -> BTreeSet<SessionId> {
    let rows = commits.iter().flat_map(|commit| &commit.effects.rows);
    let sessions = rows.filter_map(|row| match row {
        RowChange::PutSession { session } => Some(session.id),
        _ => None,
    });
    sessions.collect()
}

impl World {
    /// Puts a batch behind what was stepped before it. With nothing in flight it is on its way.
    pub(crate) fn put_in_line(&mut self, id: ManagerId, commit: Commit) {
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        manager.stepped.push(commit);
        if manager.flying.is_empty() {
            self.depart(id);
        }
    }

    /// All that was stepped is on its way to the store, as one transaction.
    fn depart(&mut self, id: ManagerId) {
        let slow = self.now < self.managers.slow_until;
        let fails = self.managers.failing_commits > 0 || self.managers.unknown_commit.is_some();
        let delay = if slow {
            self.managers.random.delay(SECOND, 8 * SECOND)
        } else if fails {
            // A disk in trouble takes its time, in which the leader steps on.
            self.managers.random.delay(100, SECOND)
        } else {
            self.managers.random.delay(100, 5 * MILLI)
        };
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        manager.serial += 1;
        let serial = manager.serial;
        manager.flying = std::mem::take(&mut manager.stepped);
        if rows_of(&manager.flying).is_empty() {
            self.commits(id, serial);
        } else {
            self.after(
                delay,
                Happening::Commits {
                    manager: id,
                    serial,
                },
            );
        }
    }

    /// The store has answered.
    pub(crate) fn commits(&mut self, id: ManagerId, serial: u64) {
        if !self.can_go_on(
            id,
            Happening::Commits {
                manager: id,
                serial,
            },
        ) {
            return;
        }
        let manager = self.managers.all.get_mut(&id).expect("it can go on");
        if manager.serial != serial {
            return;
        }
        let flown = std::mem::take(&mut manager.flying);
        let Some(site) = &manager.site else { return };
        let epoch = site.row().epoch;
        let is_made = self.store_takes(id, epoch, &flown);
        if is_made {
            for commit in flown {
                self.release(id, commit);
            }
        }
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        if !is_made {
            // Memory is no longer known to be what the store holds, and what was stepped behind the
            // commit stands on it.
            manager.site = None;
            if !planted(Planted::SteppedOutlivesFailure) {
                manager.stepped.clear();
            }
        } else if !manager.stepped.is_empty() {
            self.depart(id);
        }
        self.turn_soon(id);
    }

    /// Whether a batch is committed, and known to be. The process of one that was fenced ends.
    fn store_takes(&mut self, id: ManagerId, epoch: u64, flown: &[Commit]) -> bool {
        let rows = rows_of(flown);
        if rows.is_empty() {
            return true;
        }
        if self.managers.failing_commits > 0 {
            self.managers.failing_commits -= 1;
            self.trace.line(self.now, format_args!("a commit fails"));
            self.check_view();
            return false;
        }
        let unknown = self.managers.unknown_commit.take();
        if unknown == Some(false) {
            return planted(Planted::UnknownCommitIsMade);
        }
        match self.store.commit(epoch, false, &rows) {
            Err(_fenced) => {
                self.trace
                    .line(self.now, format_args!("manager {id} is fenced"));
                self.end_manager(id, false);
                false
            }
            Ok(Err(violation)) => {
                self.break_with(violation);
                false
            }
            Ok(Ok(())) => {
                for (number, commit) in flown.iter().enumerate() {
                    let later = sessions_of(&flown[number + 1..]);
                    self.check_order(&commit.effects.rows, &later);
                    self.check_deleted(&commit.effects.rows);
                    self.check_blame(id, &commit.effects.rows, commit.made_at);
                }
                unknown.is_none() || planted(Planted::UnknownCommitIsMade)
            }
        }
    }

    /// Everything that a committed batch lets out.
    fn release(&mut self, id: ManagerId, mut commit: Commit) {
        self.trace_rows(&commit.effects);
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        if let Some(view) = &mut manager.view {
            view.apply(&commit.effects);
        }
        self.answer_all(id, &mut commit);
        let Commit {
            effects, greeted, ..
        } = commit;
        for (node, desired) in effects.desired {
            self.check_desired(&desired, node);
            let Some(manager) = self.managers.all.get_mut(&id) else {
                return;
            };
            let Some(connection) = manager.connections.get(&node).copied() else {
                continue;
            };
            let place = usize::try_from(node.0 - 1).expect("a node");
            if greeted.contains(&(node, connection)) {
                manager.outbox.remove(&node);
                self.welcome(place, connection, desired);
            } else {
                let is_new = manager.outbox.insert(node, desired).is_none();
                if is_new {
                    self.tell_node(id, place, connection, 100 * MILLI);
                }
            }
        }
    }

    /// The answers of a batch go out to their users.
    pub(crate) fn answer_all(&mut self, id: ManagerId, commit: &mut Commit) {
        for (token, answer) in std::mem::take(&mut commit.effects.answers) {
            if let Some(request) = commit.requests.get(&token) {
                let leads = self.managers.leader == Some(id);
                self.answer_is_out(*request, answer, leads);
            }
        }
    }

    fn trace_rows(&mut self, effects: &Effects) {
        for row in &effects.rows {
            if let RowChange::AddEvent { event } = row {
                let (code, message) = (&event.code, &event.message);
                self.trace.line(self.now, format_args!("{code} {message}"));
            }
        }
    }
}
