//! Why a session is where it is.

use crate::app::SiteService;
use crate::app::convert::{node_name, reason, time_text};
use crate::clock;
use domain::amounts::show_bytes;
use domain::{
    Cause, ExitHow, ExitRecord, Intention, MemberState, NodeId, NodeRecord, Outcome, SessionRecord,
    SessionState, SlotName, Span, Timestamp,
};
use lifecycle::manager::explain;
use public_api::{Caller, NodeReason, Problem, UsageView, Why, WhyReason};
use scheduler::{NodeReasons, Reason};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for a node to tell what a running session uses; the answer does without it then.
const USAGE_WAIT: Duration = Duration::from_secs(1);

type NodeRecords = BTreeMap<NodeId, NodeRecord>;

impl SiteService {
    pub(crate) async fn why_session(&self, caller: &Caller, session: &str) -> Result<Why, Problem> {
        let record = self.resolve(caller, session).await?;
        let now = clock::now().wall;
        let mut why = Why {
            session: record.id.to_string(),
            state: record.state.word().to_owned(),
            summary: String::new(),
            nodes: Vec::new(),
            evidence: Vec::new(),
            suggestion: None,
        };
        let shared = &self.manager.shared;
        match &record.state {
            SessionState::Pending => {
                let reasons = shared.read(|view| explain(view, record.id, now));
                waits(&mut why, &reasons.unwrap_or_default());
            }
            SessionState::Ended { outcome } => {
                shared.read(|view| has_ended(&mut why, &record, outcome, &view.nodes));
            }
            SessionState::Placed
            | SessionState::Preparing
            | SessionState::Starting
            | SessionState::Running
            | SessionState::Stopping => {
                shared.read(|view| is_on_its_way(&mut why, &record, &view.nodes, now));
                let usage = tokio::time::timeout(USAGE_WAIT, self.usage_of_record(&record)).await;
                if let Ok(Ok(usage)) = usage {
                    why.evidence
                        .push(usage_line(&usage, record.spec.slots.memory()));
                }
            }
        }
        Ok(why)
    }
}

fn waits(why: &mut Why, nodes: &[NodeReasons]) {
    why.nodes = nodes
        .iter()
        .map(|node| NodeReason {
            node: node.name.clone(),
            reasons: node.reasons.iter().map(why_reason).collect(),
        })
        .collect();
    why.suggestion = suggestion(nodes);
    why.summary = if nodes.is_empty() {
        "no node has connected to this site yet".to_owned()
    } else if nodes.iter().any(|node| node.reasons.is_empty()) {
        "it is about to start".to_owned()
    } else if nodes.len() == 1 {
        let reasons: Vec<String> = nodes[0].reasons.iter().map(sentence).collect();
        format!(
            "{} cannot take it now: {}",
            nodes[0].name,
            reasons.join("; ")
        )
    } else {
        format!("none of the {} nodes can take it now", nodes.len())
    };
}

fn why_reason(reason: &Reason) -> WhyReason {
    WhyReason {
        code: reason.code().to_owned(),
        message: sentence(reason),
    }
}

fn sentence(reason: &Reason) -> String {
    match reason {
        Reason::Disconnected => "its agent is not connected".to_owned(),
        Reason::NotEnforceable { row, reason } => {
            format!("its engine cannot do `{row}`: {reason}")
        }
        Reason::SlotShort {
            slot,
            asked,
            free,
            offered,
            holders,
        } => {
            let (asked, free) = (slot.show((*asked).into()), slot.show(*free));
            let offered = slot.show(*offered);
            let mut text = format!("{asked} of {slot} is asked for, {free} of {offered} is free");
            let shares: Vec<String> = holders
                .iter()
                .map(|(name, amount)| format!("{name} has {}", slot.show(*amount)))
                .collect();
            if !shares.is_empty() {
                text.push_str(&format!(" ({})", shares.join(", ")));
            }
            text
        }
        Reason::BehindOthers { name, waited, .. } => {
            let waited = Span(waited.0 / 1_000 * 1_000);
            format!("`{name}` has waited {waited} and goes first")
        }
        Reason::MembersShort { fits, asked } => {
            format!("{fits} of its {asked} members fit here, and all have to start together")
        }
    }
}

/// The smallest change that would start it now: less of one slot, on the node that is short of
/// least.
fn suggestion(nodes: &[NodeReasons]) -> Option<String> {
    let mut best: Option<(u128, String)> = None;
    for node in nodes {
        let [
            Reason::SlotShort {
                slot, asked, free, ..
            },
        ] = node.reasons.as_slice()
        else {
            continue;
        };
        let asked = u128::from(*asked);
        let Some(option) = option_for(slot, *free) else {
            continue;
        };
        // In thousandths of what was asked for, so that slots can be compared.
        let missing = asked.saturating_sub(*free).saturating_mul(1_000) / asked.max(1);
        if best.as_ref().is_none_or(|(least, _)| missing < *least) {
            best = Some((
                missing,
                format!("with `{option}` it could start on {} now", node.name),
            ));
        }
    }
    best.map(|(_, text)| text)
}

/// The option that asks for no more than is free; `None` where that is below the least.
fn option_for(slot: &SlotName, free: u128) -> Option<String> {
    let least_cpu = u128::from(domain::amounts::LEAST_CPU);
    let least_memory = u128::from(domain::amounts::LEAST_MEMORY);
    match slot.0.as_str() {
        SlotName::CPU if free >= least_cpu => Some(format!("--cpu {}", slot.show(free))),
        SlotName::MEMORY if free >= least_memory => Some(format!("--memory {}m", free >> 20)),
        _ => None,
    }
}

