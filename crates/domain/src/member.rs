//! One container of a session: its states on a node, and the record it leaves.

use crate::ids::MemberId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a member is in its life, as its node tells.
///
/// ```text
///  Assigned -> Preparing -> Starting -> Running -> Stopping -> Exited(record) -> Gone
///      \___________\____________\__________\______________________/^             ^
///   Assigned .. Exited ------------------------------------------- purge --------/
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "most members that are kept have exited: a box would save nothing"
)]
pub enum MemberState {
    /// Wanted; nothing has been done for it yet.
    Assigned,
    /// Its directory, files and root are being made.
    Preparing,
    /// The engine was asked to start it.
    Starting,
    /// The command runs.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// It was asked to end.
    Stopping {
        /// When it had started, if it had.
        since: Option<Timestamp>,
    },
    /// It has ended; its files and logs are kept.
    Exited {
        /// How.
        record: ExitRecord,
    },
    /// Nothing of it is left on the node.
    Gone,
}

/// What moves a member from one state to another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "an event lives only for the move that it makes"
)]
pub enum MemberEvent {
    /// Its directory is made, preparation begins.
    Prepare,
    /// Everything it needs is there, the engine is asked.
    Start,
    /// The command runs.
    Started {
        /// When.
        at: Timestamp,
    },
    /// It was asked to end.
    Stop,
    /// It has ended.
    Exit {
        /// How.
        record: ExitRecord,
    },
    /// Its files and logs were removed.
    Purged,
}

/// A move that the table of [`MemberState::after`] does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a member that is {state} cannot take the event `{event}`")]
pub struct IllegalMove {
    /// The state, as a word.
    pub state: &'static str,
    /// The event, as a word.
    pub event: &'static str,
}

impl MemberState {
    /// The state as a word: `assigned`, `preparing`, ...
    pub fn word(&self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Stopping { .. } => "stopping",
            Self::Exited { .. } => "exited",
            Self::Gone => "gone",
        }
    }

    /// It has resources of its node: everything but `Exited` and `Gone`.
    pub fn occupies(&self) -> bool {
        match self {
            Self::Assigned
            | Self::Preparing
            | Self::Starting
            | Self::Running { .. }
            | Self::Stopping { .. } => true,
            Self::Exited { .. } | Self::Gone => false,
        }
    }

    /// The whole table of legal moves.
    pub fn after(&self, event: MemberEvent) -> Result<Self, IllegalMove> {
        use MemberEvent as E;
        use MemberState as S;
        let illegal = IllegalMove {
            state: self.word(),
            event: event.word(),
        };
        match (self, event) {
            (S::Assigned, E::Prepare) => Ok(S::Preparing),
            (S::Preparing, E::Start) => Ok(S::Starting),
            (S::Starting, E::Started { at }) => Ok(S::Running { since: at }),
            (S::Assigned | S::Preparing | S::Starting, E::Stop) => Ok(S::Stopping { since: None }),
            (S::Running { since }, E::Stop) => Ok(S::Stopping {
                since: Some(*since),
            }),
            (
                S::Assigned | S::Preparing | S::Starting | S::Running { .. } | S::Stopping { .. },
                E::Exit { record },
            ) => Ok(S::Exited { record }),
            (S::Assigned | S::Exited { .. }, E::Purged) => Ok(S::Gone),
            (S::Assigned, E::Start | E::Started { .. })
            | (S::Preparing, E::Prepare | E::Started { .. } | E::Purged)
            | (S::Starting, E::Prepare | E::Start | E::Purged)
            | (S::Running { .. }, E::Prepare | E::Start | E::Started { .. } | E::Purged)
            | (
                S::Stopping { .. },
                E::Prepare | E::Start | E::Started { .. } | E::Stop | E::Purged,
            )
            | (
                S::Exited { .. },
                E::Prepare | E::Start | E::Started { .. } | E::Stop | E::Exit { .. },
            )
            | (
                S::Gone,
                E::Prepare | E::Start | E::Started { .. } | E::Stop | E::Exit { .. } | E::Purged,
            ) => Err(illegal),
        }
    }
}

impl MemberEvent {
    /// The event as a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Start => "start",
            Self::Started { .. } => "started",
            Self::Stop => "stop",
            Self::Exit { .. } => "exit",
            Self::Purged => "purged",
        }
    }
}

