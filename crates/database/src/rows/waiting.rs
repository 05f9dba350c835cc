//! A session's past attempts, its further ones, and what it waits for, as they stand in the column
//! `record` of `sessions`.

use super::document::text;
use super::outcome::OutcomeDocument;
use domain::{
    ArrayId, Dependency, DependencyState, DependencyTarget, Need, NodeId, PastAttempt, Retry,
    SessionId, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Further attempts, form 1.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryDocument {
    limit: u32,
    used: u32,
    at: Option<i64>,
}

/// An attempt that is over, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PastDocument {
    attempt: u32,
    #[serde(with = "text")]
    node: NodeId,
    outcome: OutcomeDocument,
    started_at: Option<i64>,
    ended_at: i64,
}

/// Something that has to end first, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DependencyDocument {
    on: TargetDocument,
    name: String,
    need: NeedWord,
    state: DependencyStateDocument,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetDocument {
    Session(#[serde(with = "text")] SessionId),
    Array(#[serde(with = "text")] ArrayId),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NeedWord {
    Succeeded,
    Ended,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
enum DependencyStateDocument {
    Waiting,
    Met { at: i64 },
    Failed { name: String, outcome: String },
}

impl From<Retry> for RetryDocument {
    fn from(retry: Retry) -> Self {
        let Retry { limit, used, at } = retry;
        Self {
            limit,
            used,
            at: at.map(|at| at.0),
        }
    }
}

impl From<RetryDocument> for Retry {
    fn from(row: RetryDocument) -> Self {
        Self {
            limit: row.limit,
            used: row.used,
            at: row.at.map(Timestamp),
        }
    }
}

impl From<&PastAttempt> for PastDocument {
    fn from(past: &PastAttempt) -> Self {
        let PastAttempt {
            attempt,
            node,
            outcome,
            started_at,
            ended_at,
        } = past.clone();
        Self {
            attempt,
            node,
            outcome: outcome.into(),
            started_at: started_at.map(|at| at.0),
            ended_at: ended_at.0,
        }
    }
}

impl From<PastDocument> for PastAttempt {
    fn from(row: PastDocument) -> Self {
        Self {
            attempt: row.attempt,
            node: row.node,
            outcome: row.outcome.into(),
            started_at: row.started_at.map(Timestamp),
            ended_at: Timestamp(row.ended_at),
        }
    }
}

impl From<&Dependency> for DependencyDocument {
    fn from(dependency: &Dependency) -> Self {
        let Dependency {
            on,
            name,
            need,
            state,
        } = dependency.clone();
        Self {
            on: match on {
                DependencyTarget::Session(id) => TargetDocument::Session(id),
                DependencyTarget::Array(id) => TargetDocument::Array(id),
            },
            name,
            need: match need {
                Need::Succeeded => NeedWord::Succeeded,
                Need::Ended => NeedWord::Ended,
            },
            state: match state {
                DependencyState::Waiting => DependencyStateDocument::Waiting,
                DependencyState::Met { at } => DependencyStateDocument::Met { at: at.0 },
                DependencyState::Failed { name, outcome } => {
                    DependencyStateDocument::Failed { name, outcome }
                }
            },
        }
    }
}

impl From<DependencyDocument> for Dependency {
    fn from(row: DependencyDocument) -> Self {
        Self {
            on: match row.on {
                TargetDocument::Session(id) => DependencyTarget::Session(id),
                TargetDocument::Array(id) => DependencyTarget::Array(id),
            },
            name: row.name,
            need: match row.need {
                NeedWord::Succeeded => Need::Succeeded,
                NeedWord::Ended => Need::Ended,
            },
            state: match row.state {
                DependencyStateDocument::Waiting => DependencyState::Waiting,
                DependencyStateDocument::Met { at } => DependencyState::Met { at: Timestamp(at) },
                DependencyStateDocument::Failed { name, outcome } => {
                    DependencyState::Failed { name, outcome }
                }
            },
        }
    }
}
