//! Taking down a container's file systems when nobody waits for it.
//!
//! The last process of a mount namespace takes down its mounts before it has ended, which takes about
//! as long as everything else of an end. So the namespace is held for a moment longer, and let go
//! of when there is time. Not one that shows somebody's own files: those are free with the end.
//!
//! Whoever reaps a process also takes down what is mounted on its directory in any /proc, mount by
//! mount, and for each the kernel waits for all CPUs. So children are reaped later, too, each behind
//! its namespace, with which all its mounts went at once.

use rustix::fs::{Mode, OFlags, open};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long after an end, or the first of several: then whoever waited for it has been told, and what
/// follows has begun.
const LATER: Duration = Duration::from_millis(10);

/// The mount namespaces of containers, by their first process, and when the ended are seen to.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    held: HashMap<i32, OwnedFd>,
    due: Option<Instant>,
}

impl Namespaces {
    /// Holds the one of this process, which is our child and not reaped.
    pub(super) fn hold(&mut self, pid: i32) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        // Without it, the process takes down what it has.
        if let Ok(namespace) = open(format!("/proc/{pid}/ns/mnt"), flags, Mode::empty()) {
            self.held.insert(pid, namespace);
        }
    }

    /// Some child has ended.
    pub(super) fn ended(&mut self, now: Instant) {
        self.due.get_or_insert(now + LATER);
    }

    /// When a child is to be reaped.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// No child is left that has ended.
    pub(super) fn all_reaped(&mut self) {
        self.due = None;
    }

    /// Lets go of the one of a process that is about to be reaped.
    pub(super) fn let_go(&mut self, pid: i32) {
        self.held.remove(&pid);
    }
}
