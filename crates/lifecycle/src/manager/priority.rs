//! A user gives a session, or an array with all of its elements, another priority.

use super::site::Site;
use super::waiting::waits;
use super::{Answer, Refusal, RequestToken};
use domain::{ArrayId, Now, Priority, SessionId};

/// Another priority that a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorityChange {
    /// Of what.
    pub target: PriorityTarget,
    /// The new one.
    pub priority: Priority,
    /// Who asked.
    pub by: String,
}

/// What has a priority of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorityTarget {
    /// A session that is no element.
    Session(SessionId),
    /// An array: its elements have its priority.
    Array(ArrayId),
}

impl Site {
    /// What runs goes on; it counts for a further attempt.
    pub(super) fn prioritize(&mut self, token: RequestToken, asked: &PriorityChange, now: Now) {
        let how = (asked.priority, asked.by.as_str());
        match asked.target {
            PriorityTarget::Session(session) => self.prioritize_session(token, session, how, now),
            PriorityTarget::Array(array) => self.prioritize_array(token, array, how, now),
        }
    }

    fn prioritize_session(
        &mut self,
        token: RequestToken,
        session: SessionId,
        (priority, by): (Priority, &str),
        now: Now,
    ) {
        if let Err(refusal) = self.check_prioritize(session) {
            self.answer(token, Answer::Refused { refusal });
            return;
        }
        if self.sessions[&session].record.priority != priority {
            let record = self.record_mut(session);
            record.priority = priority;
            let name = record.shown_name();
            let message = format!("session {name} was given priority {priority} by {by}");
            self.out.place |= waits(&self.sessions[&session].record);
            self.out.touched.insert(session);
            self.note_session(session, now, "session.prioritized", message);
        }
        self.answer(token, Answer::Accepted { session });
    }

    fn check_prioritize(&self, session: SessionId) -> Result<(), Refusal> {
        let record = self.session(session);
        let record = record.ok_or(Refusal::NoSuchSession { session })?;
        if record.array.is_some() {
            let array = record.name.clone();
            return Err(Refusal::ArrayHasPriority { session, array });
        }
        if !record.state.is_living() {
            return Err(Refusal::HasEnded { session });
        }
        Ok(())
    }

    /// All elements that live, so that all that wait have the same.
    fn prioritize_array(
        &mut self,
        token: RequestToken,
        array: ArrayId,
        (priority, by): (Priority, &str),
        now: Now,
    ) {
        let living = match self.living_elements(array) {
            Ok(living) => living,
            Err(refusal) => {
                self.answer(token, Answer::Refused { refusal });
                return;
            }
        };
        let entry = self.arrays.get_mut(&array);
        let record = &mut entry.expect("its elements were found").record;
        if record.priority != priority {
            record.priority = priority;
            let name = &record.name;
            let message = format!("array {name} was given priority {priority} by {by}");
            for session in living {
                self.record_mut(session).priority = priority;
            }
            self.out.changed_arrays.insert(array);
            self.out.place = true;
            self.note_array(array, now, "array.prioritized", message);
        }
        self.answer(token, Answer::ArrayAccepted { array });
    }
}
