//! How a session ended, in words and in codes.

use crate::duration::Span;
use crate::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The signal that nothing survives.
const SIGKILL: i32 = 9;

/// The end of a session; it never changes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The command exited with 0.
    Succeeded,
    /// The command did not, or could not run.
    Failed {
        /// Why.
        cause: Cause,
    },
    /// Stopped while it ran.
    Stopped {
        /// Who asked: a user's name, or `retention`, `operator`.
        by: String,
        /// The signal that ended the command, if it did not exit by itself.
        #[serde(default)]
        signal: Option<i32>,
    },
    /// Stopped before it ran.
    Cancelled {
        /// Who asked.
        by: String,
        /// What it waited for did not end as it had to, so that nobody had to ask.
        #[serde(default)]
        dependency: Option<FailedDependency>,
    },
    /// A time limit ended it.
    Expired {
        /// The limit.
        limit: Span,
    },
    /// Its node is gone for good.
    Lost {
        /// The node.
        node: NodeId,
    },
}

/// What a session waited for that did not end as it had to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedDependency {
    /// The name of what ended otherwise.
    pub name: String,
    /// How, as the outcome's word.
    pub outcome: String,
}

/// Why a session failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Cause {
    /// The command exited with a code that is not 0.
    ExitCode {
        /// 1 to 255.
        exit_code: u8,
    },
    /// A signal ended the command.
    Signal {
        /// Its number.
        signal: i32,
        /// The kernel wrote a core dump, or would have.
        core_dumped: bool,
    },
    /// The kernel ended a process of the session because its memory limit was reached.
    OutOfMemory {
        /// The limit, in bytes.
        limit_bytes: u64,
        /// The most that was used, in bytes, where the kernel tells.
        peak_bytes: Option<u64>,
        /// The process that was ended, where known.
        process: Option<String>,
    },
    /// The kernel ended a process of the session because its node ran out of memory, or a control
    /// group above the session's; its own limit was not reached.
    NodeOutOfMemory {
        /// The session's own limit on that node, in bytes.
        limit_bytes: u64,
        /// The most that it used, in bytes, where the kernel tells.
        peak_bytes: Option<u64>,
    },
    /// The command was not found inside.
    CommandNotFound {
        /// The program's name.
        program: String,
    },
    /// The command was found and could not be run.
    CommandNotRunnable {
        /// The program's name.
        program: String,
        /// What the kernel said.
        reason: String,
    },
    /// The container could not be prepared.
    PrepareFailed {
        /// What went wrong, as a whole chain.
        reason: String,
    },
    /// The container could not be started.
    StartFailed {
        /// What went wrong, as a whole chain.
        reason: String,
    },
    /// A state did not end by its deadline.
    DeadlineMissed {
        /// The state.
        state: String,
        /// The deadline.
        after: Span,
    },
    /// The guest died without writing a record: it was killed from outside, or by the kernel.
    GuestDied,
    /// It had more on a node's disk than its limit; or that disk was nearly full and the session
    /// had written the most.
    DiskLimit {
        /// What its member on that node had on disk, in bytes, where the node told.
        #[serde(default)]
        used_bytes: Option<u64>,
        /// The session's own limit, in bytes, if that is what ended it.
        #[serde(default)]
        limit_bytes: Option<u64>,
    },
    /// The command exited with 0, and what it wrote to its own file system could not all be kept:
    /// its node's disk was full, or failed.
    FilesIncomplete,
}

impl Outcome {
    /// The exit code of a foreground `run`: the command's own, 124 for a time limit, 125 where
    /// Insula failed, 126 and 127 for a command that cannot run or is not found, 137 for out of
    /// memory, 128 + n for a signal, also where it was sent to stop the command; 123 where what it
    /// waited for did not end as it had to, 130 where somebody cancelled it, and 143 for a command
    /// that exited because it was stopped.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed { cause } => cause.exit_code(),
            Self::Stopped { signal, .. } => signal.map_or(143, signal_code),
            Self::Cancelled {
                dependency: Some(_),
                ..
            } => 123,
            Self::Cancelled {
                dependency: None, ..
            } => 130,
            Self::Expired { .. } => 124,
            Self::Lost { .. } => 125,
        }
    }

    /// One word for lists: `succeeded`, `failed`, `stopped`, `cancelled`, `expired`, `lost`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Stopped { .. } => "stopped",
            Self::Cancelled { .. } => "cancelled",
            Self::Expired { .. } => "expired",
            Self::Lost { .. } => "lost",
        }
    }
}

