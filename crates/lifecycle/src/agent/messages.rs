//! What the core is told, and what it wants done.

use super::{DiskUsage, NotObeyed, Obeyed, Recovered};
use domain::{ExitRecord, LimitsReached, MemberId, Now, OomEvidence, Timestamp};
use node_api::{Desired, MemberSpec};

/// Something that happened.
#[derive(Clone, Debug)]
pub struct AgentEvent {
    /// When.
    pub now: Now,
    /// What.
    pub kind: AgentEventKind,
}

/// What happened. Results of acts name the member; one of a member that is not known is passed
/// over.
#[derive(Clone, Debug)]
pub enum AgentEventKind {
    /// What a new process found on disk; the first event of every process.
    Recovered {
        /// All of it.
        found: Box<Recovered>,
    },
    /// The manager told what it wants. Answered by [`AgentEffect::Refuse`] or
    /// [`AgentEffect::SaveObeyed`]; nothing else follows before [`AgentEventKind::ObeyedSaved`].
    Desired {
        /// All of it.
        desired: Box<Desired>,
    },
    /// The last [`AgentEffect::SaveObeyed`] is on disk (or need not be, see there).
    ObeyedSaved,
    /// It is not; the desired set is forgotten.
    ObeyedNotSaved,
    /// The member's directory is there.
    DirectoryMade {
        /// Whose.
        member: MemberId,
    },
    /// It could not be made.
    DirectoryFailed {
        /// Whose.
        member: MemberId,
        /// Why, as a whole chain.
        reason: String,
    },
    /// Files and root are there.
    Prepared {
        /// Whose.
        member: MemberId,
    },
    /// They could not be made, or the preparation was abandoned.
    PrepareFailed {
        /// Whose.
        member: MemberId,
        /// Why, as a whole chain.
        reason: String,
    },
    /// The guest was told *go*.
    Started {
        /// Which.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// The engine could not start it; nothing of it lives.
    StartFailed {
        /// Which.
        member: MemberId,
        /// Why, as a whole chain.
        reason: String,
        /// Whether the command may have run for a moment.
        doubt: StartDoubt,
    },
    /// The guest took the order to stop.
    StopOrdered {
        /// Whose guest.
        member: MemberId,
    },
    /// The guest could not be reached with it.
    StopNotOrdered {
        /// Whose guest.
        member: MemberId,
        /// It was there and did not answer in time: it hangs, or was stopped from outside.
        late: bool,
    },
    /// It stands still, and its guest knows.
    Paused {
        /// Which.
        member: MemberId,
    },
    /// It could not be made to stand still; it was made to go on again.
    PauseFailed {
        /// Which.
        member: MemberId,
        /// Why, as a whole chain.
        reason: String,
    },
    /// It goes on, and its guest knows.
    Resumed {
        /// Which.
        member: MemberId,
    },
    /// It could not be made to go on, or its guest could not be told; the service has logged why.
    ResumeFailed {
        /// Which.
        member: MemberId,
    },
    /// The guest no longer lives.
    GuestGone {
        /// Whose.
        member: MemberId,
    },
    /// What is left of a member that ran was looked at.
    Ended {
        /// Whose.
        member: MemberId,
        /// What was found.
        ending: Box<Ending>,
    },
    /// The final record is on disk.
    RecordWritten {
        /// Whose.
        member: MemberId,
    },
    /// The engine has nothing of it any more.
    Removed {
        /// Whose.
        member: MemberId,
    },
    /// Nothing of it is on disk, and its id is remembered as gone.
    Purged {
        /// Whose.
        member: MemberId,
    },
    /// An act that is tried again failed; the service has logged why.
    ActFailed {
        /// Whose.
        member: MemberId,
    },
    /// The node's file system was measured.
    DiskMeasured {
        /// What was found.
        disk: DiskUsage,
    },
    /// Time has passed. At least once a second.
    Tick,
}

/// Whether a failed start may have run the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartDoubt {
    /// The guest was never told *go*.
    NeverRan,
    /// Nobody knows: the engine failed in between. What was there has been killed.
    MayHaveRun,
}

