//! What memory keeps of sessions that have ended. Rows stay in the store; this is about memory and
//! about the files that sessions leave on nodes.

use super::site::Site;
use crate::planted::{Planted, planted};
use domain::{Intention, Now, SessionId, Timestamp};

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
/// Above so many they leave memory whatever nodes have of them: nodes that stay away must not fill
/// it.
const MEMORY_LIMIT: usize = 2 * KEPT_LIMIT;
/// Most sessions that one tick retires.
const RETIRE_LIMIT: usize = 500;
const DAY_MS: u64 = 86_400_000;

impl Site {
    pub(super) fn retire(&mut self, now: Now) {
        self.retire_keys(now.wall);
        let mut excess = Excess::of(self.ended.len());
        let mut steps = Vec::new();
        for (ended, id) in &self.ended {
            let age_ms = now.wall.micros_since(*ended) / 1_000;
            // All that follow are younger.
            let is_over = excess.ended == 0 && age_ms < DAY_MS;
            if is_over || steps.len() == RETIRE_LIMIT {
                break;
            }
            let entry = &self.sessions[id];
            let mut members = entry.record.all_members();
            // One that is removed waits for nodes; then it goes.
            let is_removed = matches!(entry.record.intention, Intention::Remove { .. });
            let is_empty = !is_removed && !members.any(|member| self.has_left(member));
            match excess.step_of(is_empty, age_ms) {
                Some(Retirement::Purge { .. }) if entry.purge => {}
                Some(step) => steps.push((*id, step)),
                None => {}
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
        let micros = if planted(Planted::KeyAgeInMicroseconds) {
            KEY_RETENTION_MS
        } else {
            KEY_RETENTION_MS * 1_000
        };
        let kept = |at: Timestamp| now.micros_since(at) < micros;
        self.keys.retain(|_, row| kept(row.at));
    }
}

/// By how many the ended sessions are above each limit. They are gone through from the oldest on.
#[derive(Clone, Copy, Debug)]
struct Excess {
    /// Above [`ENDED_LIMIT`].
    ended: usize,
    /// Above [`KEPT_LIMIT`].
    kept: usize,
    /// Above [`MEMORY_LIMIT`].
    memory: usize,
}

impl Excess {
    fn of(ended: usize) -> Self {
        Self {
            ended: ended.saturating_sub(ENDED_LIMIT),
            kept: ended.saturating_sub(KEPT_LIMIT),
            memory: ended.saturating_sub(MEMORY_LIMIT),
        }
    }

    /// What becomes of the next one; `is_empty`: no node has anything of it.
    fn step_of(&mut self, is_empty: bool, age_ms: u64) -> Option<Retirement> {
        let must_go = self.memory > 0;
        self.memory = self.memory.saturating_sub(1);
        if must_go || is_empty && (self.ended > 0 || age_ms >= DAY_MS) {
            self.ended = self.ended.saturating_sub(1);
            return Some(Retirement::Forget);
        }
        if is_empty || self.kept == 0 && age_ms < OUTPUT_RETENTION_MS {
            return None;
        }
        self.kept = self.kept.saturating_sub(1);
        let is_early = age_ms < OUTPUT_RETENTION_MS;
        Some(Retirement::Purge { is_early })
    }
}

/// What becomes of a session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retirement {
    /// It leaves memory; its row stays in the store. Where a node still has something of it, which
    /// is so only if nodes stay away until twice [`KEPT_LIMIT`] is reached, that is unclaimed.
    Forget,
    /// The nodes remove what they have of it.
    Purge { is_early: bool },
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, Excess, KEPT_LIMIT, MEMORY_LIMIT, OUTPUT_RETENTION_MS, Retirement};

    #[test]
    fn the_oldest_go_first_and_only_above_a_limit_or_an_age() {
        let (forget, day, week) = (Some(Retirement::Forget), DAY_MS, OUTPUT_RETENTION_MS);
        let purge = |is_early| Some(Retirement::Purge { is_early });
        for (ended, is_empty, age_ms, expected) in [
            (1, true, day - 1, None),
            (1, true, day, forget),
            (1, false, day, None),
            (1, false, week, purge(false)),
            (10_001, true, 0, forget),
            (10_001, false, 0, None),
            (KEPT_LIMIT + 1, false, 0, purge(true)),
            (2 * KEPT_LIMIT, false, 0, purge(true)),
            (MEMORY_LIMIT + 1, false, 0, forget),
        ] {
            let found = Excess::of(ended).step_of(is_empty, age_ms);
            assert_eq!(found, expected, "{ended} {is_empty} {age_ms}");
        }
        // As many as there are too many.
        let mut excess = Excess::of(10_002);
        let steps: Vec<_> = (0..3).map(|_| excess.step_of(true, 0)).collect();
        assert_eq!(steps, [forget, forget, None]);
    }
}
