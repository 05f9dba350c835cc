//! Taking down a container's file systems when nobody waits for it.
//!
//! The last process of a mount namespace takes down its mounts before it has ended, which takes about
//! as long as everything else of an end. So the namespace is held for a moment longer, and let go
//! of when there is time. Not one that shows somebody's own files: those are free with the end.

use rustix::fs::{Mode, OFlags, open};
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long after the end: then whoever waited for it has been told, and what follows has begun.
const LATER: Duration = Duration::from_millis(10);
/// Most namespaces without a process.
const ENDED_LIMIT: usize = 16;

/// The mount namespaces of containers, by their first process.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    living: HashMap<i32, OwnedFd>,
    ended: VecDeque<(Instant, OwnedFd)>,
}

impl Namespaces {
    /// Holds the one of this process, which is our child and not reaped.
    pub(super) fn hold(&mut self, pid: i32) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        // Without it, the process takes down what it has.
        if let Ok(namespace) = open(format!("/proc/{pid}/ns/mnt"), flags, Mode::empty()) {
            self.living.insert(pid, namespace);
        }
    }

    /// This process was reaped.
    pub(super) fn ended(&mut self, pid: i32, now: Instant) {
        let namespace = self.living.remove(&pid);
        self.ended.extend(namespace.map(|held| (now + LATER, held)));
        while self.ended.len() > ENDED_LIMIT {
            self.ended.pop_front();
        }
    }

    /// When the next one is to be let go of.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ended.front().map(|(due, _)| *due)
    }

    /// Lets go of one that is due.
    pub(super) fn let_go(&mut self, now: Instant) {
        if self.due().is_some_and(|due| now >= due) {
            self.ended.pop_front();
        }
    }
}
