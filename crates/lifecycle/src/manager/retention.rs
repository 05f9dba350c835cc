//! What memory keeps of sessions that have ended. Rows stay in the store; this is about memory and
//! about the files that sessions leave on nodes.

use super::site::Site;
use domain::{MemberState, Now, SessionId, Timestamp};

/// How long files and logs of an ended session stay on its nodes, in milliseconds: a week.
pub const OUTPUT_RETENTION_MS: u64 = 7 * DAY_MS;
/// How long an idempotency key is kept, in milliseconds: a day.
pub const KEY_RETENTION_MS: u64 = DAY_MS;
/// Above so many ended sessions in memory those of which no node has anything leave it, the oldest
/// first, before their day is over.
pub const ENDED_LIMIT: usize = 10_000;
/// Above so many ended sessions in memory the oldest lose their files and logs before their week is
/// over, which an event tells.
pub const KEPT_LIMIT: usize = 50_000;
/// Most sessions that one tick retires.
const RETIRE_LIMIT: usize = 500;
const DAY_MS: u64 = 86_400_000;

impl Site {
    pub(super) fn retire(&mut self, now: Now) {
        self.retire_keys(now.wall);
        let above = |limit: usize| self.ended.len().saturating_sub(limit);
        let (mut spare, mut crowd, crush) =
            (above(ENDED_LIMIT), above(KEPT_LIMIT), above(2 * KEPT_LIMIT));
        let mut steps = Vec::new();
        for (place, (ended, id)) in self.ended.iter().enumerate() {
            let age_ms = now.wall.micros_since(*ended) / 1_000;
            let is_over = spare == 0 && age_ms < DAY_MS;
            if is_over || steps.len() == RETIRE_LIMIT {
                break;
            }
            let entry = &self.sessions[id];
            let mut members = entry.record.all_members();
            let is_empty = members.all(|member| member.state == MemberState::Gone);
            if is_empty && (spare > 0 || age_ms >= DAY_MS) || place < crush {
                spare = spare.saturating_sub(1);
                steps.push((*id, Retirement::Forget));
            } else if !is_empty && (crowd > 0 || age_ms >= OUTPUT_RETENTION_MS) {
                crowd = crowd.saturating_sub(1);
                if !entry.purge {
                    let is_early = age_ms < OUTPUT_RETENTION_MS;
                    steps.push((*id, Retirement::Purge { is_early }));
                }
            }
        }
        for (id, step) in steps {
            self.retire_session(id, step, now);
        }
    }

    fn retire_session(&mut self, id: SessionId, step: Retirement, now: Now) {
        match step {
            Retirement::Forget => {
                self.forget(id);
                self.out.forgotten.push(id);
            }
            Retirement::Purge { is_early } => {
                let entry = self.entry_mut(id);
                entry.purge = true;
                let name = entry.record.shown_name();
                self.out.touched.insert(id);
                if is_early {
                    let message = format!(
                        "the files and logs of session {name} are removed early: more than \
                         {KEPT_LIMIT} sessions have ended that have some"
                    );
                    self.note_session(id, now, "session.output-removed", message);
                }
            }
        }
    }

    fn retire_keys(&mut self, now: Timestamp) {
        let kept = |at: Timestamp| now.micros_since(at) < KEY_RETENTION_MS * 1_000;
        self.keys.retain(|_, row| kept(row.at));
    }
}

/// What becomes of a session that has ended.
#[derive(Clone, Copy, Debug)]
enum Retirement {
    /// It leaves memory; its row stays in the store. Where a node still has something of it, which
    /// is so only if nodes stay away until twice [`KEPT_LIMIT`] is reached, that is unclaimed.
    Forget,
    /// The nodes remove what they have of it.
    Purge { is_early: bool },
}
