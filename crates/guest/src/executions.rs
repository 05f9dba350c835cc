//! Commands beside the main one: how each is started, served and ended, and those that were left.

mod execution;

pub(crate) use execution::{Execution, Order};

use crate::processes::signal_session;
use crate::time::after;
use domain::Monotonic;
use guest_api::protocol::EXEC_LIMIT;
use rustix::process::Pid;

/// From the SIGHUP that a command gets when its client has gone to SIGKILL, in milliseconds.
const HANGUP_GRACE_MS: u64 = 5_000;

/// Those that no connection serves.
#[derive(Debug, Default)]
pub(crate) struct Executions {
    left: Vec<Left>,
}

#[derive(Debug)]
struct Left {
    pid: Pid,
    /// When it is killed; `None`: it was detached, or it was killed.
    kill_at: Option<Monotonic>,
}

impl Executions {
    /// Whether there may be one more beside the `served` ones.
    pub(crate) fn admit(&self, served: usize) -> bool {
        self.left.len() + served < EXEC_LIMIT
    }

    /// The client of a command wanted it to stay.
    pub(crate) fn detach(&mut self, pid: Pid) {
        self.left.push(Left { pid, kill_at: None });
    }

    /// The client of a command has gone; the command has not ended.
    pub(crate) fn hang_up(&mut self, pid: Pid, now: Monotonic) {
        signal_session(pid, libc::SIGHUP);
        // One that is stopped could not act on it.
        signal_session(pid, libc::SIGCONT);
        let kill_at = Some(after(now, HANGUP_GRACE_MS));
        self.left.push(Left { pid, kill_at });
    }

    /// A child was reaped; perhaps it was one of them.
    pub(crate) fn ended(&mut self, pid: Pid) {
        self.left.retain(|left| left.pid != pid);
    }

    /// Kills those whose time is over.
    pub(crate) fn kill_due(&mut self, now: Monotonic) {
        for left in &mut self.left {
            if left.kill_at.is_some_and(|at| now >= at) {
                left.kill_at = None;
                signal_session(left.pid, libc::SIGKILL);
            }
        }
    }

    /// When [`Self::kill_due`] should be asked again.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.left.iter().filter_map(|left| left.kill_at).min()
    }
}
