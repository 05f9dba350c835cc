//! Nodes on the wire.

use crate::sessions::{ResourcesView, StopSession};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its agent is connected.
    pub connected: bool,
    /// What it offers.
    pub offers: ResourcesView,
    /// What living sessions have of it.
    pub used: ResourcesView,
    /// What its engine can do, by row.
    pub capabilities: Vec<CapabilityView>,
    /// Members that no session claims; they run on until an operator decides.
    pub unclaimed: Vec<String>,
    /// It is given nothing new; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainedView>,
    /// Names of the sessions that have something living there.
    #[serde(default)]
    pub sessions: Vec<String>,
}

/// Why a node is given nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainedView {
    /// The operator who asked; `insula` where a node was removed and has come back.
    pub by: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why; empty where nobody said.
    pub reason: String,
}

/// That a node is to be given nothing new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainNode {
    /// Why, at most 200 characters; users whose sessions wait are shown it.
    #[serde(default)]
    pub reason: String,
    /// How the sessions that live there are ended; absent if they are to go on.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::object::optional"
    )]
    pub stop: Option<StopSession>,
}

/// How a node is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveNodeQuery {
    /// Its machine is gone for ever: nothing that it had can ever run again.
    #[serde(default)]
    pub lost: bool,
}

/// Whether an engine has one row of the capability table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilityView {
    /// The row's name.
    pub name: String,
    /// It has it.
    pub has: bool,
    /// Why not, and what would change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A member that a node has and that no session claims, because the site's store is older than the
/// member or was lost. It runs on until an operator decides, or for a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnclaimedView {
    /// Its id: session, attempt and index.
    pub id: String,
    /// The name of its node.
    pub node: String,
    /// `assigned`, `preparing`, `starting`, `running`, `stopping` or `exited`.
    pub state: String,
    /// The name of the session that it was a part of, as the node knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Program and arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}
