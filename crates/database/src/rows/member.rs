//! A member's state and exit record, as they stand in the column `record` of `members`.

use super::document::text;
use domain::{
    ExitCause, ExitHow, ExitRecord, LimitsReached, MemberId, MemberPause, MemberRecord,
    MemberState, OomEvidence, Timestamp,
};
use serde::{Deserialize, Serialize};

/// A member's state, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
#[allow(
    clippy::large_enum_variant,
    reason = "a document lives only between the row and the record"
)]
pub(crate) enum MemberDocument {
    Assigned,
    Preparing,
    Starting,
    Running {
        since: i64,
        /// Absent in rows of before there were pauses, and while it does not stand still.
        #[serde(default, skip_serializing_if = "PauseDocument::is_off")]
        pause: PauseDocument,
    },
    Stopping {
        since: Option<i64>,
    },
    Exited {
        record: ExitDocument,
    },
    Gone,
}

/// Whether a member that runs stands still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pause", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PauseDocument {
    #[default]
    Off,
    On,
    Failed {
        reason: String,
    },
}

impl PauseDocument {
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl From<MemberPause> for PauseDocument {
    fn from(pause: MemberPause) -> Self {
        match pause {
            MemberPause::Off => Self::Off,
            MemberPause::On => Self::On,
            MemberPause::Failed { reason } => Self::Failed { reason },
        }
    }
}

impl From<PauseDocument> for MemberPause {
    fn from(row: PauseDocument) -> Self {
        match row {
            PauseDocument::Off => Self::Off,
            PauseDocument::On => Self::On,
            PauseDocument::Failed { reason } => Self::Failed { reason },
        }
    }
}

/// An exit record, form 1. Times are in microseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExitDocument {
    #[serde(with = "text")]
    member: MemberId,
    started_at: Option<i64>,
    ended_at: i64,
    how: HowDocument,
    cause: CauseWord,
    stdout_bytes: u64,
    stderr_bytes: u64,
    out_of_memory: Option<OomDocument>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    disk_bytes: Option<u64>,
    #[serde(default)]
    limits_reached: Option<Box<LimitsDocument>>,
    #[serde(default)]
    system: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsDocument {
    pids_hits: u64,
    stdout_dropped_bytes: u64,
    stderr_dropped_bytes: u64,
    tmp_full_bytes: Option<u64>,
    shm_full_bytes: Option<u64>,
    #[serde(default)]
    files_incomplete: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case", deny_unknown_fields)]
enum HowDocument {
    Exited { code: u8 },
    Signalled { signal: i32, core_dumped: bool },
    NotFound { program: String },
    NotRunnable { program: String, reason: String },
    NeverRan { reason: String },
    Unknown,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CauseWord {
    Own,
    Stopped,
    TimeLimit,
    PrepareFailed,
    StartFailed,
    DiskLimit,
    GuestDied,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OomDocument {
    kills: u64,
    limit_bytes: u64,
    peak_bytes: Option<u64>,
    process: Option<String>,
    #[serde(default)]
    of_node: bool,
}

impl MemberDocument {
    /// The document of a member.
    pub(crate) fn of(member: &MemberRecord) -> Self {
        match member.state.clone() {
            MemberState::Assigned => Self::Assigned,
            MemberState::Preparing => Self::Preparing,
            MemberState::Starting => Self::Starting,
            MemberState::Running { since } => Self::Running {
                since: since.0,
                pause: member.pause.clone().into(),
            },
            MemberState::Stopping { since } => Self::Stopping {
                since: since.map(|at| at.0),
            },
            MemberState::Exited { record } => Self::Exited {
                record: record.into(),
            },
            MemberState::Gone => Self::Gone,
        }
    }

    /// Whether it stands still: only what runs can.
    pub(crate) fn pause(&self) -> MemberPause {
        match self {
            Self::Running { pause, .. } => pause.clone().into(),
            Self::Assigned
            | Self::Preparing
            | Self::Starting
            | Self::Stopping { .. }
            | Self::Exited { .. }
            | Self::Gone => MemberPause::Off,
        }
    }
}

impl From<MemberDocument> for MemberState {
    fn from(row: MemberDocument) -> Self {
        match row {
            MemberDocument::Assigned => Self::Assigned,
            MemberDocument::Preparing => Self::Preparing,
            MemberDocument::Starting => Self::Starting,
            MemberDocument::Running { since, .. } => Self::Running {
                since: Timestamp(since),
            },
            MemberDocument::Stopping { since } => Self::Stopping {
                since: since.map(Timestamp),
            },
            MemberDocument::Exited { record } => Self::Exited {
                record: record.into(),
            },
            MemberDocument::Gone => Self::Gone,
        }
    }
}

impl From<ExitRecord> for ExitDocument {
    fn from(record: ExitRecord) -> Self {
        let ExitRecord {
            member,
            started_at,
            ended_at,
            how,
            cause,
            stdout_bytes,
            stderr_bytes,
            out_of_memory,
            reason,
            disk_bytes,
            limits_reached,
            system,
        } = record;
        Self {
            member,
            started_at: started_at.map(|at| at.0),
            ended_at: ended_at.0,
            how: how.into(),
            cause: cause.into(),
            stdout_bytes,
            stderr_bytes,
            out_of_memory: out_of_memory.map(OomDocument::from),
            reason,
            disk_bytes,
            limits_reached: limits_reached.map(|limits| Box::new((*limits).into())),
            system,
        }
    }
}

impl From<ExitDocument> for ExitRecord {
    fn from(row: ExitDocument) -> Self {
        Self {
            member: row.member,
            started_at: row.started_at.map(Timestamp),
            ended_at: Timestamp(row.ended_at),
            how: row.how.into(),
            cause: row.cause.into(),
            stdout_bytes: row.stdout_bytes,
            stderr_bytes: row.stderr_bytes,
            out_of_memory: row.out_of_memory.map(OomEvidence::from),
            reason: row.reason,
            disk_bytes: row.disk_bytes,
            limits_reached: row.limits_reached.map(|limits| Box::new((*limits).into())),
            system: row.system,
        }
    }
}

impl From<LimitsReached> for LimitsDocument {
    fn from(limits: LimitsReached) -> Self {
        let LimitsReached {
            pids_hits,
            stdout_dropped_bytes,
            stderr_dropped_bytes,
            tmp_full_bytes,
            shm_full_bytes,
            files_incomplete,
        } = limits;
        Self {
            pids_hits,
            stdout_dropped_bytes,
            stderr_dropped_bytes,
            tmp_full_bytes,
            shm_full_bytes,
            files_incomplete,
        }
    }
}

impl From<LimitsDocument> for LimitsReached {
    fn from(row: LimitsDocument) -> Self {
        Self {
            pids_hits: row.pids_hits,
            stdout_dropped_bytes: row.stdout_dropped_bytes,
            stderr_dropped_bytes: row.stderr_dropped_bytes,
            tmp_full_bytes: row.tmp_full_bytes,
            shm_full_bytes: row.shm_full_bytes,
            files_incomplete: row.files_incomplete,
        }
    }
}

impl From<ExitHow> for HowDocument {
    fn from(how: ExitHow) -> Self {
        match how {
            ExitHow::Exited { code } => Self::Exited { code },
            ExitHow::Signalled {
                signal,
                core_dumped,
            } => Self::Signalled {
                signal,
                core_dumped,
            },
            ExitHow::NotFound { program } => Self::NotFound { program },
            ExitHow::NotRunnable { program, reason } => Self::NotRunnable { program, reason },
            ExitHow::NeverRan { reason } => Self::NeverRan { reason },
            ExitHow::Unknown => Self::Unknown,
        }
    }
}

impl From<HowDocument> for ExitHow {
    fn from(row: HowDocument) -> Self {
        match row {
            HowDocument::Exited { code } => Self::Exited { code },
            HowDocument::Signalled {
                signal,
                core_dumped,
            } => Self::Signalled {
                signal,
                core_dumped,
            },
            HowDocument::NotFound { program } => Self::NotFound { program },
            HowDocument::NotRunnable { program, reason } => Self::NotRunnable { program, reason },
            HowDocument::NeverRan { reason } => Self::NeverRan { reason },
            HowDocument::Unknown => Self::Unknown,
        }
    }
}

impl From<ExitCause> for CauseWord {
    fn from(cause: ExitCause) -> Self {
        match cause {
            ExitCause::Own => Self::Own,
            ExitCause::Stopped => Self::Stopped,
            ExitCause::TimeLimit => Self::TimeLimit,
            ExitCause::PrepareFailed => Self::PrepareFailed,
            ExitCause::StartFailed => Self::StartFailed,
            ExitCause::DiskLimit => Self::DiskLimit,
            ExitCause::GuestDied => Self::GuestDied,
        }
    }
}

impl From<CauseWord> for ExitCause {
    fn from(row: CauseWord) -> Self {
        match row {
            CauseWord::Own => Self::Own,
            CauseWord::Stopped => Self::Stopped,
            CauseWord::TimeLimit => Self::TimeLimit,
            CauseWord::PrepareFailed => Self::PrepareFailed,
            CauseWord::StartFailed => Self::StartFailed,
            CauseWord::DiskLimit => Self::DiskLimit,
            CauseWord::GuestDied => Self::GuestDied,
        }
    }
}

impl From<OomEvidence> for OomDocument {
    fn from(evidence: OomEvidence) -> Self {
        let OomEvidence {
            kills,
            limit_bytes,
            peak_bytes,
            process,
            of_node,
        } = evidence;
        Self {
            kills,
            limit_bytes,
            peak_bytes,
            process,
            of_node,
        }
    }
}

impl From<OomDocument> for OomEvidence {
    fn from(row: OomDocument) -> Self {
        Self {
            kills: row.kills,
            limit_bytes: row.limit_bytes,
            peak_bytes: row.peak_bytes,
            process: row.process,
            of_node: row.of_node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ExitDocument, MemberDocument};
    use domain::{ExitRecord, MemberPause};

    #[test]
    fn a_member_from_before_pauses_is_read() {
        let row = r#"{"state":"running","since":4}"#;
        let row: MemberDocument = serde_json::from_str(row).expect("understood");
        assert_eq!(row.pause(), MemberPause::Off);
        let written = serde_json::to_string(&row).expect("JSON");
        assert!(!written.contains("pause"), "{written}");
    }

    #[test]
    fn a_record_from_before_reasons_and_disk_bytes_is_read() {
        let row = r#"{"member":"0000000000001.1.0","started_at":null,"ended_at":4,
            "how":{"how":"unknown"},"cause":"disk_limit","stdout_bytes":1,"stderr_bytes":2,"out_of_memory":null}"#;
        let row: ExitDocument = serde_json::from_str(row).expect("understood");
        let record = ExitRecord::from(row);
        assert_eq!((record.reason, record.disk_bytes), (None, None));
    }
}
