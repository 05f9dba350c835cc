//! The program `pasta` beside a keeper: started in the node's network, where the keeper itself will
//! not be.
//!
//! A start of it may fail and the next one not: its handler for ended children changes `errno`
//! between one of its calls and the look at what went wrong (releases up to 2024 at least), and it
//! gives up, with its device and route made already. So it counts as started once it has written its
//! number, which is after that, and others wait to take its place until then.

use super::child::close_others;
use super::keeper::{during, wait};
use super::keeper_rights::for_pasta;
use crate::kernel::{Cloned, clone_process, exit_now};
use crate::network::UserWay;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Instant;

/// How often a start is tried.
const TRIES: usize = 3;
/// Longest of its words that are told, in bytes.
const WORDS_LIMIT: usize = 1_000;
/// Where it writes its number: into its standard output, which it has no other use for.
const NUMBER_FILE: &str = "/proc/self/fd/1";

/// One that runs.
#[derive(Debug)]
pub(super) struct Pasta {
    /// Readable once it has ended.
    pub(super) process: OwnedFd,
    /// What it says, which is little.
    pub(super) words: OwnedFd,
}

/// Children that become `pasta` when they are told to, one at a time.
pub(super) struct Waiting(Vec<Child>);

struct Child {
    pasta: Pasta,
    /// A byte lets it go; an end of file ends it.
    let_go: OwnedFd,
    /// Where it writes its number when it has started.
    number: OwnedFd,
}

/// Why one has not started.
enum NotStarted {
    /// The next one may.
    Ended(String),
    Other(String),
}

impl Waiting {
    /// Forks them, for the network of this process as others see it.
    pub(super) fn fork(way: &UserWay, network_of: i32) -> Result<Self, String> {
        let children = (0..TRIES).map(|_| Child::fork(way, network_of));
        Ok(Self(children.collect::<Result<_, _>>()?))
    }

    /// Starts one, and ends the others.
    pub(super) fn start(self, deadline: Instant) -> Result<Pasta, String> {
        let mut started = Err("no try was made".to_owned());
        for child in self.0 {
            if started.is_ok() {
                child.end();
                continue;
            }
            started = match child.start(deadline) {
                Ok(pasta) => Ok(pasta),
                Err(NotStarted::Ended(reason)) => Err(reason),
                Err(NotStarted::Other(reason)) => return Err(reason),
            };
        }
        started
    }
}

impl Child {
    fn fork(way: &UserWay, network_of: i32) -> Result<Self, String> {
        let pipe = |flags| pipe_with(flags | PipeFlags::CLOEXEC).map_err(during("make a pipe"));
        let (go, let_go) = pipe(PipeFlags::empty())?;
        let (words, say) = pipe(PipeFlags::NONBLOCK)?;
        let (number, write_number) = pipe(PipeFlags::NONBLOCK)?;
        // SAFETY: this process has one thread, and the child's branch never returns.
        let cloned = unsafe { clone_process(0, None) }.map_err(during("fork pasta"))?;
        if let Some(Cloned { pidfd, .. }) = cloned {
            let pasta = Pasta {
                process: pidfd,
                words,
            };
            return Ok(Self {
                pasta,
                let_go,
                number,
            });
        }
        let mut open = [&go, &say, &write_number].map(|end| end.as_raw_fd().cast_unsigned());
        open.sort_unstable();
        // What lets the others go is not this one's to hold.
        close_others(&open);
        if !matches!(rustix::io::read(&go, &mut [0]), Ok(1)) {
            exit_now(1)
        }
        become_pasta(way, network_of, say, write_number)
    }

    fn start(self, deadline: Instant) -> Result<Pasta, NotStarted> {
        let told = rustix::io::write(&self.let_go, b"1").map_err(during("start pasta"));
        told.map_err(NotStarted::Other)?;
        let mut number = Some(&self.number);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason = "pasta did not start in time".to_owned();
                return Err(NotStarted::Other(reason));
            }
            let process = &self.pasta.process;
            let [ended, _] =
                wait([process, number.unwrap_or(process)], left).map_err(NotStarted::Other)?;
            if ended {
                reap(&self.pasta.process);
                return Err(NotStarted::Ended(self.pasta.last_words()));
            }
            match number.map(|number| rustix::io::read(number, &mut [0])) {
                Some(Ok(1)) => return Ok(self.pasta),
                // End of file: it is about to end.
                Some(Ok(_)) => number = None,
                Some(Err(_)) | None => {}
            }
        }
    }

    /// Before it was started.
    fn end(self) {
        drop(self.let_go);
        reap(&self.pasta.process);
    }
}

impl Pasta {
    /// How it ended that has.
    pub(super) fn last_words(&self) -> String {
        let mut bytes = [0; WORDS_LIMIT];
        let count = rustix::io::read(&self.words, &mut bytes).unwrap_or(0);
        let words = String::from_utf8_lossy(&bytes[..count]).into_owned();
        // It complains of a system log that is not there, to nobody's use.
        let lines = words.lines().map(str::trim);
        let lines: Vec<&str> = lines
            .filter(|line| !line.is_empty() && !line.ends_with("to syslog"))
            .collect();
        match lines.as_slice() {
            [] => "pasta ended without a word".to_owned(),
            lines => format!("pasta ended: {}", lines.join("; ")),
        }
    }
}

/// Waits for one that ends.
fn reap(process: &OwnedFd) {
    let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
}

fn become_pasta(way: &UserWay, network_of: i32, say: OwnedFd, write_number: OwnedFd) -> ! {
    let error = match for_pasta() {
        Ok(()) => process::command(&way.program)
            .args(&way.arguments)
            .args(["--pid", NUMBER_FILE, "--netns"])
            .arg(format!("/proc/{network_of}/ns/net"))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::from(write_number))
            .stderr(Stdio::from(say))
            .exec(),
        Err(error) => error.into(),
    };
    let _ = writeln!(io::stderr(), "pasta cannot be run: {error}");
    exit_now(1)
}
