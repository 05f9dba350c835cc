//! Why a session is where it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a session waits, runs, or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// The session.
    pub session: String,
    /// Its state as a word.
    pub state: String,
    /// One sentence that says it all.
    pub summary: String,
    /// For a session that waits: every reason, by node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeReason>,
    /// For one that ended or runs: the evidence, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The smallest change that would help, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

/// Why one node does not take a session now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeReason {
    /// The node's name.
    pub node: String,
    /// The reasons, all of them.
    pub reasons: Vec<WhyReason>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyReason {
    /// A stable code: `slot-short`, `disconnected`, `not-enforceable`, `behind-others`.
    pub code: String,
    /// One sentence with amounts.
    pub message: String,
}
