//! All processes of the container: signalling, reaping and counting them.
//!
//! As PID 1 the guest speaks to every process by `kill(-1)`. Elsewhere (in tests, and under an
//! engine that keeps PID 1 for itself) that would end strangers, so it speaks to the command's
//! process group, and is the *subreaper* of its descendants: what loses its parent becomes the
//! guest's child, so killing children until there is none ends them all.

use crate::signals::send_signal;
use domain::ExitHow;
use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use std::fs;

/// Most children read at once when there is no `kill(-1)`.
const CHILDREN_LIMIT: usize = 100_000;

/// How far the guest's power reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// PID 1: everything in the namespace.
    Namespace,
    /// Anything else: its descendants.
    Descendants,
}

impl Reach {
    /// Finds out, and becomes the reaper of its descendants.
    pub(crate) fn establish() -> Self {
        if getpid().is_init() {
            return Self::Namespace;
        }
        // Without it orphans are lost to the system's init; the process group still is reached.
        let _ = set_child_subreaper(Some(getpid()));
        Self::Descendants
    }

    /// Sends `signal` to every process, as far as it reaches without looking for them.
    pub(crate) fn signal_all(self, command: Option<Pid>, signal: i32) {
        match (self, command) {
            (Self::Namespace, _) => {
                send_signal(-1, signal);
            }
            (Self::Descendants, Some(command)) => {
                send_signal(-command.as_raw_pid(), signal);
            }
            (Self::Descendants, None) => {}
        }
    }

    /// Kills everything there is now. To be repeated whenever a child was reaped, until there
    /// are no children.
    pub(crate) fn kill_all(self, command: Option<Pid>) {
        self.signal_all(command, libc::SIGKILL);
        if self == Self::Descendants {
            for child in children() {
                send_signal(child, libc::SIGKILL);
            }
        }
    }

    /// Processes besides the guest.
    pub(crate) fn count(self, command: Option<Pid>) -> u32 {
        let own = getpid().as_raw_pid();
        let counts = |pid: i32| match (self, command) {
            (Self::Namespace, _) => pid != own,
            (Self::Descendants, Some(command)) => session_of(pid) == Some(command.as_raw_pid()),
            (Self::Descendants, None) => false,
        };
        let count = processes().filter(|pid| counts(*pid)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaped {
    /// Who.
    pub(crate) pid: Pid,
    /// How.
    pub(crate) status: WaitStatus,
}

/// Reaps one child, if one has ended. `Err` where there is no child at all.
pub(crate) fn reap() -> Result<Option<Reaped>, NoChild> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if status.exited() || status.signaled() => {
                return Ok(Some(Reaped { pid, status }));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(_) => return Err(NoChild),
        }
    }
}

/// There is no child, living or dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoChild;

/// What the kernel said of the command, in our words.
pub(crate) fn how(status: WaitStatus) -> ExitHow {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitHow::Exited {
            code: u8::try_from(code & 0xff).expect("eight bits"),
        },
        (None, Some(signal)) => ExitHow::Signalled {
            signal,
            core_dumped: libc::WCOREDUMP(status.as_raw()),
        },
        (None, None) => ExitHow::Unknown,
    }
}

/// Sends `signal` to every process of the session that `leader`, a living child of ours, leads. One
/// that made a session of its own is none of them.
pub(crate) fn signal_session(leader: Pid, signal: i32) {
    let leader = leader.as_raw_pid();
    let members = processes().filter(|pid| session_of(*pid) == Some(leader));
    let members: Vec<i32> = members.collect();
    for member in &members {
        send_signal(*member, signal);
    }
    if members.is_empty() {
        // There is no /proc, or the child has not made its session yet.
        send_signal(-leader, signal);
        send_signal(leader, signal);
    }
}

/// Every process that /proc shows.
fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The guest's own children, as the kernel lists them; none where it does not.
fn children() -> Vec<i32> {
    let own = getpid().as_raw_pid();
    let list = fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    list.split_whitespace()
        .take(CHILDREN_LIMIT)
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// The session of a process: the fourth field after the name, which may hold anything.
fn session_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(3)?.parse().ok()
}
