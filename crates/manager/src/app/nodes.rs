//! The site's nodes, for operators.

use crate::app::SiteService;
use crate::app::convert::time_text;
use crate::app::problems::{field, no_such_node};
use crate::app::stop::{accepted, checked_order};
use crate::clock;
use crate::leader::Request;
use domain::amounts::show_decimal;
use domain::{Capability, DrainOrder, NodeId, NodeRecord, NodeStatus, RemovalOrder, SlotName};
use lifecycle::manager::{NodeOrder, View};
use public_api::{
    Caller, CapabilityView, DrainNode, DrainedView, NodeView, Problem, ProblemCode, ResourcesView,
};
use std::collections::BTreeMap;

/// Most characters of the reason of a drain.
const REASON_LIMIT: usize = 200;

impl SiteService {
    pub(crate) fn list_nodes(&self, caller: &Caller) -> Result<Vec<NodeView>, Problem> {
        only_operators(caller)?;
        Ok(self.manager.shared.read(|view| {
            let mut used = view.used();
            let mut sessions = living_by_node(view);
            let nodes = view.present_nodes();
            nodes
                .map(|node| {
                    let mut shown =
                        node_view(view, node, &used.remove(&node.id).unwrap_or_default());
                    shown.sessions = sessions.remove(&node.id).unwrap_or_default();
                    shown
                })
                .collect()
        }))
    }

    pub(crate) fn show_node(&self, caller: &Caller, node: &str) -> Result<NodeView, Problem> {
        only_operators(caller)?;
        let id = self.present_node(node)?.to_string();
        let mut all = self.list_nodes(caller)?.into_iter();
        let found = all.find(|shown| shown.id == id);
        found.ok_or_else(|| no_such_node(node))
    }

    pub(crate) async fn order_drain(
        &self,
        caller: &Caller,
        node: &str,
        asked: DrainNode,
    ) -> Result<NodeView, Problem> {
        only_operators(caller)?;
        let reason = checked_reason(asked.reason)?;
        let stop = asked.stop.map(|order| checked_order(caller, &order));
        let stop = stop.transpose()?;
        let id = self.present_node(node)?;
        let order = DrainOrder {
            by: caller.user.clone(),
            at: clock::now().wall,
            reason,
        };
        self.order_node(id, NodeOrder::Drain { order, stop })
            .await?;
        self.show_node(caller, &id.to_string())
    }

    pub(crate) async fn take_back(&self, caller: &Caller, node: &str) -> Result<NodeView, Problem> {
        only_operators(caller)?;
        let id = self.present_node(node)?;
        let by = caller.user.clone();
        self.order_node(id, NodeOrder::Undrain { by }).await?;
        self.show_node(caller, &id.to_string())
    }

    pub(crate) async fn take_out(
        &self,
        caller: &Caller,
        node: &str,
        lost: bool,
    ) -> Result<(), Problem> {
        only_operators(caller)?;
        // Asked again, it names one that is removed already.
        let id = self.find_node(node, |_| true)?;
        if self.manager.is_own_node(id) {
            let detail = format!("the node {} is this machine's own", self.node_name(id));
            let hint = "it goes with its site, by `insula down`; `insula node drain` keeps new \
                        sessions away from it";
            return Err(Problem::new(ProblemCode::NodeInUse, detail).hint(hint));
        }
        let order = RemovalOrder {
            by: caller.user.clone(),
            at: clock::now().wall,
            lost,
        };
        self.order_node(id, NodeOrder::Remove { order }).await
    }

    async fn order_node(&self, node: NodeId, order: NodeOrder) -> Result<(), Problem> {
        let request = Request::OrderNode(node, Box::new(order));
        accepted(self.manager.leader.request(request).await?)
    }

    fn present_node(&self, asked: &str) -> Result<NodeId, Problem> {
        self.find_node(asked, NodeRecord::is_present)
    }

    /// The node that an id or a name means; one that belongs to the site before a removed one.
    fn find_node(
        &self,
        asked: &str,
        counts: impl Fn(&NodeRecord) -> bool,
    ) -> Result<NodeId, Problem> {
        self.manager.shared.read(|view| {
            let means = |node: &&NodeRecord| {
                counts(node) && (node.name == asked || node.id.to_string() == asked)
            };
            let mut found: Vec<&NodeRecord> = view.nodes.values().filter(means).collect();
            found.sort_by_key(|node| {
                let removed_at = node.removal.as_ref().map(|order| order.at);
                (removed_at.is_some(), std::cmp::Reverse(removed_at))
            });
            match found.as_slice() {
                [] => Err(no_such_node(asked)),
                [one, other, ..] if one.is_present() && other.is_present() => {
                    let ids: Vec<String> = found.iter().map(|node| node.id.to_string()).collect();
                    let detail = format!("`{asked}` is the name of the nodes {}", ids.join(", "));
                    Err(Problem::new(ProblemCode::AmbiguousNode, detail))
                }
                [node, ..] => Ok(node.id),
            }
        })
    }
}

fn only_operators(caller: &Caller) -> Result<(), Problem> {
    if caller.operator {
        return Ok(());
    }
    let detail = "only operators see nodes";
    Err(Problem::new(ProblemCode::Forbidden, detail))
}

fn checked_reason(reason: String) -> Result<String, Problem> {
    if reason.chars().count() > REASON_LIMIT {
        let detail = format!("it has more than {REASON_LIMIT} characters");
        return Err(field("reason", detail));
    }
    if reason.chars().any(char::is_control) {
        return Err(field("reason", "it has control characters"));
    }
    Ok(reason)
}

/// Names of the sessions that have something living on each node.
fn living_by_node(view: &View) -> BTreeMap<NodeId, Vec<String>> {
    let mut names: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for record in view.living_sessions() {
        let living = record.members.iter().filter(|m| m.state.occupies());
        let nodes: std::collections::BTreeSet<NodeId> = living.map(|m| m.node).collect();
        for node in nodes {
            names.entry(node).or_default().push(record.shown_name());
        }
    }
    names
}

pub(crate) fn drained_view(order: &DrainOrder) -> DrainedView {
    DrainedView {
        by: order.by.clone(),
        since: time_text(order.at),
        reason: order.reason.clone(),
    }
}

fn node_view(view: &View, node: &NodeRecord, used: &BTreeMap<SlotName, u128>) -> NodeView {
    let unclaimed = view.unclaimed.get(&node.id).into_iter().flatten();
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
        unclaimed: unclaimed.map(|member| member.id.to_string()).collect(),
        drained: node.drain.as_ref().map(drained_view),
        sessions: Vec::new(),
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