/// What is left of a member that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The guest's record, if there is one.
    pub record: Option<ExitRecord>,
    /// What the engine knows of out-of-memory kills.
    pub out_of_memory: Option<OomEvidence>,
    /// Limits that the engine and the log tell of; what only the guest sees is in its record.
    pub limits_reached: LimitsReached,
    /// The node's system, where that was its image.
    pub system: Option<String>,
    /// Bytes of stdout on disk, from the first; for a guest that left no record.
    pub stdout_bytes: u64,
    /// Bytes of stderr on disk, from the first.
    pub stderr_bytes: u64,
    /// The engine has removed its part already.
    pub removed: bool,
}

/// Something to do. Each act's result comes back as the event it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEffect {
    /// Answer the desired set with a refusal.
    Refuse {
        /// Why.
        why: NotObeyed,
    },
    /// Save whom the agent obeys, before anything else. → `ObeyedSaved`, `ObeyedNotSaved`.
    SaveObeyed {
        /// What to save.
        obeyed: Obeyed,
        /// It must survive a loss of power, and the desired set is refused if it cannot be saved.
        /// Otherwise only the generation rose: then it has to outlive this process only, and
        /// where it cannot be saved (a full disk) the set is obeyed all the same, because it may
        /// be the one that frees the disk.
        must: bool,
    },
    /// Make the member's directory: written aside, renamed, durable.
    /// → `DirectoryMade`, `DirectoryFailed`.
    MakeDirectory {
        /// Whose.
        member: MemberId,
        /// What it is.
        spec: Box<MemberSpec>,
        /// Its range of user ids.
        slot: u32,
        /// The generation that asked for it.
        generation: u64,
    },
    /// Fetch and unpack files; again from the start if it was begun before.
    /// → `Prepared`, `PrepareFailed`.
    Prepare {
        /// Whose.
        member: MemberId,
    },
    /// Give up a preparation that runs; it answers `PrepareFailed` (or `Prepared`) soon.
    AbandonPrepare {
        /// Whose.
        member: MemberId,
    },
    /// Write the marker that says it may have been started, then start it.
    /// → `Started`, `StartFailed`.
    Start {
        /// Which.
        member: MemberId,
    },
    /// Watch the guest. → `GuestGone`.
    Watch {
        /// Whose.
        member: MemberId,
    },
    /// Tell the guest to end the command. Where the disk is the reason, that is noted on disk
    /// before, for the guest sees a stop like any other and a later process has to tell them
    /// apart. → `StopOrdered`, `StopNotOrdered`.
    OrderStop {
        /// Whose guest.
        member: MemberId,
        /// The first signal.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
        /// What to note: the bytes that it has on disk, if it is ended for them.
        disk_bytes: Option<u64>,
    },
    /// Make everything in it but the guest stand still, and tell the guest; any number of times.
    /// → `Paused`, `PauseFailed`.
    Pause {
        /// Which.
        member: MemberId,
    },
    /// Make it go on, and tell the guest; any number of times. → `Resumed`, `ResumeFailed`.
    Resume {
        /// Which.
        member: MemberId,
    },
    /// Warn the operator: the disk is nearly full, and what the members wrote does not account
    /// for it, so that none of them is ended. No answer.
    WarnOfDisk {
        /// Bytes that can still be written.
        free_bytes: u64,
        /// Bytes that were lost since the mark of the member that wrote most: its start or, if
        /// another one was ended for the disk and it is full still, that end.
        lost_bytes: u64,
        /// Bytes that members which are still there were seen to have written since their marks.
        written_bytes: u64,
    },
    /// Kill the whole container. No answer; the guest's end is seen by the watch.
    Kill {
        /// Which.
        member: MemberId,
    },
    /// Look at what a guest left. → `Ended`, `ActFailed`.
    End {
        /// Whose.
        member: MemberId,
    },
    /// Write the final record, durably. → `RecordWritten`, `ActFailed`.
    WriteRecord {
        /// The record; it names the member.
        record: Box<ExitRecord>,
    },
    /// Let the engine remove its part. → `Removed`, `ActFailed`.
    Remove {
        /// Whose.
        member: MemberId,
    },
    /// Remember the id as gone, then remove the directory. → `Purged`, `ActFailed`.
    Purge {
        /// Whose.
        member: MemberId,
        /// Its range of user ids, if it had a directory.
        slot: Option<u32>,
    },
    /// Send [`super::NodeCore::report`] soon; reports may be merged.
    Report,
}
