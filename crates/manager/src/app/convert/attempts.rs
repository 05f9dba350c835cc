//! Attempts of a session, and what it waits for, on the wire.

use super::{node_name, outcome_view, time_text};
use domain::{
    Dependency, DependencyTarget, ExitRecord, MemberState, Need, NodeId, NodeRecord, PastAttempt,
    SessionRecord, SessionState, Timestamp,
};
use public_api::{AfterNeed, AfterView, AttemptView};
use std::collections::BTreeMap;

type NodeRecords = BTreeMap<NodeId, NodeRecord>;

/// All attempts, the first first.
pub(super) fn attempt_views(record: &SessionRecord, nodes: &NodeRecords) -> Vec<AttemptView> {
    let past = record.past.iter().map(|past| past_view(past, nodes));
    past.chain(current(record, nodes)).collect()
}

fn past_view(past: &PastAttempt, nodes: &NodeRecords) -> AttemptView {
    AttemptView {
        attempt: past.attempt,
        node: node_name(past.node, nodes),
        outcome: Some(outcome_view(&past.outcome, nodes)),
        started_at: past.started_at.map(time_text),
        ended_at: Some(time_text(past.ended_at)),
    }
}

fn current(record: &SessionRecord, nodes: &NodeRecords) -> Option<AttemptView> {
    let main = record.members.first()?;
    let outcome = match &record.state {
        SessionState::Ended { outcome } => Some(outcome_view(outcome, nodes)),
        SessionState::Pending
        | SessionState::Placed
        | SessionState::Preparing
        | SessionState::Starting
        | SessionState::Running
        | SessionState::Stopping => None,
    };
    let started = match &main.state {
        MemberState::Running { since } => Some(*since),
        MemberState::Stopping { since } => *since,
        MemberState::Exited {
            record: ExitRecord { started_at, .. },
        } => *started_at,
        MemberState::Assigned
        | MemberState::Preparing
        | MemberState::Starting
        | MemberState::Gone => None,
    };
    let started: Option<Timestamp> = started.or(record.started_at);
    Some(AttemptView {
        attempt: record.attempt,
        node: node_name(main.node, nodes),
        outcome,
        started_at: started.map(time_text),
        ended_at: record.ended_at.map(time_text),
    })
}

pub(super) fn after_view(dependency: &Dependency) -> AfterView {
    AfterView {
        id: match dependency.on {
            DependencyTarget::Session(id) => id.to_string(),
            DependencyTarget::Array(id) => id.to_string(),
        },
        name: dependency.name.clone(),
        need: match dependency.need {
            Need::Succeeded => AfterNeed::Succeeded,
            Need::Ended => AfterNeed::Ended,
        },
        state: dependency.state.word().to_owned(),
    }
}
