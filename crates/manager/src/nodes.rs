//! How nodes are called, and how they are told what is wanted of them.

use domain::NodeId;
use node_api::{Desired, NodeApi, NodeError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tasks::TaskRunner;
use tokio::sync::watch;

/// Longest wait for a node to take a desired set in.
const TELL_TIMEOUT: Duration = Duration::from_secs(30);
/// First and longest pause between two tries to tell a node.
const TELL_PAUSE: Duration = Duration::from_millis(100);
const TELL_PAUSE_LIMIT: Duration = Duration::from_secs(5);
/// Most nodes whose refusal is remembered; the one with the least id is forgotten for another.
const REFUSALS_LIMIT: usize = 100;

/// The nodes that can be called.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    links: RwLock<BTreeMap<NodeId, Link>>,
}

#[derive(Debug)]
struct Link {
    api: Arc<dyn NodeApi>,
    /// Only the latest set counts, so a slow node never has a queue.
    desired: watch::Sender<Option<Desired>>,
}

impl Nodes {
    /// Calls `node` through `api` from now on. The task that told it through an earlier one ends.
    pub(crate) fn connect(&self, node: NodeId, api: Arc<dyn NodeApi>, tasks: &TaskRunner) {
        let (desired, latest) = watch::channel(None);
        let link = Link {
            api: Arc::clone(&api),
            desired,
        };
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, link);
        tasks.spawn_cancellable("tell a node", tell_for_ever(node, api, latest));
    }

    pub(crate) fn disconnect(&self, node: NodeId) {
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&node);
    }

    /// How to call a node.
    pub(crate) fn api(&self, node: NodeId) -> Option<Arc<dyn NodeApi>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&node).map(|link| Arc::clone(&link.api))
    }

    /// Has a node told what is wanted of it, as soon as it can be.
    pub(crate) fn tell(&self, node: NodeId, desired: Desired) {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&node) {
            link.desired.send_replace(Some(desired));
        }
    }
}

/// Nodes whose hello was refused, and why: an agent tries again for ever, and without this only
/// the log would tell.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    reasons: Mutex<BTreeMap<NodeId, String>>,
}

impl Refusals {
    /// Remembers it; logged when it is new.
    pub(crate) fn note(&self, node: NodeId, reason: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reasons.insert(node, reason.to_owned());
        if before.as_deref() != Some(reason) {
            tracing::error!(node.id = %node, "a node is not taken in: {reason}");
        }
        if reasons.len() > REFUSALS_LIMIT {
            reasons.pop_first();
        }
    }

    /// It was taken in.
    pub(crate) fn forget(&self, node: NodeId) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.remove(&node);
    }

    /// The reason of each, which names the node.
    pub(crate) fn all(&self) -> Vec<String> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.values().cloned().collect()
    }
}

async fn tell_for_ever(
    node: NodeId,
    api: Arc<dyn NodeApi>,
    mut latest: watch::Receiver<Option<Desired>>,
) {
    while latest.changed().await.is_ok() {
        let mut pause = TELL_PAUSE;
        loop {
            let Some(desired) = latest.borrow_and_update().clone() else {
                break;
            };
            let generation = desired.generation;
            let told = tokio::time::timeout(TELL_TIMEOUT, api.desired(desired)).await;
            match told {
                Ok(Ok(())) => break,
                Ok(Err(error @ NodeError::Refused { .. })) => {
                    tracing::warn!(node.id = %node, generation, %error, "node {node} refused");
                    break;
                }
                Ok(Err(error)) => {
                    tracing::warn!(node.id = %node, generation, %error, "cannot tell node {node}");
                }
                Err(_) => {
                    tracing::warn!(node.id = %node, generation, "node {node} does not answer");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(TELL_PAUSE_LIMIT);
        }
    }
}
