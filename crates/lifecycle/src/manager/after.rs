//! Sessions that wait for others to end. Each dependency is decided once: when the request is
//! made, if the other has ended by then, else in the step in which it ends. What was decided
//! stands in the waiting session's own row, so removing the other changes nothing.

use super::Refusal;
use super::site::Site;
use crate::planted::{Planted, planted};
use domain::{
    Dependency, DependencyState, DependencyTarget, Need, Now, Outcome, SessionId, SessionRecord,
    SessionState,
};
use std::sync::Arc;

impl Site {
    /// Decides what can be decided when a session is asked for.
    pub(super) fn decide_all(&self, after: &mut [Dependency], now: Now) -> Result<(), Refusal> {
        let waiting = after
            .iter_mut()
            .filter(|dependency| dependency.state == DependencyState::Waiting);
        for dependency in waiting {
            dependency.state = match dependency.on {
                DependencyTarget::Session(session) => {
                    let record = self.session(session);
                    let record = record.ok_or(Refusal::NoSuchSession { session })?;
                    of_session(record, dependency.need, now)
                }
                DependencyTarget::Array(array) => {
                    let entry = self.arrays.get(&array);
                    let entry = entry.ok_or(Refusal::NoSuchArray { array })?;
                    let elements = entry.index.elements.values();
                    let ended = elements
                        .map(|id| of_session(&self.sessions[id].record, dependency.need, now));
                    let failed = ended
                        .into_iter()
                        .find(|state| matches!(state, DependencyState::Failed { .. }));
                    match failed {
                        Some(failed) => failed,
                        None if entry.index.living.is_empty() => {
                            DependencyState::Met { at: now.wall }
                        }
                        None => DependencyState::Waiting,
                    }
                }
            };
        }
        Ok(())
    }

    /// A session has ended: decides for those that wait for it, or for its array.
    pub(super) fn tell_dependents(&mut self, session: SessionId, now: Now) {
        let record = &self.sessions[&session].record;
        let SessionState::Ended { outcome } = record.state.clone() else {
            return;
        };
        let name = record.shown_name();
        let array = record.array.map(|(array, _)| array);
        self.decide_for(DependencyTarget::Session(session), &name, &outcome, now);
        if let Some(array) = array {
            self.decide_for(DependencyTarget::Array(array), &name, &outcome, now);
        }
    }

    fn decide_for(&mut self, target: DependencyTarget, name: &str, outcome: &Outcome, now: Now) {
        let Some(dependents) = self.waiting.dependents.get(&target) else {
            return;
        };
        let dependents: Vec<SessionId> = dependents.iter().copied().collect();
        // Of an array one failure decides, and success only with the last element.
        let last = match target {
            DependencyTarget::Session(_) => true,
            DependencyTarget::Array(array) => self
                .arrays
                .get(&array)
                .is_none_or(|entry| entry.index.living.is_empty()),
        };
        for dependent in dependents {
            let record = &self.sessions[&dependent].record;
            let decides = |dependency: &Dependency| {
                dependency.on == target
                    && dependency.state == DependencyState::Waiting
                    && (last || !dependency.need.is_met_by(outcome))
            };
            if !record.after.iter().any(decides) {
                continue;
            }
            let record = if planted(Planted::DependencyNotStored) {
                Arc::make_mut(&mut self.entry_mut(dependent).record)
            } else {
                self.out.touched.insert(dependent);
                self.record_mut(dependent)
            };
            for dependency in record.after.iter_mut().filter(|other| decides(other)) {
                dependency.state = decided(dependency.need, outcome, name, now);
            }
            self.out.place = true;
        }
    }
}

fn of_session(record: &SessionRecord, need: Need, now: Now) -> DependencyState {
    match &record.state {
        SessionState::Ended { outcome } => decided(need, outcome, &record.shown_name(), now),
        SessionState::Pending
        | SessionState::Placed
        | SessionState::Preparing
        | SessionState::Starting
        | SessionState::Running
        | SessionState::Stopping => DependencyState::Waiting,
    }
}

fn decided(need: Need, outcome: &Outcome, name: &str, now: Now) -> DependencyState {
    if need.is_met_by(outcome) {
        DependencyState::Met { at: now.wall }
    } else {
        DependencyState::Failed {
            name: name.to_owned(),
            outcome: outcome.word().to_owned(),
        }
    }
}
