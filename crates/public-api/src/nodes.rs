//! Nodes on the wire.

use crate::sessions::ResourcesView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
