//! The state of a session follows from its intention and its members.

use super::Holder;
use super::outcome::outcome;
use super::retry::again;
use super::site::{Site, ended_key};
use crate::planted::{Planted, planted};
use domain::session::Requeue;
use domain::{
    Intention, MemberRecord, MemberState, Now, Outcome, SessionId, SessionRecord, SessionState,
    Timestamp,
};
use std::sync::Arc;

/// What follows from a session's intention and members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Derived {
    /// It lives, and this is where it is.
    Living(SessionState),
    /// Nothing of it lives or will live, and this is how it ended. A policy may ask for another
    /// try instead.
    Over(Outcome),
}

/// Where a session that has not ended is, by its intention, its members and where it was. Pure: it
/// is asked again after every change, and gives the same answer to the same record.
///
/// It never leads backwards: a member that is seen to prepare again does not make a session that
/// was starting one that is preparing.
pub fn derive_state(record: &SessionRecord) -> Derived {
    if record.members.is_empty() {
        return match record.intention {
            Intention::Run if record.failed_dependency().is_some() => {
                Derived::Over(outcome(record))
            }
            Intention::Run => Derived::Living(SessionState::Pending),
            Intention::Stop { .. } | Intention::Fail { .. } | Intention::Remove { .. } => {
                Derived::Over(outcome(record))
            }
        };
    }
    if !record.members.iter().any(|member| member.state.occupies()) {
        return Derived::Over(outcome(record));
    }
    let stops = |member: &MemberRecord| matches!(member.state, MemberState::Stopping { .. });
    let next = if is_winding_down(record) || record.members.iter().any(stops) {
        SessionState::Stopping
    } else {
        progress(&record.members)
    };
    if rank(&next) < rank(&record.state) {
        Derived::Living(record.state.clone())
    } else {
        Derived::Living(next)
    }
}

/// All members are to end: it was asked for, the main member has ended, or another one has failed.
pub(super) fn is_winding_down(record: &SessionRecord) -> bool {
    if record.intention != Intention::Run {
        return true;
    }
    record.members.iter().any(|member| match &member.state {
        MemberState::Exited { record } => member.id.index == 0 || !record.succeeded(),
        MemberState::Gone => true,
        MemberState::Assigned
        | MemberState::Preparing
        | MemberState::Starting
        | MemberState::Running { .. }
        | MemberState::Stopping { .. } => false,
    })
}

/// A session is as far as its slowest member; one that has ended well holds nobody up.
fn progress(members: &[MemberRecord]) -> SessionState {
    let ranks = members.iter().filter_map(|member| match member.state {
        MemberState::Assigned => Some(0),
        MemberState::Preparing => Some(1),
        MemberState::Starting => Some(2),
        MemberState::Running { .. } => Some(3),
        MemberState::Stopping { .. } | MemberState::Exited { .. } | MemberState::Gone => None,
    });
    let (slowest, fastest) =
        ranks.fold((3, 0), |(low, high), rank| (rank.min(low), rank.max(high)));
    match slowest {
        0 if fastest == 0 => SessionState::Placed,
        0 | 1 => SessionState::Preparing,
        2 => SessionState::Starting,
        _ => SessionState::Running,
    }
}

fn rank(state: &SessionState) -> u8 {
    match state {
        SessionState::Pending => 0,
        SessionState::Placed => 1,
        SessionState::Preparing => 2,
        SessionState::Starting => 3,
        SessionState::Running => 4,
        SessionState::Stopping => 5,
        SessionState::Ended { .. } => 6,
    }
}

impl Site {
    /// Looks at a session again after something about it changed.
    pub(super) fn refresh(&mut self, id: SessionId, now: Now) {
        let Some(entry) = self.sessions.get(&id) else {
            return;
        };
        if !entry.record.state.is_living() {
            self.delete_if_removed(id, now);
            return;
        }
        match derive_state(&entry.record) {
            Derived::Living(state) => self.move_to(id, state, now),
            Derived::Over(outcome) => {
                if let Some(again) = again(&entry.record, &outcome) {
                    self.requeue(id, again, &outcome, now);
                } else {
                    self.end(id, outcome, now);
                    self.delete_if_removed(id, now);
                }
            }
        }
    }

