//! The messages, as they are encoded.

use domain::{
    Capability, ImageId, MemberId, MemberPause, MemberState, NodeId, Owner, Pressure, SessionName,
    SessionSpec, SiteId, Slots,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The full set of members that the manager wants on a node.
///
/// An agent obeys one site only, and refuses an epoch lower than one it obeyed, or within the
/// same epoch a generation lower than one it obeyed. A member that it has and that is named neither
/// in `members` nor in `kept` is *unclaimed*: it runs on and is reported as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Whose wish this is.
    pub site: SiteId,
    /// Counts each time the store was made or restored; part of who the site is.
    pub incarnation: u64,
    /// Counts each time a manager became leader.
    pub epoch: u64,
    /// Counts each change of this node's set.
    pub generation: u64,
    /// Every member that lives or is to be removed, by id, ascending.
    pub members: Vec<DesiredMember>,
    /// Members that have ended, as the manager knows, by id, ascending: what they leave is kept,
    /// and they are never run, as with [`Want::Stop`]. Bare ids, for there are thousands of them
    /// in every message. One that the node has not got is not made: its absence in the report
    /// tells that it is gone.
    #[serde(default, with = "crate::packed")]
    pub kept: Vec<MemberId>,
}

/// One wanted member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredMember {
    /// Which.
    pub id: MemberId,
    /// What should become of it.
    pub want: Want,
    /// It is to stand still. Counts with [`Want::Run`] only: what is to end goes on first.
    #[serde(default)]
    pub paused: bool,
    /// What it is; the same for the whole life of `id`, but for the name, which may be changed.
    pub spec: MemberSpec,
}

/// What should become of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case")]
pub enum Want {
    /// Run it, once; keep what it leaves.
    Run,
    /// End it; keep what it leaves. One that never ran leaves a record that says so.
    Stop {
        /// The first signal.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// End it, then remove everything of it. Stays wanted until the agent reports it `Gone` or
    /// no longer reports it at all.
    Purge {
        /// The first signal, if it lives.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSpec {
    /// The session's name.
    pub name: SessionName,
    /// Whose.
    pub owner: Owner,
    /// Index in its array, if it has one; `name` is the array's then.
    pub array_index: Option<u32>,
    /// How many elements its array was made with.
    #[serde(default)]
    pub array_size: Option<u32>,
    /// What the user asked for.
    pub session: Arc<SessionSpec>,
}

impl MemberSpec {
    /// The session's name as people see it: `NAME.INDEX` for an element of an array.
    pub fn shown_name(&self) -> String {
        match self.array_index {
            Some(index) => format!("{}.{index}", self.name),
            None => self.name.to_string(),
        }
    }
}

/// An agent presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its id, kept on its disk.
    pub node: NodeId,
    /// Its name, usually the host name.
    pub name: String,
    /// The pool it belongs to.
    pub pool: String,
    /// What it offers.
    pub offers: Slots,
    /// What its engine can do, by row of the capability table.
    pub capabilities: BTreeMap<String, Capability>,
    /// The site it obeys; `None` before the first.
    pub site: Option<SiteId>,
    /// What it obeyed last of that site. Above what the manager's store knows, it comes from a
    /// later state of a store that was restored from an older copy.
    #[serde(default)]
    pub obeyed: Option<Obeyed>,
}

/// Which desired set an agent obeyed last; later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Obeyed {
    /// Of which making or restoring of the store.
    pub incarnation: u64,
    /// Of which leader.
    pub epoch: u64,
    /// Which change of the node's set.
    pub generation: u64,
}

/// The manager's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The site.
    pub site: SiteId,
    /// What it wants now.
    pub desired: Desired,
}

