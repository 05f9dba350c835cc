//! Starting a command: its pipes or its terminal, the fork, and what its child tells of a failed
//! start.

use crate::execute::execute;
use crate::inheritance::FIRST;
use crate::terminal;
use domain::{ExitCause, ExitHow, TerminalSize};
use guest_api::GuestConfig;
use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::{Errno, fcntl_dupfd_cloexec, ioctl_fionbio, read, retry_on_intr, write},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use std::os::fd::OwnedFd;

/// Most bytes of a reason that a child can tell.
pub(crate) const REASON_LIMIT: usize = 4096;
/// What a child exits with that could not become the command; its reason says more.
const CHILD_FAILED: i32 = 127;

/// A process that is about to become a command, or has.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its process, which leads a session and a process group of its own.
    pub(crate) pid: Pid,
    /// Our ends.
    pub(crate) streams: Streams,
}

/// Our ends of a command's streams; none of them blocks.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Where its input goes.
    pub(crate) stdin: Option<OwnedFd>,
    /// Where its output comes from, if anybody reads it.
    pub(crate) stdout: Option<OwnedFd>,
    /// Where its errors come from, unless they are merged into the output.
    pub(crate) stderr: Option<OwnedFd>,
    /// Its terminal, if it has one; input and output are copies of it.
    pub(crate) terminal: Option<OwnedFd>,
}

/// What becomes of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// We read it.
    Read,
    /// It is thrown away.
    Nowhere,
}

/// A command that could not be started, and how that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotStarted {
    /// No such program.
    NotFound,
    /// There is one, and it cannot be run.
    NotRunnable(String),
    /// The child could not be made what the command should be.
    SetUp(String),
}

impl NotStarted {
    /// How it is recorded.
    pub(crate) fn into_record(self, program: String) -> (ExitHow, ExitCause) {
        match self {
            Self::NotFound => (ExitHow::NotFound { program }, ExitCause::Own),
            Self::NotRunnable(reason) => (ExitHow::NotRunnable { program, reason }, ExitCause::Own),
            Self::SetUp(reason) => (ExitHow::NeverRan { reason }, ExitCause::StartFailed),
        }
    }

    /// As a child writes it into the report pipe.
    fn encode(&self) -> Vec<u8> {
        let (kind, reason) = match self {
            Self::NotFound => (b'F', ""),
            Self::NotRunnable(reason) => (b'R', reason.as_str()),
            Self::SetUp(reason) => (b'S', reason.as_str()),
        };
        let mut report = vec![kind];
        report.extend(reason.bytes().take(REASON_LIMIT));
        report
    }

    /// What a child wrote; `None` if that is nothing.
    pub(crate) fn decode(report: &[u8]) -> Option<Self> {
        let (kind, reason) = report.split_first()?;
        let reason = String::from_utf8_lossy(reason).into_owned();
        Some(match kind {
            b'F' => Self::NotFound,
            b'R' => Self::NotRunnable(reason),
            _ => Self::SetUp(reason),
        })
    }
}

/// The child's ends.
struct ChildEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Starts the command, and returns once its program runs.
pub(crate) fn start_command(config: &GuestConfig) -> Result<Started, NotStarted> {
    let (started, report) = begin_command(config, Output::Read)?;
    if let Some(failure) = NotStarted::decode(&read_report(&report)) {
        let _ = retry_on_intr(|| waitpid(Some(started.pid), WaitOptions::empty()));
        return Err(failure);
    }
    Ok(started)
}

/// Begins to start a command. The pipe closes when its program runs; what it holds before that
/// is why it does not ([`NotStarted::decode`]).
pub(crate) fn begin_command(
    config: &GuestConfig,
    output: Output,
) -> Result<(Started, OwnedFd), NotStarted> {
    let (streams, ends) = match config.terminal {
        Some(size) => terminal_streams(config, size).map_err(set_up("making a terminal"))?,
        None => piped_streams(config, output)?,
    };
    let (report, report_write) = pipe_with(PipeFlags::CLOEXEC).map_err(set_up("making a pipe"))?;
    // SAFETY: the guest has one thread, so the child may do whatever the parent could.
    let pid = match unsafe { libc::fork() } {
        0 => child(config, &ends, &report_write),
        -1 => {
            let error = std::io::Error::last_os_error();
            return Err(NotStarted::SetUp(format!("making a process: {error}")));
        }
        pid => Pid::from_raw(pid).expect("fork returns a process id"),
    };
    Ok((Started { pid, streams }, report))
}

fn set_up(act: &str) -> impl Fn(Errno) -> NotStarted {
    move |error| NotStarted::SetUp(format!("{act}: {error}"))
}