    fn move_to(&mut self, id: SessionId, state: SessionState, now: Now) {
        let record = self.record_mut(id);
        if record.state == state {
            return;
        }
        change_state(record, state, Requeue::No);
        if record.state == SessionState::Running {
            record.started_at = record.started_at.or_else(|| all_ran_since(&record.members));
        }
        let place = members_place(self, id);
        let record = self.record_mut(id);
        let (word, name) = (record.state.word(), record.shown_name());
        let message = format!("session {name} is {word}{place}");
        self.note_session(id, now, &format!("session.{word}"), message);
    }

    fn end(&mut self, id: SessionId, outcome: Outcome, now: Now) {
        let record = self.record_mut(id);
        let message = format!("session {} has ended: {outcome}", record.shown_name());
        record.ended_at = Some(ended_at(record, now.wall));
        record.started_at = record.started_at.or_else(|| main_started(&record.members));
        change_state(record, SessionState::Ended { outcome }, Requeue::No);
        let key = ended_key(record);
        let upload = record.spec.upload;
        record.retry.at = None;
        self.entry_mut(id).timer = None;
        let record = &self.sessions[&id].record;
        let holder = Holder::Session(id);
        self.names.give_back(&record.owner, &record.name, holder);
        self.living.remove(&id);
        self.ended.insert(key);
        self.out.place = true;
        self.out.ended_uploads.extend(upload);
        self.note_session(id, now, "session.ended", message);
        if planted(Planted::DependentsAskedTooEarly) {
            self.tell_dependents(id, now);
            return self.element_ended(id, now);
        }
        self.element_ended(id, now);
        self.tell_dependents(id, now);
    }

    /// A record that is about to change; its row is written at the end of the batch.
    pub(super) fn record_mut(&mut self, id: SessionId) -> &mut SessionRecord {
        self.out.changed.insert(id);
        Arc::make_mut(&mut self.entry_mut(id).record)
    }
}

/// Makes a move that the table of legal moves has; any other is a mistake of ours.
pub(super) fn change_state(record: &mut SessionRecord, next: SessionState, requeue: Requeue) {
    assert!(
        record.state.may_become(&next, requeue),
        "session {} cannot become {} while it is {}",
        record.id,
        next.word(),
        record.state.word()
    );
    record.state = next;
    // It counts in the state in which it was asked for: only what runs stands still.
    record.pause = None;
}

fn all_ran_since(members: &[MemberRecord]) -> Option<Timestamp> {
    let since = members.iter().filter_map(|member| match &member.state {
        MemberState::Running { since } => Some(*since),
        MemberState::Exited { record } => record.started_at,
        MemberState::Assigned
        | MemberState::Preparing
        | MemberState::Starting
        | MemberState::Stopping { .. }
        | MemberState::Gone => None,
    });
    since.max()
}

pub(super) fn main_started(members: &[MemberRecord]) -> Option<Timestamp> {
    match &members.first()?.state {
        MemberState::Exited { record } => record.started_at,
        MemberState::Assigned
        | MemberState::Preparing
        | MemberState::Starting
        | MemberState::Running { .. }
        | MemberState::Stopping { .. }
        | MemberState::Gone => None,
    }
}

/// When the last member ended by its own record, but never in the future, and never before the
/// session was made: a node's clock may be wrong by years, and retention counts from here.
pub(super) fn ended_at(record: &SessionRecord, now: Timestamp) -> Timestamp {
    let ends = record
        .members
        .iter()
        .filter_map(|member| match &member.state {
            MemberState::Exited { record } => Some(record.ended_at),
            MemberState::Assigned
            | MemberState::Preparing
            | MemberState::Starting
            | MemberState::Running { .. }
            | MemberState::Stopping { .. }
            | MemberState::Gone => None,
        });
    let last = ends.max();
    if planted(Planted::EndsBeforeItsTime) {
        return last.map_or(now, |end| end.min(now));
    }
    let possible = last.filter(|end| *end >= record.created_at);
    // The manager's own clock may have been set back.
    possible
        .map_or(now, |end| end.min(now))
        .max(record.created_at)
}

/// ` on NODE` for the node of the main member.
fn members_place(site: &Site, id: SessionId) -> String {
    let record = &site.sessions[&id].record;
    let node = record
        .members
        .first()
        .and_then(|member| site.nodes.get(&member.node));
    node.map(|node| format!(" on {}", node.record.name))
        .unwrap_or_default()
}
