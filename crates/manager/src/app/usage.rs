//! What a session uses now, and what all of them do.

use crate::app::SiteService;
use crate::app::convert::{node_name, resources_view, time_text};
use crate::app::nodes::node_resources;
use crate::app::problems::of_node;
use crate::app::resolve::may_see;
use domain::{MemberId, MemberRecord, MemberState, NodeId, NodeStatus, Pressure, SessionRecord};
use lifecycle::manager::View;
use node_api::MemberUsage;
use public_api::{
    Caller, NodeUsageView, Problem, ProblemCode, SessionUsageView, SiteUsageView, UsageView,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a node: one that is slower is shown without what its members use.
const NODE_LIMIT: Duration = Duration::from_secs(3);

/// What nodes answered; a node that did not is not there.
type Samples = BTreeMap<NodeId, NodeSample>;

/// What one node answered.
#[derive(Debug)]
struct NodeSample {
    members: BTreeMap<MemberId, MemberUsage>,
    /// What is waited for on the node, if it tells.
    pressure: Option<Pressure>,
}

impl SiteService {
    pub(crate) async fn usage_of(
        &self,
        caller: &Caller,
        session: &str,
    ) -> Result<UsageView, Problem> {
        let record = self.resolve(caller, session).await?;
        self.usage_of_record(&record).await
    }

    pub(crate) async fn usage_of_record(
        &self,
        record: &SessionRecord,
    ) -> Result<UsageView, Problem> {
        let running = record.members.iter().filter(|member| runs(member));
        let mut sum = None;
        for member in running {
            let api = self.node_api(member.node)?;
            let usage = api
                .usage(member.id)
                .await
                .map_err(|error| of_node(&error))?;
            add(sum.get_or_insert_default(), &usage);
        }
        sum.ok_or_else(|| {
            let detail = format!("session {} is {}", record.shown_name(), record.state.word());
            Problem::new(ProblemCode::WrongState, detail)
        })
    }
}

impl SiteService {
    pub(crate) async fn usage_of_all(&self, caller: &Caller) -> SiteUsageView {
        let mine = |record: &&Arc<SessionRecord>| {
            !record.members.is_empty() && record.state.is_living() && may_see(caller, &record.owner)
        };
        let (mut records, all_nodes): (Vec<Arc<SessionRecord>>, Vec<NodeId>) =
            self.manager.shared.read(|view| {
                let records = view.sessions.values().filter(mine).cloned().collect();
                (records, view.present_nodes().map(|node| node.id).collect())
            });
        records.sort_by_key(|record| (record.created_at, record.id));
        let members = records.iter().flat_map(|record| &record.members);
        let asked: BTreeSet<NodeId> = if caller.operator {
            all_nodes.into_iter().collect()
        } else {
            members.map(|member| member.node).collect()
        };
        let samples = self.sample(asked).await;
        self.manager.shared.read(|view| SiteUsageView {
            sessions: records
                .iter()
                .map(|record| session_usage(record, view, &samples))
                .collect(),
            nodes: if caller.operator {
                node_usages(view, &samples)
            } else {
                Vec::new()
            },
        })
    }

    async fn sample(&self, nodes: BTreeSet<NodeId>) -> Samples {
        let asked = nodes.into_iter().map(|node| async move {
            let api = self.node_api(node).ok()?;
            let both = async { tokio::join!(api.all_usage(), api.pressure()) };
            let (usages, pressure) = tokio::time::timeout(NODE_LIMIT, both).await.ok()?;
            let usages = usages.ok()?.into_iter();
            let members = usages.map(|sample| (sample.member, sample.usage));
            let sample = NodeSample {
                members: members.collect(),
                pressure: pressure.ok().flatten(),
            };
            Some((node, sample))
        });
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }
}

fn session_usage(record: &SessionRecord, view: &View, samples: &Samples) -> SessionUsageView {
    let mut sum = None;
    let mut nodes = BTreeSet::new();
    for member in &record.members {
        nodes.insert(node_name(member.node, &view.nodes));
        let usage = samples
            .get(&member.node)
            .and_then(|sample| sample.members.get(&member.id));
        if let Some(usage) = usage {
            add(sum.get_or_insert_default(), usage);
        }
    }
    SessionUsageView {
        id: record.id.to_string(),
        name: record.shown_name(),
        user: record.owner.user.clone(),
        state: record.state.word().to_owned(),
        paused: record.stands_still(),
        resources: resources_view(&record.spec),
        members: record.spec.members,
        nodes: nodes.into_iter().collect(),
        started_at: record.started_at.map(time_text),
        usage: sum,
    }
}

fn node_usages(view: &View, samples: &Samples) -> Vec<NodeUsageView> {
    let mut used = view.used();
    let nodes = view.present_nodes().map(|node| {
        let (offers, used) = node_resources(node, &used.remove(&node.id).unwrap_or_default());
        let sample = samples.get(&node.id);
        let usage = sample.map(|sample| {
            let mut sum = UsageView::default();
            for usage in sample.members.values() {
                add(&mut sum, usage);
            }
            sum
        });
        NodeUsageView {
            name: node.name.clone(),
            connected: node.status == NodeStatus::Connected,
            drained: node.drain.is_some(),
            offers,
            used,
            pressure: sample.and_then(|sample| sample.pressure).map(Into::into),
            usage,
        }
    });
    nodes.collect()
}

fn runs(member: &MemberRecord) -> bool {
    matches!(
        member.state,
        MemberState::Running { .. } | MemberState::Stopping { .. }
    )
}

/// Sums of the members, but for shares of time, of which the largest is told; the peak is at most the sum of their peaks.
fn add(sum: &mut UsageView, usage: &MemberUsage) {
    sum.cpu_micros = sum.cpu_micros.saturating_add(usage.cpu_micros);
    sum.memory_bytes = sum.memory_bytes.saturating_add(usage.memory_bytes);
    sum.memory_peak_bytes = sum
        .memory_peak_bytes
        .saturating_add(usage.memory_peak_bytes);
    sum.pids = sum.pids.saturating_add(usage.pids);
    sum.out_of_memory_kills = sum
        .out_of_memory_kills
        .saturating_add(usage.out_of_memory_kills);
    for (sum, part) in [
        (&mut sum.disk_bytes, usage.disk_bytes),
        (&mut sum.read_bytes, usage.read_bytes),
        (&mut sum.write_bytes, usage.write_bytes),
    ] {
        if let Some(part) = part {
            *sum = Some(sum.unwrap_or(0).saturating_add(part));
        }
    }
    sum.pressure = match (sum.pressure, usage.pressure) {
        (Some(one), Some(other)) => Some(Pressure::from(one).joined(other).into()),
        (one, other) => one.or(other.map(Into::into)),
    };
    sum.sampled_micros = sum.sampled_micros.max(usage.sampled_micros);
}
