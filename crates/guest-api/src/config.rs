//! What the guest is told before it starts the command.

use domain::{MemberId, TerminalSize};
use serde::{Deserialize, Serialize};

/// Everything the guest needs to run one command. MessagePack with field names, so that an older
/// or newer guest passes over what it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// The protocol the agent speaks, [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Whose guest this is; it stands in the exit record.
    pub member: MemberId,
    /// Program and arguments; the program is looked up in the `PATH` of `env`.
    pub command: Vec<String>,
    /// The whole environment of the command.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute inside.
    pub workdir: String,
    /// Who the command is.
    pub run_as: RunAs,
    /// Where stdin comes from: a pipe that clients write to, or end of file at once.
    pub stdin_pipe: bool,
    /// stdout and stderr share one pipe, which is logged as stdout.
    pub merge_output: bool,
    /// Most bytes kept of each stream; the guest keeps at least 1 MiB. A quarter more can be there
    /// for a moment. Up to half of it stands behind a lossless follower, for when it comes back
    /// at an earlier offset.
    pub log_limit_bytes: u64,
    /// A lossless follower will come: until one has, and for this long after the last one left
    /// without the stream having ended, the ring drops nothing and the command blocks instead.
    /// Zero: nobody is waited for.
    pub follower_hold_ms: u64,
    /// Longest running time of the command; the guest enforces it.
    pub time_limit_ms: Option<u64>,
    /// From the first signal to SIGKILL when the time limit is reached.
    pub time_limit_grace_ms: u64,
    /// Set on the command, so that the kernel ends it before the guest when memory is short.
    pub command_oom_score_adj: i32,
    /// Most open files of the command.
    pub open_files_limit: u64,
    /// The command gets a terminal of this size for its input and both outputs, which is logged
    /// as stdout; `stdin_pipe` and `merge_output` then mean nothing.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
}

/// User and groups of the command, as seen inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capability numbers kept in every set but the ambient one; empty for an ordinary user.
    /// Only those that the engine gave to the guest itself can be kept.
    pub capabilities: Vec<u8>,
}
