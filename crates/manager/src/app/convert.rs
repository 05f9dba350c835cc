//! From the types of the core to those of the wire, by hand.

mod attempts;

use domain::amounts::show_decimal;
use domain::{
    Capability, Cause, CommandUser, Intention, MemberRecord, Mount, Network, NodeId, NodeRecord,
    Outcome, SessionKind, SessionRecord, SessionSpec, SessionState, StdinMode, Timestamp,
};
use lifecycle::manager::{LIMIT_ROWS, View};
use lifecycle::rows::SiteEvent;
use public_api::{
    KindView, MemberView, MountView, NetworkView, OutcomeView, PausedView, PublicEvent,
    ResourcesView, SessionView,
};
use std::collections::BTreeMap;

/// Where a command starts that does not say: the working directory of every session.
pub(crate) const DEFAULT_WORKDIR: &str = "/work";

/// Most characters of a reason that are shown.
const REASON_LIMIT: usize = 300;

/// RFC 3339 in UTC.
pub(crate) fn time_text(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0)
        .unwrap_or_default()
        .to_string()
}

pub(crate) fn session_view(
    record: &SessionRecord,
    nodes: &BTreeMap<NodeId, NodeRecord>,
) -> SessionView {
    let spec = &record.spec;
    let outcome = match &record.state {
        SessionState::Ended { outcome } => Some(outcome_view(outcome, nodes)),
        SessionState::Pending
        | SessionState::Placed
        | SessionState::Preparing
        | SessionState::Starting
        | SessionState::Running
        | SessionState::Stopping => None,
    };
    SessionView {
        id: record.id.to_string(),
        name: record.shown_name(),
        kind: kind_view(record.kind),
        domain: record.owner.domain.clone(),
        project: record.owner.project.clone(),
        user: record.owner.user.clone(),
        array: record.array.map(|(array, _)| array.to_string()),
        array_index: record.array.map(|(_, index)| index),
        state: record.state.word().to_owned(),
        priority: record.priority.number(),
        paused: paused_view(record),
        resuming: record.is_resuming(),
        removing: matches!(record.intention, Intention::Remove { .. }),
        outcome,
        image: spec.image.clone(),
        image_id: spec.imported.as_ref().map(|image| image.id.to_string()),
        run_as: match &spec.user {
            CommandUser::Ordinary => "1000".to_owned(),
            CommandUser::Named { name, .. } => name.clone(),
            CommandUser::Root => "root".to_owned(),
        },
        command: spec.command.clone(),
        workdir: spec
            .workdir
            .clone()
            .unwrap_or_else(|| DEFAULT_WORKDIR.to_owned()),
        resources: resources_view(spec),
        network: network_view(spec.network),
        mounts: spec.mounts.iter().map(mount_view).collect(),
        time_limit_ms: spec.time_limit.map(|limit| limit.0),
        merge: spec.merge_output,
        stdin: spec.stdin == StdinMode::Pipe,
        terminal: spec.terminal.is_some(),
        attempt: record.attempt,
        retry: record.retry.limit,
        retries_left: record.retry.limit.saturating_sub(record.retry.used),
        retry_at: record.retry.at.map(time_text),
        attempts: attempts::attempt_views(record, nodes),
        after: record.after.iter().map(attempts::after_view).collect(),
        not_enforced: LIMIT_ROWS
            .into_iter()
            .filter(|row| is_lacked(row, record, nodes))
            .map(str::to_owned)
            .collect(),
        disk_measured: record.spec.disk_limit.is_some() && is_lacked(OWN_DISK, record, nodes),
        members: record
            .members
            .iter()
            .map(|member| member_view(member, nodes))
            .collect(),
        created_at: time_text(record.created_at),
        started_at: record.started_at.map(time_text),
        ended_at: record.ended_at.map(time_text),
    }
}

/// A pause as it was asked for, and what its nodes have told of it.
pub(crate) fn paused_view(record: &SessionRecord) -> Option<PausedView> {
    let pause = record.pause.as_ref()?;
    Some(PausedView {
        by: pause.by.clone(),
        since: time_text(pause.at),
        in_force: record.stands_still(),
        problem: record.pause_problem().map(shortened),
    })
}

/// Disk limits are file systems.
const OWN_DISK: &str = "disk.own";

/// Whether a node of its members lacks a row; while it has none, whether every node does.
fn is_lacked(row: &str, record: &SessionRecord, nodes: &BTreeMap<NodeId, NodeRecord>) -> bool {
    let lacks =
        |node: &NodeRecord| matches!(node.capabilities.get(row), Some(Capability::No { .. }));
    let own: Vec<&NodeRecord> = record
        .members
        .iter()
        .filter_map(|member| nodes.get(&member.node))
        .collect();
    if own.is_empty() {
        !nodes.is_empty() && nodes.values().all(lacks)
    } else {
        own.into_iter().any(lacks)
    }
}

fn kind_view(kind: SessionKind) -> KindView {
    match kind {
        SessionKind::Interactive => KindView::Interactive,
        SessionKind::Batch => KindView::Batch,
        SessionKind::Service => KindView::Service,
    }
}

