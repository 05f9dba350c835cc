//! What a node offers and can do, as it stands in the column `record` of `nodes`.

use super::specification::SlotsDocument;
use domain::{Capability, NodeRecord, NodeStatus, Slots};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The parts of a node that have no column, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeDocument<'a> {
    offers: SlotsDocument<'a>,
    capabilities: BTreeMap<Cow<'a, str>, CapabilityDocument>,
    /// Absent in rows of before stores told that they were restored.
    #[serde(default)]
    heard_in: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "has", rename_all = "snake_case", deny_unknown_fields)]
enum CapabilityDocument {
    Yes,
    No { reason: String },
}

impl<'a> NodeDocument<'a> {
    /// The document of `node`.
    pub(crate) fn of(node: &'a NodeRecord) -> Self {
        let capabilities = node.capabilities.iter();
        Self {
            offers: (&node.offers).into(),
            capabilities: capabilities
                .map(|(row, has)| (row.as_str().into(), has.into()))
                .collect(),
            heard_in: node.heard_in,
        }
    }

    /// The incarnation in which it was last heard.
    pub(crate) fn heard_in(&self) -> u64 {
        self.heard_in
    }

    /// What it says: offers and capabilities.
    pub(crate) fn into_parts(self) -> (Slots, BTreeMap<String, Capability>) {
        let capabilities = self.capabilities.into_iter();
        let capabilities = capabilities.map(|(row, has)| (row.into_owned(), has.into()));
        (self.offers.into(), capabilities.collect())
    }
}

/// The word in the column `status`.
pub(crate) fn status_word(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Connected => "connected",
        NodeStatus::Disconnected => "disconnected",
    }
}

/// The status of a word in the column `status`.
pub(crate) fn parse_status(word: &str) -> Option<NodeStatus> {
    [NodeStatus::Connected, NodeStatus::Disconnected]
        .into_iter()
        .find(|status| status_word(*status) == word)
}

impl From<&Capability> for CapabilityDocument {
    fn from(capability: &Capability) -> Self {
        match capability {
            Capability::Yes => Self::Yes,
            Capability::No { reason } => Self::No {
                reason: reason.clone(),
            },
        }
    }
}

impl From<CapabilityDocument> for Capability {
    fn from(row: CapabilityDocument) -> Self {
        match row {
            CapabilityDocument::Yes => Self::Yes,
            CapabilityDocument::No { reason } => Self::No { reason },
        }
    }
}
