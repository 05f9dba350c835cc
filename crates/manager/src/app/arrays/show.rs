//! Arrays and their elements on the wire.

use crate::app::convert::{node_name, outcome_view, paused_view, resources_view, time_text};
use database::ElementCount;
use domain::{ArrayRecord, NodeId, NodeRecord, SessionRecord, SessionState};
use public_api::{ArrayView, ElementView};
use std::collections::BTreeMap;

pub(super) fn array_view(record: &ArrayRecord, counts: &[ElementCount], paused: u32) -> ArrayView {
    let mut states: BTreeMap<String, u32> = BTreeMap::new();
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let mut living = 0;
    for count in counts {
        *states.entry(count.state.clone()).or_default() += count.count;
        match &count.outcome {
            Some(outcome) => *outcomes.entry(outcome.clone()).or_default() += count.count,
            None => living += count.count,
        }
    }
    let last_end = counts.iter().filter_map(|count| count.last_end).max();
    ArrayView {
        id: record.id.to_string(),
        name: record.name.to_string(),
        domain: record.owner.domain.clone(),
        project: record.owner.project.clone(),
        user: record.owner.user.clone(),
        size: record.size,
        throttle: record.throttle,
        priority: record.priority.number(),
        retry: record.retry,
        living,
        paused,
        states,
        outcomes,
        first_index: record.first_index,
        last_index: record.last_index,
        parameters: record.parameters.clone(),
        image: record.template.image.clone(),
        command: record.template.command.clone(),
        resources: resources_view(&record.template),
        created_at: time_text(record.created_at),
        ended_at: last_end.filter(|_| living == 0).map(time_text),
    }
}

pub(super) fn element_view(
    record: &SessionRecord,
    array: &ArrayRecord,
    nodes: &BTreeMap<NodeId, NodeRecord>,
) -> ElementView {
    let outcome = match &record.state {
        SessionState::Ended { outcome } => Some(outcome_view(outcome, nodes)),
        SessionState::Pending
        | SessionState::Placed
        | SessionState::Preparing
        | SessionState::Starting
        | SessionState::Running
        | SessionState::Stopping => None,
    };
    let last = record.past.last();
    let main = record.members.first().map(|main| main.node);
    let waits_again = record.members.is_empty();
    let began = if waits_again {
        last.and_then(|past| past.started_at)
    } else {
        record.started_at
    };
    let parameters = array.parameters.iter().filter_map(|name| {
        let value = record.spec.env.get(name)?;
        Some((name.clone(), value.clone()))
    });
    let ran = record.started_at.zip(record.ended_at);
    ElementView {
        index: record.array.map_or(0, |(_, index)| index),
        id: record.id.to_string(),
        state: record.state.word().to_owned(),
        paused: paused_view(record),
        resuming: record.is_resuming(),
        outcome,
        attempt: record.attempt,
        node: main
            .or(last.map(|past| past.node))
            .map(|node| node_name(node, nodes)),
        parameters: parameters.collect(),
        started_at: began.map(time_text),
        ended_at: record.ended_at.map(time_text),
        ran_ms: ran.map(|(from, to)| to.micros_since(from) / 1_000),
    }
}
