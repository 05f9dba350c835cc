//! Short work in a user namespace, by children that are no containers: a trial whether the kernel
//! lets this user make containers at all, one whether such a container can be connected, and the
//! removal of files that belong to lent ids.

use super::child::{self, close_others};
use super::keeper::{self, DONE, Kept};
use super::maps::write_own;
use crate::chain::chain;
use crate::identity::{Command, Identity, Lent};
use crate::kernel::{Cloned, clone_process, close_range, exit_now, reset_signals};
use crate::message::{Failure, Outcome};
use crate::network::UserWay;
use engine_api::UidRange;
use process::{remove_tree, send_signal};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest reason that a child tells, in bytes.
const REASON_LIMIT: usize = 1_000;
/// How long a trial may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);
/// The command's ids where no guest's configuration says others.
const USUAL: Command = Command {
    uid: UidRange::COMMAND,
    gid: UidRange::COMMAND,
};

/// A child at work.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) id: u64,
    /// Closed when it has ended; before that comes how it went.
    pub(super) result: OwnedFd,
    pub(super) deadline: Option<Instant>,
    act: String,
    pidfd: OwnedFd,
    /// A child that only waits ends when this is closed.
    hold: Option<OwnedFd>,
}

impl Helper {
    /// Tries what a container of this identity needs: namespaces, id maps, mounts.
    pub(super) fn trial(id: u64, identity: &Identity) -> Result<Self, Failure> {
        let namespaces = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWNET;
        let lent = lent(identity);
        let helper = Self::begin(
            id,
            namespaces,
            lent,
            "make a container's namespaces",
            || child::attempt().map_err(|(act, error)| format!("{act}: {error}")),
        )?;
        let deadline = Some(Instant::now() + TRIAL_LIMIT);
        Ok(Self { deadline, ..helper })
    }

    /// Removes a tree whatever lent ids its files belong to. It takes as long as it takes.
    pub(super) fn removal(id: u64, identity: &Identity, path: &Path) -> Result<Self, Failure> {
        let act = format!("remove {}", path.display());
        Self::begin(id, libc::CLONE_NEWUSER, lent(identity), &act, || {
            remove_tree(path).map_err(|error| chain(&error))
        })
    }

    /// Tries to connect the network of a container that does nothing else.
    pub(super) fn connection(id: u64, identity: &Identity, way: &UserWay) -> Result<Self, Failure> {
        let failed = |act: &str| {
            let act = act.to_owned();
            move |error: rustix::io::Errno| Failure::act(act, io::Error::from(error))
        };
        let (wait, hold) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"))?;
        let flags = u64::from((libc::CLONE_NEWUSER | libc::CLONE_NEWNET).cast_unsigned());
        // SAFETY: the launcher has one thread, and the child's branch never returns.
        let cloned = unsafe { clone_process(flags, None) };
        let Some(Cloned { pid, pidfd }) = cloned.map_err(failed("make a network"))? else {
            reset_signals();
            close_others(&[wait.as_raw_fd().cast_unsigned()]);
            let _ = rustix::io::read(&wait, &mut [0]);
            exit_now(0)
        };
        write_own(pid, lent(identity), USUAL)?;
        let result = keeper::begin(&Kept {
            pid,
            process: &pidfd,
            sync: None,
            note: None,
            name: "a trial".to_owned(),
            way,
        })?;
        Ok(Self {
            id,
            result,
            // The keeper has a limit of its own, and says more.
            deadline: Some(Instant::now() + 2 * TRIAL_LIMIT),
            act: "connect a container's network".to_owned(),
            pidfd,
            hold: Some(hold),
        })
    }

    fn begin(
        id: u64,
        namespaces: i32,
        lent: Option<&Lent>,
        act: &str,
        work: impl FnOnce() -> Result<(), String>,
    ) -> Result<Self, Failure> {
        let pipe = || {
            pipe_with(PipeFlags::CLOEXEC)
                .map_err(|error| Failure::act("make a pipe", io::Error::from(error)))
        };
        let ((go_read, go), (result, result_write)) = (pipe()?, pipe()?);
        let flags = u64::from(namespaces.cast_unsigned());
        // SAFETY: the launcher has one thread, and the child's branch never returns.
        let cloned = unsafe { clone_process(flags, None) };
        let cloned = cloned.map_err(|e| Failure::act("make a user namespace", io::Error::from(e)));
        let Some(Cloned { pid, pidfd }) = cloned? else {
            drop((go, result));
            serve(&go_read, &result_write, work)
        };
        drop((go_read, result_write));
        let helper = Self {
            id,
            result,
            deadline: None,
            act: act.to_owned(),
            pidfd,
            hold: None,
        };
        let let_go = write_own(pid, lent, USUAL).and_then(|()| {
            rustix::io::write(&go, b"1")
                .map(drop)
                .map_err(|error| Failure::act("let a child go on", io::Error::from(error)))
        });
        // Without a word it ends by itself, and is reaped as any child.
        let_go.map(|()| helper)
    }

    /// How it went; to be asked when its pipe is readable, which it is at its end.
    pub(super) fn outcome(self) -> Outcome {
        drop(self.hold);
        let mut told = Vec::new();
        let mut pipe = File::from(self.result).take(u64::try_from(REASON_LIMIT).unwrap_or(0));
        match pipe.read_to_end(&mut told) {
            Ok(_) if told == DONE => Outcome::Done,
            Ok(0) | Err(_) => Outcome::Failed(Failure::act(self.act, "it ended without a word")),
            Ok(_) => {
                let reason = String::from_utf8_lossy(&told).into_owned();
                Outcome::Failed(Failure::act(self.act, reason))
            }
        }
    }

    /// It takes too long.
    pub(super) fn give_up(&self) -> Outcome {
        let _ = send_signal(&self.pidfd, Signal::KILL);
        Outcome::Failed(Failure::act(self.act.clone(), "it took too long"))
    }
}

fn lent(identity: &Identity) -> Option<&Lent> {
    match identity {
        Identity::Lent(lent) => Some(lent),
        Identity::Range | Identity::Single => None,
    }
}

/// The child's life. It is a copy of the launcher, which had one thread, so it may do anything.
fn serve(go: &OwnedFd, result: &OwnedFd, work: impl FnOnce() -> Result<(), String>) -> ! {
    reset_signals();
    // A pipe of a container that starts would be kept open.
    let [low, high] = [go.as_raw_fd(), result.as_raw_fd()].map(i32::cast_unsigned);
    let (low, high) = (low.min(high), low.max(high));
    close_range(3, low - 1);
    if low + 1 < high {
        close_range(low + 1, high - 1);
    }
    close_range(high + 1, u32::MAX);
    // End of file: the launcher died, or could not write the maps.
    if !matches!(rustix::io::read(go, &mut [0]), Ok(1)) {
        exit_now(1)
    }
    let told = match work() {
        Ok(()) => DONE.to_vec(),
        Err(reason) => reason.bytes().take(REASON_LIMIT).collect(),
    };
    // If nobody reads it, there is nobody to tell.
    let _ = rustix::io::write(result, &told);
    exit_now(0)
}
