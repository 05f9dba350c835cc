//! A process that cannot be confused with a later one of the same number.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// Most bytes read of `/proc/PID/stat`; a line of it is at most about 400.
const STAT_LIMIT: usize = 4096;

/// The facts about a process could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file below /proc could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file below /proc does not look as it should.
    #[error("{path} has an unknown form")]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The process could not be opened.
    #[error("cannot open process {pid}")]
    Open {
        /// Its number.
        pid: i32,
        /// Why.
        source: io::Error,
    },
}

/// A process by number, start time and boot: numbers are used again, the three together are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number in this process's pid namespace.
    pub pid: i32,
    /// Clock ticks from boot to its start.
    pub start_time: u64,
    /// Which boot of the kernel.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The identity of the process that has `pid` now; `None` if there is none.
    pub fn of(pid: i32) -> Result<Option<Self>, IdentityError> {
        let Some(start_time) = process_start_time(pid)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            pid,
            start_time,
            boot_id: boot_id()?,
        }))
    }

    /// A descriptor of exactly this process; `None` if it is gone. A process that has ended and
    /// was not reaped yet is still opened, and its descriptor is readable at once.
    pub fn open(&self) -> Result<Option<OwnedFd>, IdentityError> {
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(error) => {
                return Err(IdentityError::Open {
                    pid: self.pid,
                    source: error.into(),
                });
            }
        };
        // The time is read after the descriptor was opened: if it is the right one, no other
        // process can have had the number in between.
        let same = process_start_time(self.pid)? == Some(self.start_time);
        Ok(same.then_some(pidfd))
    }

    /// Whether the process runs: not ended, not a zombie.
    pub fn is_alive(&self) -> Result<bool, IdentityError> {
        let Some(pidfd) = self.open()? else {
            return Ok(false);
        };
        Ok(!wait_exit(&pidfd, Duration::ZERO))
    }
}

/// Waits until the process of `pidfd` has ended, at most `timeout`; true if it has.
pub fn wait_exit(pidfd: impl AsFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap_or(Timespec {
        tv_sec: i64::from(i32::MAX),
        tv_nsec: 0,
    });
    loop {
        let mut set = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut set, Some(&timeout)) {
            Err(Errno::INTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return false,
        }
    }
}

/// Sends `signal` to the process of `pidfd`. That it has ended already is success.
pub fn send_signal(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The kernel's id of this boot.
pub fn boot_id() -> Result<String, IdentityError> {
    // No process outlives a boot.
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(KNOWN.get_or_init(|| text.trim().to_owned()).clone()),
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

/// Clock ticks from boot to the start of process `pid`; `None` if there is no such process.
pub fn process_start_time(pid: i32) -> Result<Option<u64>, IdentityError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(source) => return Err(IdentityError::Read { path, source }),
    };
    match parse_start_time(&text[..text.len().min(STAT_LIMIT)]) {
        Some(time) => Ok(Some(time)),
        None => Err(IdentityError::Form { path }),
    }
}

/// Field 22 of a stat line. The name in field 2 may hold spaces and parentheses, so fields are
/// counted from the last closing one.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    const FIELDS_AFTER_NAME: usize = 19;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace()
        .nth(FIELDS_AFTER_NAME)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{ProcessIdentity, parse_start_time, send_signal, wait_exit};
    use crate::command;
    use rustix::process::Signal;
    use std::time::Duration;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = b"7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 98 97";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time(b"7 (short) S 1"), None);
    }

    #[test]
    fn a_process_is_known_again_and_its_end_is_seen() {
        let mut child = command("sleep").arg("60").spawn().expect("sleep runs");
        let pid = i32::try_from(child.id()).expect("a pid");
        let identity = ProcessIdentity::of(pid).expect("read").expect("there");
        assert!(identity.is_alive().expect("asked"));
        let other = ProcessIdentity {
            start_time: identity.start_time + 1,
            ..identity.clone()
        };
        assert!(
            !other.is_alive().expect("asked"),
            "another process of that number"
        );
        let pidfd = identity.open().expect("asked").expect("alive");
        assert!(!wait_exit(&pidfd, Duration::ZERO));
        send_signal(&pidfd, Signal::KILL).expect("sent");
        assert!(wait_exit(&pidfd, Duration::from_secs(10)));
        assert!(
            !identity.is_alive().expect("asked"),
            "a zombie does not live"
        );
        child.wait().expect("reaped");
        assert!(identity.open().expect("asked").is_none());
    }
}
