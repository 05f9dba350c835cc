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
