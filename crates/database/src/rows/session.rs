//! A session's intention and state and what else changes of it, as they stand in the column
//! `record` of `sessions`.

use super::outcome::{CauseDocument, OutcomeDocument};
use super::waiting::{DependencyDocument, PastDocument, RetryDocument};
use domain::{
    Dependency, Intention, PastAttempt, PauseOrder, Priority, Retry, SessionKind, SessionRecord,
    SessionState, StopOrder, Timestamp,
};
use serde::{Deserialize, Serialize};

/// The parts of a session that change and have no column of their own, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordDocument {
    intention: IntentionDocument,
    state: StateDocument,
    /// The rest is absent in rows of before there were further attempts and dependencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<PastDocument>,
    #[serde(default, skip_serializing_if = "is_default")]
    retry: RetryDocument,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<DependencyDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<PauseOrderDocument>,
    /// Absent in rows of before stores told that they were restored.
    #[serde(default)]
    epoch: u64,
    /// Absent where nobody said, and in rows of before there were priorities.
    #[serde(default, skip_serializing_if = "Priority::is_usual")]
    priority: Priority,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseOrderDocument {
    by: String,
    at: i64,
}

impl From<PauseOrder> for PauseOrderDocument {
    fn from(order: PauseOrder) -> Self {
        let PauseOrder { by, at } = order;
        Self { by, at: at.0 }
    }
}

impl From<PauseOrderDocument> for PauseOrder {
    fn from(row: PauseOrderDocument) -> Self {
        Self {
            by: row.by,
            at: Timestamp(row.at),
        }
    }
}

fn is_default(retry: &RetryDocument) -> bool {
    *retry == RetryDocument::default()
}

/// What a [`RecordDocument`] says.
pub(crate) struct RecordParts {
    pub(crate) intention: Intention,
    pub(crate) state: SessionState,
    pub(crate) past: Vec<PastAttempt>,
    pub(crate) retry: Retry,
    pub(crate) after: Vec<Dependency>,
    pub(crate) pause: Option<PauseOrder>,
    pub(crate) epoch: u64,
    pub(crate) priority: Priority,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case", deny_unknown_fields)]
enum IntentionDocument {
    Run,
    Stop {
        order: OrderDocument,
    },
    Fail {
        cause: CauseDocument,
        order: OrderDocument,
    },
    Remove {
        order: OrderDocument,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderDocument {
    by: String,
    signal: i32,
    grace_ms: u64,
    at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
enum StateDocument {
    Pending,
    Placed,
    Preparing,
    Starting,
    Running,
    Stopping,
    Ended { outcome: OutcomeDocument },
}

impl RecordDocument {
    /// The document of a session.
    pub(crate) fn of(session: &SessionRecord) -> Self {
        Self {
            intention: session.intention.clone().into(),
            state: session.state.clone().into(),
            past: session.past.iter().map(PastDocument::from).collect(),
            retry: session.retry.into(),
            after: session.after.iter().map(DependencyDocument::from).collect(),
            pause: session.pause.clone().map(PauseOrderDocument::from),
            epoch: session.epoch,
            priority: session.priority,
        }
    }

    /// What it says.
    pub(crate) fn into_parts(self) -> RecordParts {
        RecordParts {
            intention: self.intention.into(),
            state: self.state.into(),
            past: self.past.into_iter().map(PastAttempt::from).collect(),
            retry: self.retry.into(),
            after: self.after.into_iter().map(Dependency::from).collect(),
            pause: self.pause.map(PauseOrder::from),
            epoch: self.epoch,
            priority: self.priority,
        }
    }
}

/// The word in the column `kind`.
pub(crate) fn kind_word(kind: SessionKind) -> &'static str {
    match kind {
        SessionKind::Interactive => "interactive",
        SessionKind::Batch => "batch",
        SessionKind::Service => "service",
    }
}

/// The kind of a word in the column `kind`.
pub(crate) fn parse_kind(word: &str) -> Option<SessionKind> {
    [
        SessionKind::Interactive,
        SessionKind::Batch,
        SessionKind::Service,
    ]
    .into_iter()
    .find(|kind| kind_word(*kind) == word)
}

impl From<Intention> for IntentionDocument {
    fn from(intention: Intention) -> Self {
        match intention {
            Intention::Run => Self::Run,
            Intention::Stop { order } => Self::Stop {
                order: order.into(),
            },
            Intention::Fail { cause, order } => Self::Fail {
                cause: cause.into(),
                order: order.into(),
            },
            Intention::Remove { order } => Self::Remove {
                order: order.into(),
            },
        }
    }
}

impl From<IntentionDocument> for Intention {
    fn from(row: IntentionDocument) -> Self {
        match row {
            IntentionDocument::Run => Self::Run,
            IntentionDocument::Stop { order } => Self::Stop {
                order: order.into(),
            },
            IntentionDocument::Fail { cause, order } => Self::Fail {
                cause: cause.into(),
                order: order.into(),
            },
            IntentionDocument::Remove { order } => Self::Remove {
                order: order.into(),
            },
        }
    }
}

impl From<StopOrder> for OrderDocument {
    fn from(order: StopOrder) -> Self {
        let StopOrder {
            by,
            signal,
            grace_ms,
            at,
        } = order;
        Self {
            by,
            signal,
            grace_ms,
            at: at.0,
        }
    }
}

impl From<OrderDocument> for StopOrder {
    fn from(row: OrderDocument) -> Self {
        Self {
            by: row.by,
            signal: row.signal,
            grace_ms: row.grace_ms,
            at: Timestamp(row.at),
        }
    }
}

impl From<SessionState> for StateDocument {
    fn from(state: SessionState) -> Self {
        match state {
            SessionState::Pending => Self::Pending,
            SessionState::Placed => Self::Placed,
            SessionState::Preparing => Self::Preparing,
            SessionState::Starting => Self::Starting,
            SessionState::Running => Self::Running,
            SessionState::Stopping => Self::Stopping,
            SessionState::Ended { outcome } => Self::Ended {
                outcome: outcome.into(),
            },
        }
    }
}

impl From<StateDocument> for SessionState {
    fn from(row: StateDocument) -> Self {
        match row {
            StateDocument::Pending => Self::Pending,
            StateDocument::Placed => Self::Placed,
            StateDocument::Preparing => Self::Preparing,
            StateDocument::Starting => Self::Starting,
            StateDocument::Running => Self::Running,
            StateDocument::Stopping => Self::Stopping,
            StateDocument::Ended { outcome } => Self::Ended {
                outcome: outcome.into(),
            },
        }
    }
}