fn is_on_its_way(why: &mut Why, record: &SessionRecord, nodes: &NodeRecords, now: Timestamp) {
    let places: Vec<String> = record
        .members
        .iter()
        .map(|member| node_name(member.node, nodes))
        .collect();
    let place = places.join(", ");
    why.summary = match &record.state {
        SessionState::Placed => format!("it was placed on {place}, which is being told"),
        SessionState::Preparing => format!("{place} prepares its files"),
        SessionState::Starting => format!("{place} starts it"),
        SessionState::Stopping => stopping(record, &place),
        SessionState::Running | SessionState::Pending | SessionState::Ended { .. } => {
            let since = record.started_at.unwrap_or(record.created_at);
            format!("it has been running on {place} for {}", seconds(since, now))
        }
    };
    why.evidence.extend(
        record
            .members
            .iter()
            .map(|member| format!("member {} is {}", member.id.index, member.state.word())),
    );
    if let Some(started) = record.started_at {
        why.evidence
            .push(format!("it runs since {}", time_text(started)));
    }
    if let Some(limit) = record.spec.time_limit {
        why.evidence.push(format!("its time limit is {limit}"));
    }
}

fn stopping(record: &SessionRecord, place: &str) -> String {
    match &record.intention {
        Intention::Run => format!("its main member has ended, {place} ends the rest"),
        Intention::Stop { order } | Intention::Remove { order } => {
            format!("{} asked for its end at {}", order.by, time_text(order.at))
        }
        Intention::Fail { cause, .. } => format!("it is being ended: {cause}"),
    }
}

fn has_ended(why: &mut Why, record: &SessionRecord, outcome: &Outcome, nodes: &NodeRecords) {
    why.summary = reason(outcome, nodes);
    why.evidence
        .push(format!("exit code {}", outcome.exit_code()));
    for member in &record.members {
        let place = node_name(member.node, nodes);
        match &member.state {
            MemberState::Exited { record: exit } => exit_lines(why, exit, &place),
            MemberState::Gone => why
                .evidence
                .push(format!("{place} has nothing of it any more")),
            MemberState::Assigned
            | MemberState::Preparing
            | MemberState::Starting
            | MemberState::Running { .. }
            | MemberState::Stopping { .. } => {}
        }
    }
    if let Intention::Stop { order } | Intention::Remove { order } = &record.intention {
        let at = time_text(order.at);
        why.evidence
            .push(format!("{} asked for its end at {at}", order.by));
    }
    if let Some(ended) = record.ended_at {
        why.evidence
            .push(format!("it ended at {}", time_text(ended)));
    }
    why.suggestion = remedy(outcome, record);
}

fn exit_lines(why: &mut Why, exit: &ExitRecord, place: &str) {
    let ran = match exit.started_at {
        Some(started) => format!("it ran on {place} for {}", seconds(started, exit.ended_at)),
        None => format!("it never ran on {place}"),
    };
    why.evidence.push(ran);
    if let ExitHow::NeverRan { reason } = &exit.how {
        why.evidence.push(reason.clone());
    }
    if let Some(memory) = &exit.out_of_memory {
        let limit = show_bytes(memory.limit_bytes.into());
        let peak = memory
            .peak_bytes
            .map(|peak| format!(", the peak was {}", show_bytes(peak.into())));
        let process = memory
            .process
            .as_ref()
            .map(|name| format!("; the last was `{name}`"));
        why.evidence.push(format!(
            "the kernel ended {} of its processes at the memory limit of {limit}{}{}",
            memory.kills,
            peak.unwrap_or_default(),
            process.unwrap_or_default()
        ));
    }
    let written = (exit.stdout_bytes, exit.stderr_bytes);
    why.evidence.push(format!(
        "it wrote {} bytes to stdout and {} to stderr",
        written.0, written.1
    ));
}

/// What would help the next time, where that is known.
fn remedy(outcome: &Outcome, record: &SessionRecord) -> Option<String> {
    match outcome {
        Outcome::Failed {
            cause: Cause::OutOfMemory { limit_bytes, .. },
        } => {
            let twice = (limit_bytes >> 20).saturating_mul(2);
            Some(format!("ask for more: `--memory {twice}m`"))
        }
        Outcome::Failed {
            cause: Cause::CommandNotFound { program },
        } => Some(format!(
            "check that `{program}` is in the image `{}`",
            record.spec.image
        )),
        Outcome::Expired { limit } => {
            let twice = Span(limit.0.saturating_mul(2));
            Some(format!("give it more time: `--time {twice}`"))
        }
        Outcome::Failed { .. }
        | Outcome::Succeeded
        | Outcome::Stopped { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Lost { .. } => None,
    }
}

fn usage_line(usage: &UsageView, limit: u64) -> String {
    format!(
        "it uses {} of {} memory and {} processes, and has used {} of CPU time",
        show_bytes(usage.memory_bytes.into()),
        show_bytes(limit.into()),
        usage.pids,
        Span(usage.cpu_micros / 1_000)
    )
}

/// A length of time to the second; to the millisecond where it is shorter than one.
fn seconds(from: Timestamp, to: Timestamp) -> Span {
    let ms = to.micros_since(from) / 1_000;
    if ms < 1_000 {
        Span(ms)
    } else {
        Span(ms / 1_000 * 1_000)
    }
}
