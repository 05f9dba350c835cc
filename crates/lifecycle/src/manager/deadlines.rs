//! Deadlines of transient states. They count only while the nodes that must act are connected, on
//! a clock that neither jumps nor counts a suspend, and start anew after a restart, a reconnection
//! or a pause of this process: nobody is blamed for time in which they could not act.

use super::outcome::BY_INSULA;
use super::site::{Entry, Site};
use super::stop::{STOP_GRACE_MS, STOP_SIGNAL};
use crate::planted::{Planted, planted};
use domain::{Cause, Intention, Monotonic, NodeId, Now, SessionId, SessionState, Span, StopOrder};

/// From placement until a node begins, in milliseconds.
pub const PLACED_DEADLINE_MS: u64 = 60_000;
/// For files and roots, in milliseconds.
pub const PREPARING_DEADLINE_MS: u64 = 30 * 60_000;
/// For the engine, in milliseconds.
pub const STARTING_DEADLINE_MS: u64 = 2 * 60_000;
/// For stopping beyond the grace of the order, in milliseconds.
pub const STOPPING_DEADLINE_MS: u64 = 60_000;
/// A longer time between two ticks means that this process did not run: deadlines start anew.
pub const TICK_GAP_MS: u64 = 10_000;

/// Since when a session is in a transient state, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    state: &'static str,
    since: Monotonic,
}

impl Site {
    pub(super) fn tick(&mut self, now: Now) {
        let last = self.last_tick.replace(now.monotonic);
        let gap = last.map_or(0, |last| now.monotonic.micros_since(last));
        let paused = gap > TICK_GAP_MS * 1_000;
        // All others wait for a place, which has no deadline.
        let living = self.held.iter().copied();
        let living: Vec<SessionId> = living.filter(|id| self.living.contains(id)).collect();
        for session in living {
            if paused {
                self.entry_mut(session).timer = None;
            }
            self.look_at_deadline(session, now);
        }
        self.end_pauses(now);
        self.retire(now);
    }

    fn look_at_deadline(&mut self, session: SessionId, now: Now) {
        let entry = &self.sessions[&session];
        let state = entry.record.state.word();
        let Some(limit) = limit_of(entry).filter(|_| self.can_act(entry)) else {
            self.entry_mut(session).timer = None;
            return;
        };
        let start = Timer {
            state,
            since: now.monotonic,
        };
        let entry = self.entry_mut(session);
        let timer = entry
            .timer
            .filter(|timer| timer.state == state && !planted(Planted::DeadlineStartsAnew))
            .unwrap_or(start);
        entry.timer = Some(timer);
        if now.monotonic.micros_since(timer.since) >= limit.micros() {
            entry.timer = Some(start);
            self.missed(session, limit, now);
        }
    }

    /// All nodes that have a living member of it are connected.
    fn can_act(&self, entry: &Entry) -> bool {
        let living = entry.record.members.iter().filter(|m| m.state.occupies());
        living
            .map(|member| member.node)
            .all(|node| self.is_connected(node) || planted(Planted::DeadlineWhileAway))
    }

    fn missed(&mut self, session: SessionId, limit: Span, now: Now) {
        let record = &self.sessions[&session].record;
        let (name, state) = (record.name.clone(), record.state.word());
        let message = format!("session {name} has been {state} for longer than {limit}");
        if record.state == SessionState::Stopping {
            // It keeps trying: the nodes are told again, and the operator is told.
            let nodes: Vec<NodeId> = record.members.iter().map(|member| member.node).collect();
            self.out.dirty_nodes.extend(nodes);
            self.note_session(session, now, "session.stop-overdue", message);
            return;
        }
        let cause = Cause::DeadlineMissed {
            state: state.to_owned(),
            after: limit,
        };
        let order = StopOrder {
            by: BY_INSULA.to_owned(),
            signal: STOP_SIGNAL,
            grace_ms: STOP_GRACE_MS,
            at: now.wall,
        };
        self.intend(session, Intention::Fail { cause, order });
        self.note_session(session, now, "session.deadline-missed", message);
    }

    /// Deadlines of everything that lives on `node` start anew. A node that has only an ended member
    /// of a session holds up none of its others.
    pub(super) fn restart_timers(&mut self, node: NodeId) {
        for id in self.member_ids_on(node) {
            let entry = self.entry_mut(id.session);
            let mut members = entry.record.members.iter();
            if members.any(|member| member.node == node && member.state.occupies()) {
                entry.timer = None;
            }
        }
    }
}

/// The deadline of the state that a session is in, if it has one. Waiting for a place and running
/// have none.
fn limit_of(entry: &Entry) -> Option<Span> {
    let ms = match &entry.record.state {
        SessionState::Placed => PLACED_DEADLINE_MS,
        SessionState::Preparing => PREPARING_DEADLINE_MS,
        SessionState::Starting => STARTING_DEADLINE_MS,
        SessionState::Stopping => {
            let grace = match &entry.record.intention {
                Intention::Run => STOP_GRACE_MS,
                Intention::Stop { order }
                | Intention::Fail { order, .. }
                | Intention::Remove { order } => order.grace_ms,
            };
            STOPPING_DEADLINE_MS.saturating_add(grace)
        }
        SessionState::Pending | SessionState::Running | SessionState::Ended { .. } => return None,
    };
    Some(Span(ms))
}
