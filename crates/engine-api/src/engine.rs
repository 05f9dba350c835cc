//! The trait that every engine implements.

use crate::capability::Fingerprint;
use crate::container::ContainerSpec;
use async_trait::async_trait;
use domain::{MemberId, OomEvidence, Pressure};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What runs containers on a node.
///
/// All calls are idempotent and may be made again after a crash at any point. None may block a
/// thread of the async runtime for longer than a few milliseconds.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// The engine's name: `sandbox`, `docker`, `simulated`.
    fn name(&self) -> &'static str;

    /// What it can do and enforce on this node, now.
    async fn fingerprint(&self) -> Result<Fingerprint, EngineError>;

    /// Starts a container and returns once its guest was told *go*. If a guest of this member
    /// runs already, that is success with [`Started::already`] set. Not cancellation safe: a call that
    /// is dropped leaves a container that [`Engine::list`] finds. A member that has ended is never
    /// run again: where its exit record lies in the directory, or what is left of its container
    /// exists, a start fails and changes nothing.
    async fn start(&self, container: &ContainerSpec) -> Result<Started, StartError>;

    /// Containers like these may be asked for soon, the first of them first: an engine may make ready
    /// what takes time, and make use of it for a start that asks for just the same. Member, host name,
    /// directory and guest are not known yet and mean nothing. Nothing depends on it, so nothing is
    /// told of a failure. It is called when what is like them is started, and may wait for a better
    /// moment; the answer is whether one came: there is none while many containers are started, or
    /// once something else is expected.
    async fn expect(&self, _expected: &[ContainerSpec]) -> bool {
        true
    }

    /// All containers of this site's agent that exist in any part: a live guest, a cgroup, a
    /// socket. For recovery, and to find what was left behind.
    async fn list(&self) -> Result<Vec<Found>, EngineError>;

    /// Sends a signal to the guest itself. `SIGKILL` ends the whole container. Signals for the
    /// command go through the guest's socket instead. An absent container is success.
    async fn signal(&self, member: MemberId, signal: i32) -> Result<(), EngineError>;

    /// Ends the container if it lives and removes everything of the engine's but empty directories: cgroups, socket, the
    /// writable layer and home in `directory`. Work, logs and record stay; they are the agent's.
    /// An absent container is success.
    async fn remove(&self, member: MemberId, directory: &Path)
    -> Result<RemoveReport, EngineError>;

    /// Removes the tree at `path`, a part of the directory of a member that has ended, where its
    /// owner cannot: files in it belong to ids that only the engine can act for, or the command
    /// closed its directories. An engine without such files has nothing to do.
    async fn release(&self, _path: &Path) -> Result<(), EngineError> {
        Ok(())
    }

    /// Makes every process of the container but its guest stand still, those too that were forked
    /// meanwhile; its guest goes on. One that stands still already is looked at again, for
    /// what its guest has started since. A failure leaves all of them running. An optional power:
    /// the row `pause` of the capability table.
    async fn pause(&self, _member: MemberId) -> Result<(), EngineError> {
        Err(EngineError::Unsupported { row: "pause" })
    }

    /// Makes the container go on; one of which nothing stands still, or that is absent, is success. A
    /// paused container can be killed and removed without it.
    async fn resume(&self, _member: MemberId) -> Result<(), EngineError> {
        Err(EngineError::Unsupported { row: "pause" })
    }

    /// Makes a file system of `bytes` for the container with this directory, before it is started:
    /// [`crate::layout::DISK`]. False where this engine has none (the row `disk.own`): then what a
    /// container has on disk can only be measured. Blocks.
    fn make_disk(&self, _directory: &Path, _bytes: u64) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// The root of the file system of the container with this directory, whether it lives or not;
    /// `None` if it has none. It stays as long as this or anything opened by it is held. Blocks, as
    /// dropping it does.
    fn open_disk(&self, _directory: &Path) -> Result<Option<OwnedFd>, EngineError> {
        Ok(None)
    }

    /// What the container uses now, and used at most.
    async fn usage(&self, member: MemberId) -> Result<Usage, EngineError>;

    /// Waits until the guest of `member` is no longer alive; returns at once if it is not.
    /// Cancellation safe.
    async fn wait(&self, member: MemberId, directory: &Path) -> Result<(), EngineError>;
}

/// A container was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// It was running before this call.
    pub already: bool,
}

/// A container that exists in any part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub member: MemberId,
    /// Its guest lives.
    pub alive: bool,
    /// What is known of its pauses.
    pub pause: Pause,
}

/// Whether a container stands still, or once did: whoever was killed while it paused or resumed one
/// finds it among those that once did, and not among the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// It was never paused.
    #[default]
    Never,
    /// It was, or a try to pause it has begun; it does not stand still now.
    Over,
    /// It stands still.
    Now,
}

/// What was found while a container was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoveReport {
    /// Out-of-memory kills that the kernel counted, read before the group was removed.
    pub out_of_memory: Option<OomEvidence>,
    /// Usage at the end, if the kernel still knew.
    pub usage: Option<Usage>,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time so far, in microseconds.
    pub cpu_micros: u64,
    /// Memory now, in bytes, page cache included.
    pub memory_bytes: u64,
    /// The most memory at any time, in bytes.
    pub memory_peak_bytes: u64,
    /// Processes and threads now, the guest included.
    pub pids: u64,
    /// Out-of-memory kills so far.
    pub out_of_memory: Option<OomEvidence>,
    /// How often a process or thread was refused so far because the limit was reached.
    #[serde(default)]
    pub pids_limit_hits: u64,
    /// Bytes read from block devices so far, where the engine knows. Reads that the page cache
    /// answers are not among them.
    #[serde(default)]
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices so far, where the engine knows. Cgroup v1 only counts those
    /// that the program waited for: what the kernel writes back later is nobody's there.
    #[serde(default)]
    pub write_bytes: Option<u64>,
    /// What its processes wait for, where the kernel measures it: the row `pressure`.
    #[serde(default)]
    pub pressure: Option<Pressure>,
}

/// A container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine cannot enforce a limit that was asked for.
    #[error("this engine cannot enforce `{row}` here: {reason}")]
    NotEnforceable {
        /// The row of the capability table.
        row: &'static str,
        /// Why, and what would change it.
        reason: String,
    },
    /// A bind's source cannot be shown inside.
    #[error("{path} cannot be mounted: {reason}")]
    Bind {
        /// The source.
        path: String,
        /// Why.
        reason: String,
    },
    /// One act of the start failed; what was made before it is removed.
    #[error("to {act} failed: {reason}")]
    Act {
        /// What was tried, as an infinitive: `write the uid map`.
        act: String,
        /// What the kernel said.
        reason: String,
    },
    /// The engine itself failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// An engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Its helper process is gone; it is started again for the next call.
    #[error("the engine's launcher is gone")]
    LauncherGone,
    /// An act failed.
    #[error("to {act} failed: {reason}")]
    Act {
        /// What was tried, as an infinitive.
        act: String,
        /// What the kernel or the outside system said.
        reason: String,
    },
    /// The engine does not have an optional power.
    #[error("this engine cannot do `{row}`")]
    Unsupported {
        /// The row of the capability table.
        row: &'static str,
    },
    /// The container does not exist.
    #[error("there is no container of {member}")]
    Absent {
        /// Whose.
        member: MemberId,
    },
}
