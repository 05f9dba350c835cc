//! The program `pasta` beside a keeper: started in the node's network, where the keeper itself will
//! not be.
//!
//! A start of it may fail and the next one not: in older releases its handler for ended children
//! changes `errno` between a call and the look at what went wrong, and it gives up, maybe after it
//! made its device and route. So others wait to take its place until it carries something.

use super::rights::for_pasta;
use super::way_out::{Carrier, WayOut};
use super::{close_all_but, during};
use crate::kernel::{Cloned, clone_process, exit_now};
use crate::network::UserWay;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Instant;

/// How often a start is tried.
const TRIES: usize = 3;
/// Longest of its words that are told, in bytes.
const WORDS_LIMIT: usize = 900;

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
    /// A byte lets it go.
    let_go: OwnedFd,
}

impl Waiting {
    /// Forks them, for the network of the process `network_of`, as others number it.
    pub(super) fn fork(way: &UserWay, network_of: i32) -> Result<Self, String> {
        let mut children = vec![Child::fork(way, network_of)?];
        let others = (1..TRIES).map_while(|_| Child::fork(way, network_of).ok());
        children.extend(others);
        Ok(Self(children))
    }

    /// Ends all but one, for a user who may not have more processes.
    pub(super) fn keep_one(&mut self) {
        self.0.drain(1..).for_each(Child::end);
    }

    /// Starts one after the other until one carries what is sent by `way_out`, and ends the others.
    /// What failed before is told in the site's log, as the network of `name`.
    pub(super) fn start(
        self,
        way_out: &mut WayOut,
        deadline: Instant,
        name: &str,
    ) -> Result<Pasta, String> {
        let mut failures: Vec<String> = Vec::new();
        let mut children = self.0.into_iter();
        for child in children.by_ref() {
            let state = if child.let_go()? {
                way_out.watch(&child.pasta.process, deadline)?
            } else {
                Carrier::Ended
            };
            match state {
                Carrier::Carries => {
                    children.for_each(Child::end);
                    for failure in &failures {
                        let said =
                            format!("the network of {name}: {failure}; it was started again");
                        let _ = writeln!(io::stderr(), "{said}");
                    }
                    return Ok(child.pasta);
                }
                Carrier::Ended => {
                    failures.push(child.pasta.last_words());
                    child.end();
                }
                Carrier::Late(refusal) => {
                    let refusal = refusal.map(|refusal| format!(": {refusal}"));
                    let refusal = refusal.unwrap_or_default();
                    failures.push(format!("pasta made no way out in time{refusal}"));
                    // The keeper ends now, and everything with it.
                    break;
                }
            }
        }
        failures.dedup();
        Err(failures.join("; "))
    }
}

impl Child {
    fn fork(way: &UserWay, network_of: i32) -> Result<Self, String> {
        let (go, let_go) = pipe_with(PipeFlags::CLOEXEC).map_err(during("make a pipe"))?;
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (words, say) = pipe_with(flags).map_err(during("make a pipe"))?;
        // SAFETY: this process has one thread, and the child's branch never returns.
        let cloned = unsafe { clone_process(0, None) }.map_err(during("fork pasta"))?;
        let Some(Cloned { pidfd, .. }) = cloned else {
            // What lets the others go is not this one's to hold.
            close_all_but([go.as_fd(), say.as_fd()]);
            become_pasta(way, network_of, &go, say)
        };
        let process = pidfd;
        let pasta = Pasta { process, words };
        Ok(Self { pasta, let_go })
    }

    /// False if it has ended.
    fn let_go(&self) -> Result<bool, String> {
        // The first of a pid namespace is not ended by the signal that comes with it.
        match rustix::io::write(&self.let_go, b"1") {
            Ok(_) => Ok(true),
            Err(Errno::PIPE) => Ok(false),
            Err(error) => Err(during("start pasta")(error)),
        }
    }

    /// Whatever it does.
    fn end(self) {
        // One that has ended already needs none.
        let _ = pidfd_send_signal(&self.pasta.process, Signal::KILL);
        let process = WaitId::PidFd(self.pasta.process.as_fd());
        let _ = waitid(process, WaitIdOptions::EXITED);
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

/// Once it is let go; until then it can do what `pasta` can, and does nothing.
fn become_pasta(way: &UserWay, network_of: i32, go: &OwnedFd, say: OwnedFd) -> ! {
    let rights = for_pasta();
    if !matches!(rustix::io::read(go, &mut [0]), Ok(1)) {
        exit_now(1)
    }
    let error = match rights {
        Ok(()) => process::command(&way.program)
            .args(&way.arguments)
            .arg("--netns")
            .arg(format!("/proc/{network_of}/ns/net"))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(say))
            .exec(),
        Err(error) => error.into(),
    };
    let _ = writeln!(io::stderr(), "pasta cannot be run: {error}");
    exit_now(1)
}