impl Cause {
    /// See [`Outcome::exit_code`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ExitCode { exit_code } => *exit_code,
            Self::Signal { signal, .. } => signal_code(*signal),
            Self::OutOfMemory { .. } | Self::NodeOutOfMemory { .. } => 137,
            Self::CommandNotFound { .. } => 127,
            Self::CommandNotRunnable { .. } => 126,
            Self::PrepareFailed { .. }
            | Self::StartFailed { .. }
            | Self::DeadlineMissed { .. }
            | Self::GuestDied
            | Self::DiskLimit { .. }
            | Self::FilesIncomplete => 125,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => out.write_str("the command exited with 0"),
            Self::Failed { cause } => cause.fmt(out),
            Self::Stopped {
                by,
                signal: Some(SIGKILL),
            } => write!(out, "stopped by {by}; SIGKILL ended it"),
            Self::Stopped { by, .. } => write!(out, "stopped by {by}"),
            Self::Cancelled {
                dependency: Some(FailedDependency { name, outcome }),
                ..
            } => write!(
                out,
                "cancelled before it ran: `{name}`, for whose success it waited, ended as {outcome}"
            ),
            Self::Cancelled { by, .. } => write!(out, "cancelled by {by} before it ran"),
            Self::Expired { limit } => write!(out, "the time limit of {limit} ended it"),
            Self::Lost { node } => write!(out, "its node {node} is gone"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitCode { exit_code } => write!(out, "the command exited with {exit_code}"),
            Self::Signal {
                signal,
                core_dumped,
            } => {
                let core = if *core_dumped { ", core dumped" } else { "" };
                write!(
                    out,
                    "signal {signal}{} ended the command{core}",
                    signal_name(*signal)
                )
            }
            Self::OutOfMemory {
                limit_bytes,
                peak_bytes,
                process,
            } => {
                let limit = crate::amounts::show_bytes((*limit_bytes).into());
                write!(out, "out of memory: the limit is {limit}")?;
                if let Some(peak) = peak_bytes {
                    write!(
                        out,
                        ", the peak was {}",
                        crate::amounts::show_bytes((*peak).into())
                    )?;
                }
                if let Some(process) = process {
                    write!(out, "; the kernel ended `{process}`")?;
                }
                Ok(())
            }
            Self::NodeOutOfMemory {
                limit_bytes,
                peak_bytes,
            } => out.write_str(&node_ran_out(*limit_bytes, *peak_bytes)),
            Self::CommandNotFound { program } => write!(out, "`{program}` was not found inside"),
            Self::CommandNotRunnable { program, reason } => {
                write!(out, "`{program}` could not be run: {reason}")
            }
            Self::PrepareFailed { reason } => write!(out, "preparing failed: {reason}"),
            Self::StartFailed { reason } => write!(out, "starting failed: {reason}"),
            Self::DeadlineMissed { state, after } => {
                write!(out, "it was {state} for longer than {after}")
            }
            Self::GuestDied => out.write_str("the guest was killed from outside"),
            Self::FilesIncomplete => out.write_str(
                "its files may be incomplete: its node's disk had no room for all it wrote, or failed",
            ),
            Self::DiskLimit {
                used_bytes,
                limit_bytes,
            } => {
                match limit_bytes {
                    Some(limit) => {
                        let limit = crate::amounts::show_bytes((*limit).into());
                        write!(out, "disk limit: the limit is {limit}")?;
                    }
                    None => out.write_str("disk limit: its node's disk was nearly full")?,
                }
                match used_bytes {
                    Some(used) => {
                        let used = crate::amounts::show_bytes((*used).into());
                        write!(out, ", and it had {used} there")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

fn node_ran_out(limit_bytes: u64, peak_bytes: Option<u64>) -> String {
    let shown = |bytes: u64| crate::amounts::show_bytes(bytes.into());
    let peak = peak_bytes.map(|peak| format!("it used at most {}, ", shown(peak)));
    format!(
        "its node ran out of memory: {}its own limit of {} was not reached",
        peak.unwrap_or_default(),
        shown(limit_bytes)
    )
}

/// What a shell makes of a command that a signal ended.
fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(255)
}

/// ` (SIGTERM)` and its kin, empty for a number without a common name.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        10 => " (SIGUSR1)",
        11 => " (SIGSEGV)",
        12 => " (SIGUSR2)",
        13 => " (SIGPIPE)",
        14 => " (SIGALRM)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        25 => " (SIGXFSZ)",
        31 => " (SIGSYS)",
        _ => "",
    }
}