pub(crate) fn kind_of(kind: KindView) -> SessionKind {
    match kind {
        KindView::Interactive => SessionKind::Interactive,
        KindView::Batch => SessionKind::Batch,
        KindView::Service => SessionKind::Service,
    }
}

fn network_view(network: Network) -> NetworkView {
    match network {
        Network::None => NetworkView::None,
        Network::Host => NetworkView::Host,
        Network::Egress => NetworkView::Egress,
    }
}

pub(crate) fn network_of(network: NetworkView) -> Network {
    match network {
        NetworkView::None => Network::None,
        NetworkView::Host => Network::Host,
        NetworkView::Egress => Network::Egress,
    }
}

fn mount_view(mount: &Mount) -> MountView {
    MountView {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    }
}

pub(crate) fn resources_view(spec: &SessionSpec) -> ResourcesView {
    ResourcesView {
        cpu: show_decimal(spec.slots.cpu().into()),
        memory_bytes: spec.slots.memory(),
        pids: spec.pids_limit,
        disk_bytes: spec.disk_limit,
    }
}

fn member_view(member: &MemberRecord, nodes: &BTreeMap<NodeId, NodeRecord>) -> MemberView {
    MemberView {
        id: member.id.to_string(),
        node: node_name(member.node, nodes),
        state: member.state.word().to_owned(),
    }
}

pub(crate) fn node_name(node: NodeId, nodes: &BTreeMap<NodeId, NodeRecord>) -> String {
    nodes
        .get(&node)
        .map_or_else(|| node.to_string(), |record| record.name.clone())
}

/// One sentence of how it ended, with the node's name where the core only knows its id.
pub(crate) fn reason(outcome: &Outcome, nodes: &BTreeMap<NodeId, NodeRecord>) -> String {
    match outcome {
        Outcome::Lost { node } => format!("its node {} is gone", node_name(*node, nodes)),
        Outcome::Succeeded
        | Outcome::Failed { .. }
        | Outcome::Stopped { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Expired { .. } => shortened(&outcome.to_string()),
    }
}

/// A reason as people are shown it: some are made of what programs and file names say.
pub(crate) fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(REASON_LIMIT) {
        None => reason.to_owned(),
        Some((end, _)) => format!("{}...", &reason[..end]),
    }
}

pub(crate) fn outcome_view(outcome: &Outcome, nodes: &BTreeMap<NodeId, NodeRecord>) -> OutcomeView {
    let cause = match outcome {
        Outcome::Failed { cause } => cause_code(cause),
        Outcome::Cancelled {
            dependency: Some(_),
            ..
        } => "dependency_failed",
        Outcome::Succeeded
        | Outcome::Stopped { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Expired { .. }
        | Outcome::Lost { .. } => outcome.word(),
    };
    OutcomeView {
        outcome: outcome.word().to_owned(),
        cause: cause.to_owned(),
        reason: reason(outcome, nodes),
        exit_code: outcome.exit_code(),
    }
}

fn cause_code(cause: &Cause) -> &'static str {
    match cause {
        Cause::ExitCode { .. } => "exit_code",
        Cause::Signal { .. } => "signal",
        Cause::OutOfMemory { .. } => "out_of_memory",
        Cause::NodeOutOfMemory { .. } => "node_out_of_memory",
        Cause::CommandNotFound { .. } => "command_not_found",
        Cause::CommandNotRunnable { .. } => "command_not_runnable",
        Cause::PrepareFailed { .. } => "prepare_failed",
        Cause::StartFailed { .. } => "start_failed",
        Cause::DeadlineMissed { .. } => "deadline_missed",
        Cause::GuestDied => "guest_died",
        Cause::DiskLimit { .. } => "disk_limit",
        Cause::FilesIncomplete => "files_incomplete",
    }
}

/// The names that what an event is about has now, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventNames {
    pub(crate) session: Option<String>,
    pub(crate) array: Option<String>,
    pub(crate) node: Option<String>,
}

impl EventNames {
    /// As a view shows them.
    pub(crate) fn of(event: &SiteEvent, view: &View) -> Self {
        let session = event.session.and_then(|id| view.sessions.get(&id));
        let array = event.array.and_then(|id| view.array(id));
        let node = event.node.and_then(|id| view.nodes.get(&id));
        Self {
            session: session.map(|record| record.shown_name()),
            array: array.map(|record| record.name.to_string()),
            node: node.map(|record| record.name.clone()),
        }
    }
}

pub(crate) fn public_event(event: &SiteEvent, names: EventNames) -> PublicEvent {
    PublicEvent {
        number: event.number,
        at: time_text(event.at),
        session: event.session.map(|id| id.to_string()),
        array: event.array.map(|id| id.to_string()),
        session_name: names.session,
        array_name: names.array,
        node: event.node.map(|id| id.to_string()),
        node_name: names.node,
        code: event.code.clone(),
        message: event.message.clone(),
    }
}
