//! What a user asks for: the specification of a session, checked and filled in.

use crate::amounts::Slots;
use crate::duration::Span;
use crate::ids::UploadId;
use crate::image::ImageId;
use crate::terminal::TerminalSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names and numbers of root.
const ROOT_NAMES: [&str; 4] = ["root", "0", "root:root", "0:0"];

/// Everything that a session is started from. Immutable after creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// The image by name, as the user wrote it; `host` is the node's own system, read-only.
    pub image: String,
    /// Which image that was when the session was made; absent for `host`.
    #[serde(default)]
    pub imported: Option<ImportedImage>,
    /// Who the command is inside.
    #[serde(default)]
    pub user: CommandUser,
    /// Program and arguments; never empty. An image's own words are in it already, as they are in
    /// `env` and `workdir`.
    pub command: Vec<String>,
    /// Variables added to the session's environment.
    pub env: BTreeMap<String, String>,
    /// Working directory inside, absolute; `/work` if absent.
    pub workdir: Option<String>,
    /// What each member gets and is limited to.
    pub slots: Slots,
    /// Most processes and threads of a member.
    pub pids_limit: u32,
    /// Longest running time, counted while the session runs.
    pub time_limit: Option<Span>,
    /// What the session can reach.
    pub network: Network,
    /// Directories and files of the node shown inside.
    pub mounts: Vec<Mount>,
    /// The archive that is unpacked into `/work` before the start.
    pub upload: Option<UploadId>,
    /// One pipe for stdout and stderr, so that their order is exact.
    pub merge_output: bool,
    /// Where the command's standard input comes from.
    pub stdin: StdinMode,
    /// The command has a terminal of this size for its input and output; absent: pipes.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// A follower of the output will come: the log ring drops nothing while it is awaited.
    pub follower_expected: bool,
    /// How many members, all placed or none; from 1.
    pub members: u32,
    /// What to do when a member's node is lost.
    pub node_lost: NodeLostPolicy,
    /// Accept limits that the engine cannot enforce.
    pub best_effort: bool,
    /// Most bytes that each member may have on its node's disk: work, home, writable layer and
    /// output. No limit of its own if absent; the node's reserve is kept all the same.
    #[serde(default)]
    pub disk_limit: Option<u64>,
    /// Which limits were asked for; the others are defaults, applied where they can be.
    #[serde(default)]
    pub asked: AskedLimits,
}

/// Which limits somebody asked for: an engine that cannot enforce one of these is no place for
/// the session, unless it accepts best effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedLimits {
    /// CPU time.
    pub cpu: bool,
    /// Memory.
    pub memory: bool,
    /// Processes and threads.
    pub pids: bool,
}

impl AskedLimits {
    /// Every limit was asked for.
    pub const ALL: Self = Self {
        cpu: true,
        memory: true,
        pids: true,
    };
    /// All limits are defaults.
    pub const NONE: Self = Self {
        cpu: false,
        memory: false,
        pids: false,
    };
}

impl Default for AskedLimits {
    /// All: what was written before this was told is held to what was promised then.
    fn default() -> Self {
        Self::ALL
    }
}

/// An image that was imported, as a session uses it. A name can move to another image; a session
/// stays on the one it was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedImage {
    /// Which.
    pub id: ImageId,
    /// What its programs were built for, in the words of the OCI specification: `amd64`.
    pub architecture: String,
}

/// Who a command is inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "user", rename_all = "snake_case")]
pub enum CommandUser {
    /// The ordinary user of every session, 1000, without capabilities.
    #[default]
    Ordinary,
    /// A user of the image, as `USER` or `USER:GROUP`, by name or number. Without capabilities,
    /// but where a person asked for one that turns out to be root.
    Named {
        /// Who.
        name: String,
        /// A person asked for it, not the image.
        #[serde(default)]
        asked: bool,
    },
    /// Root of the session's user namespace, with the capabilities that change only the session.
    Root,
}

impl CommandUser {
    /// Who a person means by `USER` or `USER:GROUP`. Whoever has the number 0 inside is root with
    /// its capabilities; `root` and `0` are that whatever the lists inside say.
    pub fn named(text: &str) -> Self {
        if ROOT_NAMES.contains(&text) {
            return Self::Root;
        }
        Self::Named {
            name: text.to_owned(),
            asked: true,
        }
    }
}

/// What a session can reach by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A namespace of its own with only a loopback device.
    None,
    /// The node's network.
    Host,
    /// A namespace of its own from which connections go out through the node, and nothing but
    /// their answers comes in; neither the node itself nor other sessions can be reached.
    Egress,
}

/// A path of the node shown inside a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path on the node.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Nothing can be written through it.
    pub read_only: bool,
}

/// Where the command's standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StdinMode {
    /// End of file at once.
    Null,
    /// A pipe that clients write to until one of them closes it.
    Pipe,
}

/// What happens to a session whose node no longer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeLostPolicy {
    /// It stays as it is until the node comes back or the user stops it.
    Wait,
    /// A new attempt, once the old members can no longer run.
    Reschedule,
}
