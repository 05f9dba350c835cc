//! The site's nodes, for operators.

use crate::app::SiteService;
use domain::amounts::show_decimal;
use domain::{Capability, NodeRecord, NodeStatus, SlotName};
use public_api::{Caller, CapabilityView, NodeView, Problem, ProblemCode, ResourcesView};
use std::collections::BTreeMap;

impl SiteService {
    pub(crate) fn list_nodes(&self, caller: &Caller) -> Result<Vec<NodeView>, Problem> {
        if !caller.operator {
            let detail = "only operators see nodes";
            return Err(Problem::new(ProblemCode::Forbidden, detail));
        }
        Ok(self.manager.shared.read(|view| {
            let mut used = view.used();
            let nodes = view.nodes.values();
            nodes
                .map(|node| {
                    let unclaimed = view.unclaimed.get(&node.id).into_iter().flatten();
                    let unclaimed = unclaimed.map(|member| member.id.to_string()).collect();
                    node_view(node, &used.remove(&node.id).unwrap_or_default(), unclaimed)
                })
                .collect()
        }))
    }
}

fn node_view(
    node: &NodeRecord,
    used: &BTreeMap<SlotName, u128>,
    unclaimed: Vec<String>,
) -> NodeView {
    let (offers, used) = node_resources(node, used);
    let capabilities = node.capabilities.iter().map(|(name, capability)| {
        let (has, reason) = match capability {
            Capability::Yes => (true, None),
            Capability::No { reason } => (false, Some(reason.clone())),
        };
        CapabilityView {
            name: name.clone(),
            has,
            reason,
        }
    });
    NodeView {
        id: node.id.to_string(),
        name: node.name.clone(),
        pool: node.pool.clone(),
        connected: node.status == NodeStatus::Connected,
        offers,
        used,
        capabilities: capabilities.collect(),
        unclaimed,
    }
}

/// What a node offers, and what of it is given.
pub(crate) fn node_resources(
    node: &NodeRecord,
    used: &BTreeMap<SlotName, u128>,
) -> (ResourcesView, ResourcesView) {
    let sum = |slot: SlotName| used.get(&slot).copied().unwrap_or(0);
    (
        resources(node.offers.cpu().into(), node.offers.memory().into()),
        resources(sum(SlotName::cpu()), sum(SlotName::memory())),
    )
}

/// Nodes count neither processes nor disk: those limits are each session's own.
fn resources(cpu: u128, memory: u128) -> ResourcesView {
    ResourcesView {
        cpu: show_decimal(cpu),
        memory_bytes: u64::try_from(memory).unwrap_or(u64::MAX),
        pids: 0,
        disk_bytes: None,
    }
}
