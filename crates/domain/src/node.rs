//! A machine with an agent, as the manager keeps it.

use crate::amounts::Slots;
use crate::ids::NodeId;
use crate::time::Timestamp;
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
    /// The incarnation of the site in which it last told all that it has; 0 if it never did, or not
    /// this leader, where the store was ever restored: what nobody claims is not stored.
    #[serde(default)]
    pub heard_in: u64,
    /// Nothing new is placed there until an operator takes it back; what runs there goes on.
    #[serde(default)]
    pub drain: Option<DrainOrder>,
    /// An operator has taken it out of the site; the record is kept to know it again.
    #[serde(default)]
    pub removal: Option<RemovalOrder>,
}

impl NodeRecord {
    /// It belongs to the site: no operator has removed it.
    pub fn is_present(&self) -> bool {
        self.removal.is_none()
    }
}

/// That a node is to be given nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// Who asked: an operator's name, or `insula` for a node that was removed and has come back.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
}

/// That a node no longer belongs to the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalOrder {
    /// Who asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// By the operator's word the machine is gone for ever: what it had can never run again.
    pub lost: bool,
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