/// The full set of members that a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which node.
    pub node: NodeId,
    /// Counts reports of this agent process; a lower one than seen is old and passed over.
    pub sequence: u64,
    /// Incarnation of the last [`Desired`] that it obeyed; 0 before the first.
    #[serde(default)]
    pub incarnation: u64,
    /// Epoch of the last [`Desired`] that it obeyed; 0 before the first.
    pub epoch: u64,
    /// Generation of the last [`Desired`] that it obeyed.
    pub generation: u64,
    /// Every member but the settled, by id, ascending.
    pub members: Vec<ReportedMember>,
    /// Members that have ended and whose records the manager has, because [`Desired::kept`] names
    /// them, by id, ascending. They are there; there is no more to tell of them.
    #[serde(default, with = "crate::packed")]
    pub settled: Vec<MemberId>,
}

/// One member that a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedMember {
    /// Which.
    pub id: MemberId,
    /// Where it is.
    pub state: MemberState,
    /// Whether it stands still.
    #[serde(default)]
    pub pause: MemberPause,
    /// The last `Desired` did not name it.
    pub unclaimed: bool,
    /// What it is, told for unclaimed members so that an operator can see what runs.
    pub spec: Option<MemberSpec>,
}

/// One of a member's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Asks for a member's recorded output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// Whose.
    pub member: MemberId,
    /// Which stream.
    pub stream: LogStream,
    /// First byte wanted.
    pub offset: u64,
    /// Only what was written after this time, where the node kept times; overrides a lower offset.
    pub since: Option<domain::Timestamp>,
    /// Go on until the member has ended.
    pub follow: bool,
    /// The ring drops nothing that this follower has not had.
    pub lossless: bool,
}

/// A part of a member's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "log", rename_all = "snake_case")]
pub enum LogChunk {
    /// Bytes.
    Data {
        /// Offset of the first.
        offset: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Bytes that were dropped.
    Gap {
        /// Offset of the first.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Nothing more will come: the member has ended, or `follow` was not asked.
    End {
        /// Offset after the last byte.
        offset: u64,
    },
}

/// Bytes for a member's standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinRequest {
    /// Whose.
    pub member: MemberId,
    /// Where `bytes` stands in the whole input.
    pub offset: u64,
    /// The bytes, at most 256 KiB.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Nothing comes after these.
    pub close: bool,
}

/// How far a member's standard input has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinReply {
    /// The next byte wanted. May be less than what was sent: the rest is to be sent again.
    pub offset: u64,
    /// It takes no more.
    pub closed: bool,
}

/// A signal for a member's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRequest {
    /// Whose.
    pub member: MemberId,
    /// Its number.
    pub signal: i32,
}

/// Asks for files of a member, as a tar archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRequest {
    /// Whose.
    pub member: MemberId,
    /// Relative to `/work`; empty for all of it. Absolute paths are read inside, while it runs.
    pub path: String,
    /// Only files that are new or differ from what was uploaded.
    pub changed_only: bool,
}

/// What a member uses now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberUsage {
    /// CPU time so far, in microseconds.
    pub cpu_micros: u64,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// The most memory at any time, in bytes.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Out-of-memory kills so far.
    pub out_of_memory_kills: u64,
    /// Bytes of `/work` and logs on disk, as last measured.
    pub disk_bytes: Option<u64>,
    /// Bytes read from block devices so far, where the engine knows.
    #[serde(default)]
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices so far, where the engine knows.
    #[serde(default)]
    pub write_bytes: Option<u64>,
    /// What its processes wait for, where the engine knows.
    #[serde(default)]
    pub pressure: Option<Pressure>,
    /// When it was looked at, in microseconds of the node's clock that is never set: rates come
    /// from the difference of two samples of one node.
    #[serde(default)]
    pub sampled_micros: u64,
}

/// What one of a node's members uses now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSample {
    /// Whose.
    pub member: MemberId,
    /// What.
    pub usage: MemberUsage,
}

/// An image's manifest, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// The canonical bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Some images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageList {
    /// Their ids.
    pub images: Vec<ImageId>,
}

/// How far the layers of an image are that a member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// Which layer is being fetched and unpacked, from 1.
    pub layer: u32,
    /// How many the image has.
    pub layers: u32,
    /// Bytes of that layer that have come, as it is stored.
    pub bytes: u64,
    /// Bytes of that layer, as it is stored.
    pub total_bytes: u64,
}
