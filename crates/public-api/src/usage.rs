//! What runs and what it uses, all of it at once.

use crate::pressure::PressureView;
use crate::sessions::{ResourcesView, UsageView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What every running session uses now, and the nodes that they run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteUsageView {
    /// The caller's sessions that have a member on a node, oldest first; an operator's are all.
    pub sessions: Vec<SessionUsageView>,
    /// The nodes; for operators only.
    #[serde(default)]
    pub nodes: Vec<NodeUsageView>,
}

/// A session that runs, or is about to or about to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionUsageView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its user.
    pub user: String,
    /// Its state, as in a session.
    pub state: String,
    /// It stands still, or is to.
    #[serde(default)]
    pub paused: bool,
    /// What each member gets.
    pub resources: ResourcesView,
    /// How many members it has.
    pub members: u32,
    /// The nodes of its members, each once.
    pub nodes: Vec<String>,
    /// When it first ran, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The sum over its members; absent while none runs or its node does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageView>,
}

/// A node, what living sessions have of it, and what they really use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeUsageView {
    /// Its name.
    pub name: String,
    /// Its agent is connected.
    pub connected: bool,
    /// It is given nothing new.
    #[serde(default)]
    pub drained: bool,
    /// What it offers.
    pub offers: ResourcesView,
    /// What living sessions were given of it.
    pub used: ResourcesView,
    /// What is waited for there, by whomever; absent where its kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureView>,
    /// The sum over the members that run there; absent if it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageView>,
}
