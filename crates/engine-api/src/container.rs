//! What an engine is asked to start.

use domain::{AskedLimits, MemberId, Network};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One container: everything an engine needs, nothing it has to look up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Whose container; starting it twice is starting it once.
    pub member: MemberId,
    /// Host name inside.
    pub hostname: String,
    /// The member's directory on the node, with the entries of [`crate::layout`], made by the
    /// agent before.
    pub directory: PathBuf,
    /// The root file system.
    pub root: RootSpec,
    /// Further paths of the node shown inside, in order.
    pub binds: Vec<Bind>,
    /// User and group ids of the node that the container's ids stand for.
    pub uids: UidRange,
    /// What it may use.
    pub limits: Limits,
    /// What it can reach.
    pub network: Network,
    /// The guest: what it is told, and where it listens.
    pub guest: GuestSpec,
}

/// The root file system of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// Directories, the lowest first, owned by the node's ids (0 is root); the engine shifts them.
    pub layers: Vec<PathBuf>,
    /// Nothing of the root can be written, not even by root inside. `/work`, `/home/user`, `/tmp`
    /// and `/dev/shm` can.
    pub read_only: bool,
}

/// A path of the node shown inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the node.
    pub source: PathBuf,
    /// Absolute path inside; made in the root if it is missing.
    pub target: PathBuf,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// What the node's ids become inside.
    pub owner: BindOwner,
}

/// Whose files a bind shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "owner", rename_all = "snake_case")]
pub enum BindOwner {
    /// The node's files are nobody's inside, not even root's: what is open to all of the node can
    /// be read, and nothing else. For system directories. Set-user-id bits do not work.
    System,
    /// The node's `uid` and `gid` are the command's user inside, and new files are theirs: for
    /// directories that a user mounts. Refused where the file system cannot be idmapped.
    User {
        /// The node's user.
        uid: u32,
        /// The node's group.
        gid: u32,
    },
}

/// A range of 65,536 user and group ids of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UidRange {
    /// The node's id that is 0 inside.
    pub base: u32,
}

impl UidRange {
    /// Ids in a range.
    pub const LENGTH: u32 = 65_536;
    /// The user inside who runs commands, in every container.
    pub const COMMAND: u32 = 1_000;
    /// The user inside who is the guest, never a command.
    pub const GUEST: u32 = 65_535;

    /// The node's id of the `inside` id.
    pub fn shifted(self, inside: u32) -> u32 {
        self.base + inside
    }
}

/// What a container may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time in ten-thousandths of a CPU.
    pub cpu: u64,
    /// Memory in bytes; swap is off.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// `/tmp` and `/dev/shm`, each, in bytes; together at most half the memory.
    pub tmpfs_bytes: u64,
    /// Accept limits that cannot be enforced here.
    pub best_effort: bool,
    /// Which of them were asked for: a default that cannot be enforced keeps no container down.
    #[serde(default)]
    pub asked: AskedLimits,
}

/// The guest of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// The guest's configuration, encoded; the engine passes it on as it is.
    pub config: Vec<u8>,
    /// Where its socket is bound, at most 107 bytes.
    pub socket: PathBuf,
}
