//! `daemon.down`: the site was taken down by the user, so no command that is in the middle of its
//! work brings it back.
//!
//! `insula down` holds the file's lock until it ends. A mark that nobody holds while a daemon
//! answers is left of a `down` that did not come to its end, and is removed by whoever sees it.

use crate::settings::Settings;
use process::{FileLock, LockMode};
use std::path::PathBuf;
use std::time::Duration;

/// Tries to take the mark's lock: whoever looks whether it is held holds it for a moment.
const LOCK_TRIES: u32 = 20;
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A mark of this process; taken back when dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct DownMark {
    path: PathBuf,
    /// Absent if another `down` holds it, or it could not be made: a full disk must not keep the
    /// site up, and without the mark a run in the foreground may start it again.
    lock: Option<FileLock>,
}

impl DownMark {
    /// Makes the mark. To be done before the daemon goes.
    pub(crate) async fn make(settings: &Settings) -> Self {
        let path = settings.down_file();
        let mut lock = None;
        for _ in 0..LOCK_TRIES {
            lock = match FileLock::try_lock(&path, LockMode::Exclusive) {
                Ok(lock) => lock,
                Err(_) => break,
            };
            if lock.is_some() {
                break;
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Self { path, lock }
    }

    /// The daemon has its order: the mark stays.
    pub(crate) fn keep(mut self) {
        self.lock = None;
    }
}

impl Drop for DownMark {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // One that stays is removed by the next command that finds a daemon.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A daemon answers: removes a mark that no `down` holds.
pub(super) fn clear_stale_mark(settings: &Settings) {
    let path = settings.down_file();
    if path.exists() && !FileLock::is_locked(&path).unwrap_or(true) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::{DownMark, clear_stale_mark};
    use crate::settings::{Environment, Settings};

    #[tokio::test]
    async fn a_mark_is_taken_back_unless_it_is_kept_and_is_stale_once_nobody_holds_it() {
        let home = tempfile::tempdir().expect("a directory");
        let settings = Settings::read(Some(home.path()), Environment::default()).expect("read");
        let there = || settings.down_file().exists();
        let mark = DownMark::make(&settings).await;
        clear_stale_mark(&settings);
        assert!(there(), "it is held");
        drop(mark);
        assert!(!there(), "it is taken back");
        DownMark::make(&settings).await.keep();
        assert!(there(), "it outlives its maker");
        clear_stale_mark(&settings);
        assert!(!there(), "a daemon answers all the same");
    }
}