fn terminal_streams(
    config: &GuestConfig,
    size: TerminalSize,
) -> Result<(Streams, ChildEnds), Errno> {
    let pair = terminal::open(size, &config.run_as)?;
    let copy = |of: &OwnedFd| fcntl_dupfd_cloexec(of, FIRST);
    let ends = ChildEnds {
        stdin: copy(&pair.slave)?,
        stdout: copy(&pair.slave)?,
        stderr: pair.slave,
    };
    let streams = Streams {
        stdin: Some(copy(&pair.master)?),
        stdout: Some(copy(&pair.master)?),
        stderr: None,
        terminal: Some(pair.master),
    };
    Ok((streams, ends))
}

fn piped_streams(config: &GuestConfig, output: Output) -> Result<(Streams, ChildEnds), NotStarted> {
    let (stdin_read, stdin) = stdin_ends(config).map_err(set_up("making the input"))?;
    let failed = set_up("making the output");
    let copy = |of: &OwnedFd| fcntl_dupfd_cloexec(of, FIRST);
    let (stdout, stdout_write) = match output {
        Output::Read => output_ends(config).map(|(read, write)| (Some(read), write)),
        Output::Nowhere => null(OFlags::WRONLY).map(|null| (None, null)),
    }
    .map_err(&failed)?;
    let (stderr, stderr_write) = if config.merge_output || output == Output::Nowhere {
        (None, copy(&stdout_write).map_err(&failed)?)
    } else {
        let (read, write) = output_ends(config).map_err(&failed)?;
        (Some(read), write)
    };
    let streams = Streams {
        stdin,
        stdout,
        stderr,
        terminal: None,
    };
    let ends = ChildEnds {
        stdin: stdin_read,
        stdout: stdout_write,
        stderr: stderr_write,
    };
    Ok((streams, ends))
}

/// Everything until the pipe closes, which it does when the program runs or the child is dead.
fn read_report(report: &OwnedFd) -> Vec<u8> {
    let mut all = vec![0; REASON_LIMIT + 1];
    let mut length = 0;
    while length < all.len() {
        match retry_on_intr(|| read(report, &mut all[length..])) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    all.truncate(length);
    all
}

fn stdin_ends(config: &GuestConfig) -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    if !config.stdin_pipe {
        // A pipe without a writer is as empty, where an image has no such device.
        let null = null(OFlags::RDONLY)
            .or_else(|_| pipe_with(PipeFlags::CLOEXEC).map(|(read, _)| read))?;
        return Ok((null, None));
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&write, true)?;
    give(&read, config);
    Ok((read, Some(write)))
}

fn null(flags: OFlags) -> Result<OwnedFd, Errno> {
    open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty())
}

fn output_ends(config: &GuestConfig) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&read, true)?;
    give(&write, config);
    Ok((read, write))
}

/// Makes the command the owner of a pipe, so that it can open `/dev/stdout` and its kin.
fn give(pipe: &OwnedFd, config: &GuestConfig) {
    let (uid, gid) = (config.run_as.uid, config.run_as.gid);
    if uid != u32::MAX && gid != u32::MAX {
        // Without the right to do so the command still can use what it inherits.
        let _ = fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}

/// The child's life: become the command, or say why not.
fn child(config: &GuestConfig, ends: &ChildEnds, report: &OwnedFd) -> ! {
    let failure = dup2_stdin(&ends.stdin)
        .and_then(|()| dup2_stdout(&ends.stdout))
        .and_then(|()| dup2_stderr(&ends.stderr))
        .map_or_else(
            |error| NotStarted::SetUp(format!("placing the streams: {error}")),
            |()| execute(config),
        );
    let _ = retry_on_intr(|| write(report, &failure.encode()));
    // SAFETY: ends this process at once, without running anything of the parent's.
    unsafe { libc::_exit(CHILD_FAILED) }
}

#[cfg(test)]
mod tests {
    use super::{NotStarted, REASON_LIMIT};

    #[test]
    fn a_reason_survives_the_pipe() {
        for failure in [
            NotStarted::NotFound,
            NotStarted::NotRunnable("why".to_owned()),
            NotStarted::SetUp(String::new()),
        ] {
            assert_eq!(NotStarted::decode(&failure.encode()), Some(failure));
        }
        assert_eq!(NotStarted::decode(&[]), None);
        let long = NotStarted::NotRunnable("x".repeat(10 * REASON_LIMIT));
        assert_eq!(long.encode().len(), REASON_LIMIT + 1);
    }
}