/// How a member ended: written by its guest, or by the agent where no guest could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Whose.
    pub member: MemberId,
    /// When the command started, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What the kernel said of the command.
    pub how: ExitHow,
    /// What made it end.
    pub cause: ExitCause,
    /// Bytes of stdout, from the first.
    pub stdout_bytes: u64,
    /// Bytes of stderr, from the first.
    pub stderr_bytes: u64,
    /// Processes that the memory limit or the node's own shortage ended, as far as anyone could tell.
    pub out_of_memory: Option<OomEvidence>,
    /// Why, in words, where the agent knows more than `how` tells: of a start in doubt it is what
    /// went wrong. A guest leaves it out.
    #[serde(default)]
    pub reason: Option<String>,
    /// Bytes that the member had on disk when the agent decided to end it for
    /// [`ExitCause::DiskLimit`], by the last measurement: its work, its logs and its layer,
    /// uploaded files included. Absent with any other cause.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// Limits that it came up against without being ended for them; absent if there were none.
    #[serde(default)]
    pub limits_reached: Option<Box<LimitsReached>>,
    /// The node's system and its `python3`, of a member whose image is the node's own system: it
    /// differs between nodes and over time. `Debian GNU/Linux 12 (bookworm), python3.11`
    #[serde(default)]
    pub system: Option<String>,
}

impl ExitRecord {
    /// The command exited with 0 by itself, and what it wrote is there.
    pub fn succeeded(&self) -> bool {
        self.cause == ExitCause::Own
            && self.how == ExitHow::Exited { code: 0 }
            && !self.files_incomplete()
    }

    /// Files of the member may be incomplete ([`LimitsReached::files_incomplete`]).
    pub fn files_incomplete(&self) -> bool {
        let limits = self.limits_reached.as_ref();
        limits.is_some_and(|limits| limits.files_incomplete)
    }
}

/// Limits at which a member's programs got an error, or output was dropped. They are told so that
/// nobody has to guess why a program failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsReached {
    /// How often a process or thread was refused because there were as many as allowed.
    pub pids_hits: u64,
    /// Bytes of stdout that the log did not keep.
    pub stdout_dropped_bytes: u64,
    /// Bytes of stderr that the log did not keep.
    pub stderr_dropped_bytes: u64,
    /// The size of `/tmp` in bytes, if it was full.
    pub tmp_full_bytes: Option<u64>,
    /// The size of `/dev/shm` in bytes, if it was full.
    pub shm_full_bytes: Option<u64>,
    /// What it wrote to a file system of its own could not all be kept, though its programs were
    /// told that it was: its node's disk was full, or failed.
    pub files_incomplete: bool,
}

impl LimitsReached {
    /// Absent where no limit was reached.
    pub fn if_any(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// What the kernel said of the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ExitHow {
    /// It exited.
    Exited {
        /// 0 to 255.
        code: u8,
    },
    /// A signal ended it.
    Signalled {
        /// Its number.
        signal: i32,
        /// A core dump was written, or would have been.
        core_dumped: bool,
    },
    /// The program was not found inside.
    NotFound {
        /// Its name.
        program: String,
    },
    /// The program was found and could not be run.
    NotRunnable {
        /// Its name.
        program: String,
        /// What the kernel said.
        reason: String,
    },
    /// It was never started: preparation or the engine failed, or it was stopped before.
    NeverRan {
        /// Why, as a whole chain.
        reason: String,
    },
    /// The guest left no record.
    Unknown,
}

/// What made a member end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// The command ended by itself.
    Own,
    /// It was asked to stop.
    Stopped,
    /// The time limit ended it.
    TimeLimit,
    /// Preparing it failed.
    PrepareFailed,
    /// Starting it failed.
    StartFailed,
    /// The agent ended it: too much disk.
    DiskLimit,
    /// The guest died.
    GuestDied,
}

/// What is known of processes that the kernel ended because there was no memory for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomEvidence {
    /// How many kills the kernel counted.
    pub kills: u64,
    /// The limit, in bytes.
    pub limit_bytes: u64,
    /// The most that was used, in bytes, where the kernel tells.
    pub peak_bytes: Option<u64>,
    /// A process that was ended, where known.
    pub process: Option<String>,
    /// The limit was not reached: the node as a whole, or a control group above the member's, ran out
    /// of memory.
    #[serde(default)]
    pub of_node: bool,
}
