//! A user asks for a session to stand still, or to go on; and nodes tell whether it does.
//!
//! The order is stored beside the state and told to the node as part of its desired set, again
//! and again, so that it holds over every restart. It is gone with the state `Running`: what ends
//! goes on first, and a further attempt begins without it.

use super::site::Site;
use super::{Answer, Refusal, RequestToken};
use domain::{
    ArrayId, Capability, Intention, MemberPause, MemberRecord, MemberState, Now, PauseOrder,
    SessionId, SessionRecord, SessionState,
};
use node_api::{ReportedMember, Want};

/// The row of the capability table that a node needs for it.
pub const PAUSE_ROW: &str = "pause";

impl Site {
    pub(super) fn pause(
        &mut self,
        token: RequestToken,
        session: SessionId,
        order: PauseOrder,
        now: Now,
    ) {
        if let Err(refusal) = self.check_pause(session) {
            self.answer(token, Answer::Refused { refusal });
            return;
        }
        self.order_pause(session, order, now);
        self.answer(token, Answer::Accepted { session });
    }

    pub(super) fn resume(&mut self, token: RequestToken, session: SessionId, by: &str, now: Now) {
        let refusal = match self.session(session) {
            None => Some(Refusal::NoSuchSession { session }),
            Some(record) if !record.state.is_living() => Some(Refusal::HasEnded { session }),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.answer(token, Answer::Refused { refusal });
            return;
        }
        self.take_pause_back(session, by, now);
        self.answer(token, Answer::Accepted { session });
    }

    /// Those elements that run; what begins later is not paused. All of them or, where a node
    /// cannot do it, none.
    pub(super) fn pause_array(
        &mut self,
        token: RequestToken,
        array: ArrayId,
        order: &PauseOrder,
        now: Now,
    ) {
        let answer = match self.running_elements(array) {
            Ok(running) => {
                for session in running {
                    self.order_pause(session, order.clone(), now);
                }
                Answer::ArrayAccepted { array }
            }
            Err(refusal) => Answer::Refused { refusal },
        };
        self.answer(token, answer);
    }

    pub(super) fn resume_array(&mut self, token: RequestToken, array: ArrayId, by: &str, now: Now) {
        let answer = match self.living_elements(array) {
            Ok(living) => {
                for session in living {
                    self.take_pause_back(session, by, now);
                }
                Answer::ArrayAccepted { array }
            }
            Err(refusal) => Answer::Refused { refusal },
        };
        self.answer(token, answer);
    }

    pub(super) fn living_elements(&self, array: ArrayId) -> Result<Vec<SessionId>, Refusal> {
        let entry = self.arrays.get(&array);
        let entry = entry.ok_or(Refusal::NoSuchArray { array })?;
        if entry.index.living.is_empty() {
            return Err(Refusal::ArrayHasEnded { array });
        }
        Ok(entry.index.living.iter().copied().collect())
    }

    fn running_elements(&self, array: ArrayId) -> Result<Vec<SessionId>, Refusal> {
        let mut running = Vec::new();
        for session in self.living_elements(array)? {
            match self.check_pause(session) {
                Ok(()) => running.push(session),
                Err(refusal @ Refusal::CannotPause { .. }) => return Err(refusal),
                Err(_) => {}
            }
        }
        if running.is_empty() {
            return Err(Refusal::NoneRuns { array });
        }
        Ok(running)
    }

    /// Refuses what does not run, and what a node of its members cannot do.
    fn check_pause(&self, session: SessionId) -> Result<(), Refusal> {
        let Some(record) = self.session(session) else {
            return Err(Refusal::NoSuchSession { session });
        };
        if !record.state.is_living() {
            return Err(Refusal::HasEnded { session });
        }
        if record.state != SessionState::Running || record.intention != Intention::Run {
            let state = record.state.word();
            return Err(Refusal::NotRunning { session, state });
        }
        let nodes = record.members.iter().map(|member| member.node);
        for node in nodes.filter_map(|node| self.nodes.get(&node)) {
            let reason = match node.record.capabilities.get(PAUSE_ROW) {
                Some(Capability::Yes) => continue,
                Some(Capability::No { reason }) => reason.clone(),
                None => "its agent is older than pauses are".to_owned(),
            };
            return Err(Refusal::CannotPause {
                node: node.record.name.clone(),
                reason,
            });
        }
        Ok(())
    }

    /// Who asked first has paused it.
    fn order_pause(&mut self, session: SessionId, order: PauseOrder, now: Now) {
        if self.sessions[&session].record.pause.is_some() {
            return;
        }
        let record = self.record_mut(session);
        let message = format!(
            "session {} was asked to pause by {}",
            record.shown_name(),
            order.by
        );
        record.pause = Some(order);
        self.out.touched.insert(session);
        self.note_session(session, now, "session.pause-asked", message);
    }

    fn take_pause_back(&mut self, session: SessionId, by: &str, now: Now) {
        if self.sessions[&session].record.pause.is_none() {
            return;
        }
        let record = self.record_mut(session);
        record.pause = None;
        let message = format!("session {} was asked to go on by {by}", record.shown_name());
        self.out.touched.insert(session);
        self.note_session(session, now, "session.resume-asked", message);
    }

    /// Takes what a node tells of a current member; its state was taken before.
    pub(super) fn take_pause(&mut self, reported: &ReportedMember, now: Now) {
        let id = reported.id.session;
        let before = Seen::of(&self.sessions[&id].record);
        let known = self.member_mut(reported.id);
        let told = match (&known.state, &reported.state) {
            (MemberState::Running { .. }, MemberState::Running { .. }) => reported.pause.clone(),
            _ => MemberPause::Off,
        };
        if known.pause == told {
            return;
        }
        known.pause = told;
        self.out.changed.insert(id);
        let after = Seen::of(&self.sessions[&id].record);
        if let Some((code, message)) = after.told_since(&before) {
            self.note_session(id, now, code, message);
        }
    }
}

/// What people are told changes of.
struct Seen {
    name: String,
    runs: bool,
    asked: bool,
    held: bool,
    problem: Option<String>,
}

impl Seen {
    fn of(record: &SessionRecord) -> Self {
        Self {
            name: record.shown_name(),
            runs: record.state == SessionState::Running,
            asked: record.pause.is_some(),
            held: record.is_held(),
            problem: record.pause_problem().map(str::to_owned),
        }
    }

    fn told_since(&self, before: &Self) -> Option<(&'static str, String)> {
        let name = &self.name;
        if !self.runs {
            return None;
        }
        if self.held && !before.held {
            return Some(("session.paused", format!("session {name} is paused")));
        }
        if before.held && !self.held && !self.asked {
            return Some(("session.resumed", format!("session {name} goes on")));
        }
        let reason = self.problem.as_ref().filter(|_| before.problem.is_none())?;
        let message = format!("session {name} could not be paused: {reason}");
        Some(("session.pause-failed", message))
    }
}

/// Whether a member is told to stand still.
pub(super) fn is_paused(record: &SessionRecord, member: &MemberRecord, want: &Want) -> bool {
    let current = member.id.attempt == record.attempt;
    *want == Want::Run && current && record.pause.is_some()
}
