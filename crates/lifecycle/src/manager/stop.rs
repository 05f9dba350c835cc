//! A user asks for a session to end, or to be removed with all it left.

use super::site::Site;
use super::{Answer, Refusal, RequestToken};
use domain::{
    ArrayRecord, Intention, MemberRecord, MemberState, Now, SessionId, SessionRecord, StopOrder,
    UploadId,
};
use std::collections::BTreeSet;

/// From the first signal to SIGKILL where nobody said how long, in milliseconds.
pub const STOP_GRACE_MS: u64 = 10_000;
/// The first signal where nobody said which: SIGTERM.
pub(super) const STOP_SIGNAL: i32 = 15;

impl Site {
    pub(super) fn stop(
        &mut self,
        token: RequestToken,
        session: SessionId,
        order: StopOrder,
        now: Now,
    ) {
        let refusal = match self.session(session) {
            None => Some(Refusal::NoSuchSession { session }),
            Some(record) if !record.state.is_living() => Some(Refusal::HasEnded { session }),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.answer(token, Answer::Refused { refusal });
            return;
        }
        self.ask_to_stop(session, order, now);
        self.answer(token, Answer::Accepted { session });
    }

    /// Asks a session that lives to end.
    pub(super) fn ask_to_stop(&mut self, session: SessionId, order: StopOrder, now: Now) {
        let intention = &self.sessions[&session].record.intention;
        if let Some(intention) = after_stop(intention, order) {
            self.intend(session, intention);
            let record = &self.sessions[&session].record;
            let message = format!("session {} was asked to end", record.shown_name());
            self.note_session(session, now, "session.stop-asked", message);
        }
    }

    pub(super) fn remove(
        &mut self,
        token: RequestToken,
        session: SessionId,
        order: StopOrder,
        now: Now,
    ) {
        let Some(record) = self.session(session) else {
            let refusal = Refusal::NoSuchSession { session };
            self.answer(token, Answer::Refused { refusal });
            return;
        };
        if !matches!(record.intention, Intention::Remove { .. }) {
            let message = format!("session {} was asked to be removed", record.shown_name());
            self.note_session(session, now, "session.remove-asked", message);
            self.intend(session, Intention::Remove { order });
        }
        self.answer(token, Answer::Accepted { session });
    }

    pub(super) fn recalled(&mut self, session: SessionRecord, array: Option<ArrayRecord>) {
        let known = self.sessions.contains_key(&session.id);
        if !known && !session.state.is_living() {
            if let Some(record) = array {
                self.remember_array(record);
            }
            self.remember(session);
        }
    }

    pub(super) fn intend(&mut self, session: SessionId, intention: Intention) {
        let asked = super::report::is_asked_to_end(&intention);
        self.record_mut(session).intention = intention;
        self.out.touched.insert(session);
        if asked {
            self.claim_foreign(session);
        }
    }

    /// A removed session is deleted once no node has anything of it. Until then its row stays, so
    /// that a crash forgets nothing.
    pub(super) fn delete_if_removed(&mut self, session: SessionId, now: Now) {
        let Some(entry) = self.sessions.get(&session) else {
            return;
        };
        let record = &entry.record;
        let wanted = matches!(record.intention, Intention::Remove { .. });
        let left = |state: &MemberState| *state != MemberState::Gone;
        let older = self.nodes_with_foreign().any(|(_, node)| {
            let mut foreign = node.foreign.iter();
            foreign.any(|(id, foreign)| id.session == session && left(&foreign.state))
        });
        let has_left = |member: &MemberRecord| self.has_left(member);
        if !wanted || older || record.all_members().any(has_left) {
            return;
        }
        // A node that has not told yet may have it, or a later attempt of it: then it is to be
        // removed there as well.
        if self.is_in_doubt(record, self.are_all_heard()) {
            return;
        }
        let message = format!("session {} was removed", record.shown_name());
        // Written after the row is deleted, which takes the session's older events with it.
        self.note_session(session, now, "session.removed", message);
        self.element_removed(session, now);
        self.forget(session);
        self.out.changed.remove(&session);
        self.out.deleted.insert(session);
    }

    /// Reports those of `uploads`, all that exist, that an ended session named and no living one
    /// does. One that nobody has named yet is about to be.
    pub(super) fn drop_uploads_of_ended(&mut self, uploads: &[UploadId]) {
        let all = self.sessions.values();
        let named: BTreeSet<UploadId> = all.filter_map(|entry| entry.record.spec.upload).collect();
        let named = uploads.iter().filter(|upload| named.contains(*upload));
        self.out.ended_uploads.extend(named);
    }

    /// Those uploads that sessions named which have ended in this batch and that no living one
    /// names: one look at all that live, however many have ended.
    pub(super) fn unneeded_uploads(&self, mut ended: BTreeSet<UploadId>) -> Vec<UploadId> {
        if !ended.is_empty() {
            let living = self
                .active_records()
                .filter(|record| record.state.is_living());
            for upload in living.filter_map(|record| record.spec.upload) {
                ended.remove(&upload);
                // Elements of an array share one: mostly the first that lives has it.
                if ended.is_empty() {
                    break;
                }
            }
        }
        ended.into_iter().collect()
    }
}

/// What is intended once a stop was ordered; `None` if nothing changes. Who asked first has ended
/// it; a later order may only make it quicker.
pub(super) fn after_stop(intention: &Intention, order: StopOrder) -> Option<Intention> {
    let quicker = |known: &StopOrder| {
        let faster = order.grace_ms < known.grace_ms || order.signal == 9 && known.signal != 9;
        faster.then(|| StopOrder {
            by: known.by.clone(),
            at: known.at,
            ..order.clone()
        })
    };
    match intention {
        Intention::Run => Some(Intention::Stop { order }),
        Intention::Stop { order: known } => quicker(known).map(|order| Intention::Stop { order }),
        Intention::Fail {
            cause,
            order: known,
        } => quicker(known).map(|order| Intention::Fail {
            cause: cause.clone(),
            order,
        }),
        Intention::Remove { order: known } => {
            quicker(known).map(|order| Intention::Remove { order })
        }
    }
}
