//! A machine with an agent, as the manager keeps it.

use crate::amounts::Slots;
use crate::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node: what it offers and whether it may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// Its name, usually the host name.
    pub name: String,
    /// The pool it belongs to.
    pub pool: String,
    /// What it offers to sessions.
    pub offers: Slots,
    /// What its engine can do and enforce, by row of the capability table.
    pub capabilities: BTreeMap<String, Capability>,
    /// Whether it is heard of.
    pub status: NodeStatus,
    /// The highest generation of the desired set it was sent.
    pub generation: u64,
    /// The incarnation of the site in which it last told all that it has; 0 if it never did.
    #[serde(default)]
    pub heard_in: u64,
}

/// Whether an engine has one row of the capability table, here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "has", rename_all = "snake_case")]
pub enum Capability {
    /// It has, and enforces it.
    Yes,
    /// It has not.
    No {
        /// Why, and what would change it.
        reason: String,
    },
}

/// Whether a node is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// Its agent is connected.
    Connected,
    /// Its agent is not connected; its sessions go on.
    Disconnected,
}
