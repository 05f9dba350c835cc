//! How a session ended, as it stands in the column `record`.

use super::document::text;
use domain::{Cause, FailedDependency, NodeId, Outcome, Span};
use serde::{Deserialize, Serialize};

/// An outcome, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum OutcomeDocument {
    Succeeded,
    Failed {
        cause: CauseDocument,
    },
    Stopped {
        by: String,
        #[serde(default)]
        signal: Option<i32>,
    },
    Cancelled {
        by: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dependency: Option<FailedDependencyDocument>,
    },
    Expired {
        limit_ms: u64,
    },
    Lost {
        #[serde(with = "text")]
        node: NodeId,
    },
}

/// What a session waited for in vain, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailedDependencyDocument {
    name: String,
    outcome: String,
}

impl From<FailedDependency> for FailedDependencyDocument {
    fn from(failed: FailedDependency) -> Self {
        let FailedDependency { name, outcome } = failed;
        Self { name, outcome }
    }
}

impl From<FailedDependencyDocument> for FailedDependency {
    fn from(row: FailedDependencyDocument) -> Self {
        Self {
            name: row.name,
            outcome: row.outcome,
        }
    }
}

/// A cause, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum CauseDocument {
    ExitCode {
        exit_code: u8,
    },
    Signal {
        signal: i32,
        core_dumped: bool,
    },
    OutOfMemory {
        limit_bytes: u64,
        peak_bytes: Option<u64>,
        process: Option<String>,
    },
    NodeOutOfMemory {
        limit_bytes: u64,
        peak_bytes: Option<u64>,
    },
    CommandNotFound {
        program: String,
    },
    CommandNotRunnable {
        program: String,
        reason: String,
    },
    PrepareFailed {
        reason: String,
    },
    StartFailed {
        reason: String,
    },
    DeadlineMissed {
        state: String,
        after_ms: u64,
    },
    GuestDied,
    DiskLimit {
        #[serde(default)]
        used_bytes: Option<u64>,
        #[serde(default)]
        limit_bytes: Option<u64>,
    },
    FilesIncomplete,
}

impl From<Outcome> for OutcomeDocument {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed { cause } => Self::Failed {
                cause: cause.into(),
            },
            Outcome::Stopped { by, signal } => Self::Stopped { by, signal },
            Outcome::Cancelled { by, dependency } => Self::Cancelled {
                by,
                dependency: dependency.map(FailedDependencyDocument::from),
            },
            Outcome::Expired { limit } => Self::Expired { limit_ms: limit.0 },
            Outcome::Lost { node } => Self::Lost { node },
        }
    }
}

impl From<OutcomeDocument> for Outcome {
    fn from(row: OutcomeDocument) -> Self {
        match row {
            OutcomeDocument::Succeeded => Self::Succeeded,
            OutcomeDocument::Failed { cause } => Self::Failed {
                cause: cause.into(),
            },
            OutcomeDocument::Stopped { by, signal } => Self::Stopped { by, signal },
            OutcomeDocument::Cancelled { by, dependency } => Self::Cancelled {
                by,
                dependency: dependency.map(FailedDependency::from),
            },
            OutcomeDocument::Expired { limit_ms } => Self::Expired {
                limit: Span(limit_ms),
            },
            OutcomeDocument::Lost { node } => Self::Lost { node },
        }
    }
}

impl From<Cause> for CauseDocument {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::ExitCode { exit_code } => Self::ExitCode { exit_code },
            Cause::Signal {
                signal,
                core_dumped,
            } => Self::Signal {
                signal,
                core_dumped,
            },
            Cause::OutOfMemory {
                limit_bytes,
                peak_bytes,
                process,
            } => Self::OutOfMemory {
                limit_bytes,
                peak_bytes,
                process,
            },
            Cause::NodeOutOfMemory {
                limit_bytes,
                peak_bytes,
            } => Self::NodeOutOfMemory {
                limit_bytes,
                peak_bytes,
            },
            Cause::CommandNotFound { program } => Self::CommandNotFound { program },
            Cause::CommandNotRunnable { program, reason } => {
                Self::CommandNotRunnable { program, reason }
            }
            Cause::PrepareFailed { reason } => Self::PrepareFailed { reason },
            Cause::StartFailed { reason } => Self::StartFailed { reason },
            Cause::DeadlineMissed { state, after } => Self::DeadlineMissed {
                state,
                after_ms: after.0,
            },
            Cause::GuestDied => Self::GuestDied,
            Cause::FilesIncomplete => Self::FilesIncomplete,
            Cause::DiskLimit {
                used_bytes,
                limit_bytes,
            } => Self::DiskLimit {
                used_bytes,
                limit_bytes,
            },
        }
    }
}

impl From<CauseDocument> for Cause {
    fn from(row: CauseDocument) -> Self {
        use CauseDocument as Row;
        match row {
            Row::ExitCode { exit_code } => Self::ExitCode { exit_code },
            Row::Signal {
                signal,
                core_dumped,
            } => Self::Signal {
                signal,
                core_dumped,
            },
            Row::OutOfMemory {
                limit_bytes,
                peak_bytes,
                process,
            } => Self::OutOfMemory {
                limit_bytes,
                peak_bytes,
                process,
            },
            Row::NodeOutOfMemory {
                limit_bytes,
                peak_bytes,
            } => Self::NodeOutOfMemory {
                limit_bytes,
                peak_bytes,
            },
            Row::CommandNotFound { program } => Self::CommandNotFound { program },
            Row::CommandNotRunnable { program, reason } => {
                Self::CommandNotRunnable { program, reason }
            }
            Row::PrepareFailed { reason } => Self::PrepareFailed { reason },
            Row::StartFailed { reason } => Self::StartFailed { reason },
            Row::DeadlineMissed { state, after_ms } => Self::DeadlineMissed {
                state,
                after: Span(after_ms),
            },
            Row::GuestDied => Self::GuestDied,
            Row::FilesIncomplete => Self::FilesIncomplete,
            Row::DiskLimit {
                used_bytes,
                limit_bytes,
            } => Self::DiskLimit {
                used_bytes,
                limit_bytes,
            },
        }
    }
}
