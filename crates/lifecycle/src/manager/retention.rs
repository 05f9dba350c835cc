//! What memory keeps of sessions that have ended. Rows stay in the store; this is about memory and
//! about the files that sessions leave on nodes.

use super::site::Site;
use domain::{MemberState, Now, SessionId, Timestamp};

/// How long files and logs of an ended session stay on its nodes, in milliseconds: a week.
pub const OUTPUT_RETENTION_MS: u64 = 7 * DAY_MS;
/// How long an idempotency key is kept, in milliseconds: a day.
pub const KEY_RETENTION_MS: u64 = DAY_MS;
/// Most ended sessions in memory; beyond it the oldest are retired early. Sessions of which no
/// node has anything leave after a day.
pub const ENDED_LIMIT: usize = 10_000;
/// Most sessions that one tick retires.
const RETIRE_LIMIT: usize = 500;
const DAY_MS: u64 = 86_400_000;

impl Site {
    pub(super) fn retire(&mut self, now: Now) {
        self.retire_keys(now.wall);
        let excess = self.ended.len().saturating_sub(ENDED_LIMIT);
        let old: Vec<SessionId> = self
            .ended
            .iter()
            .enumerate()
            .take_while(|(place, (ended, _))| *place < excess || age_ms(*ended, now) >= DAY_MS)
            .filter(|(place, (ended, id))| *place < excess || self.is_due(*id, age_ms(*ended, now)))
            .map(|(_, (_, id))| *id)
            .take(RETIRE_LIMIT)
            .collect();
        for (place, id) in old.into_iter().enumerate() {
            // Twice the limit is only reached if nodes stay away that long: then memory comes
            // before the files there, which will be reported as unclaimed.
            let crowded = place < excess.saturating_sub(ENDED_LIMIT);
            self.retire_session(id, crowded);
        }
    }

    fn is_due(&self, id: SessionId, age_ms: u64) -> bool {
        let entry = &self.sessions[&id];
        let empty = entry
            .record
            .all_members()
            .all(|m| m.state == MemberState::Gone);
        empty || age_ms >= OUTPUT_RETENTION_MS && !entry.purge
    }

    /// Forgets a session of which no node has anything; has the nodes remove the rest of another.
    fn retire_session(&mut self, id: SessionId, crowded: bool) {
        let entry = self.entry_mut(id);
        let empty = entry
            .record
            .all_members()
            .all(|m| m.state == MemberState::Gone);
        if empty || crowded {
            self.forget(id);
            self.out.forgotten.push(id);
        } else if !entry.purge {
            entry.purge = true;
            self.out.touched.insert(id);
        }
    }

    fn retire_keys(&mut self, now: Timestamp) {
        let kept = |at: Timestamp| now.micros_since(at) < KEY_RETENTION_MS * 1_000;
        self.keys.retain(|_, row| kept(row.at));
    }
}

fn age_ms(ended: Timestamp, now: Now) -> u64 {
    now.wall.micros_since(ended) / 1_000
}
