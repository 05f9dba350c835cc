//! The guest's process: found again after any restart, and never confused with another.

use super::{act, chain};
use engine_api::{EngineError, layout};
use process::{ProcessIdentity, send_signal, wait_exit};
use rustix::process::Signal;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A guest that lived a moment ago.
#[derive(Debug)]
pub(super) struct Guest {
    pidfd: OwnedFd,
    pid: i32,
}

impl Guest {
    /// The guest that the launcher remembered in the member's directory; `None` if none was, or
    /// it is gone.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, EngineError> {
        Self::noted(&directory.join(layout::GUEST))
    }

    /// The guest that the launcher noted in this file.
    pub(super) fn noted(path: &Path) -> Result<Option<Self>, EngineError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(act("read who the guest is", error)),
        };
        // It is written whole, so anything else is not ours to guess about.
        let identity: ProcessIdentity =
            serde_json::from_slice(&bytes).map_err(|error| act("read who the guest is", error))?;
        let opened = identity.open();
        let pidfd = opened.map_err(|error| act("open the guest's process", chain(&error)))?;
        Ok(pidfd.map(|pidfd| Self {
            pidfd,
            pid: identity.pid,
        }))
    }

    /// The process `pid`, if it is number 1 of a pid namespace below ours.
    pub(super) fn first_of_namespace(pid: i32) -> Option<Self> {
        let identity = ProcessIdentity::of(pid).ok()??;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let numbers = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))?;
        let numbers: Vec<_> = numbers.split_ascii_whitespace().collect();
        // Its own command may make another namespace, whose first has one number more.
        let first = numbers.len() == 2 && numbers.last() == Some(&"1");
        let pidfd = first.then(|| identity.open().ok()?).flatten()?;
        Some(Self { pidfd, pid })
    }

    /// Whether any of these processes has not ended. One that has stays listed until it is reaped.
    pub(super) fn any_alive(processes: &[i32]) -> bool {
        processes.iter().any(|pid| {
            let identity = ProcessIdentity::of(*pid).ok().flatten();
            identity.is_some_and(|identity| identity.is_alive().unwrap_or(true))
        })
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has not ended yet.
    pub(super) fn is_alive(&self) -> bool {
        !wait_exit(&self.pidfd, Duration::ZERO)
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills it and waits at most `limit` for its end, by which all of its container has ended:
    /// the kernel ends a pid namespace's processes before its first.
    pub(super) fn kill(&self, limit: Duration) {
        if send_signal(&self.pidfd, Signal::KILL).is_ok() {
            wait_exit(&self.pidfd, limit);
        }
    }

    /// Waits for its end, and after `patience` kills it and waits at most `limit` more.
    pub(super) fn end_within(&self, patience: Duration, limit: Duration) {
        if !wait_exit(&self.pidfd, patience) {
            self.kill(limit);
        }
    }

    /// Waits until it has ended. Cancellation safe.
    pub(super) async fn ended(self) {
        // SAFETY: the descriptor is owned by the registration and closed with it.
        let watched = unsafe { AsyncFd::register_with_interest(self.pidfd, Interest::READABLE) };
        match watched {
            // An error of the reactor would be told by the next call too; waiting goes on there.
            Ok(watched) => drop(watched.readable().await),
            Err(_) => tokio::time::sleep(super::PAUSE).await,
        }
    }
}
