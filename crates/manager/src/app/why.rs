//! Why a session is where it is.

mod held;
mod pressure;

use crate::app::SiteService;
use crate::app::convert::{node_name, reason, shortened, time_text};
use crate::clock;
use domain::amounts::show_bytes;
use domain::{
    Cause, DrainOrder, ExitHow, ExitRecord, FailedDependency, Intention, LimitsReached,
    MemberState, NodeId, NodeRecord, Outcome, PauseOrder, SessionRecord, SessionState, SlotName,
    Span, Timestamp,
};
use guest_api::files::LOG_LIMIT_BYTES;
use held::{held_back, past_lines};
use lifecycle::manager::{Ahead, Explanation, explain, hold};
use pressure::{stall_lines, stall_remedy};
use public_api::{Caller, NodeReason, Problem, UsageView, Why, WhyReason};
use scheduler::{NodeReasons, Reason};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for a node to tell what a running session uses; the answer does without it then.
const USAGE_WAIT: Duration = Duration::from_secs(1);

/// What helps where the only node obeys another site: mostly a store that was removed or replaced.
const REFUSED_REMEDY: &str = "put back the `site.db` that the node knows; or, to give up what runs \
    there, take the site down and remove `node/obeyed` in its home";

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
            SessionState::Pending => match shared.read(|view| hold(view, &record)) {
                Some(hold) => held_back(&mut why, &hold, &record, now),
                None => {
                    let told = shared.read(|view| explain(view, record.id, now));
                    waits(&mut why, &told.unwrap_or_default(), &record);
                    refused_nodes(&mut why, self.manager.refusals.all());
                    why.evidence.extend(past_lines(&record));
                }
            },
            SessionState::Ended { outcome } => {
                shared.read(|view| has_ended(&mut why, &record, outcome, &view.nodes));
            }
            SessionState::Placed
            | SessionState::Preparing
            | SessionState::Starting
            | SessionState::Running
            | SessionState::Stopping => {
                shared.read(|view| is_on_its_way(&mut why, &record, &view.nodes, now));
                let images = tokio::time::timeout(USAGE_WAIT, self.image_progress(&record)).await;
                if let Ok(Some(progress)) = images {
                    why.summary = progress;
                }
                let usage = tokio::time::timeout(USAGE_WAIT, self.usage_of_record(&record)).await;
                if let Ok(Ok(usage)) = usage {
                    let slots = &record.spec.slots;
                    why.evidence.push(usage_line(&usage, slots.memory()));
                    if let Some(pressure) = usage.pressure.map(Into::into) {
                        why.evidence.extend(stall_lines(pressure, slots));
                        why.suggestion = why.suggestion.or(stall_remedy(pressure, slots));
                    }
                }
            }
        }
        Ok(why)
    }
}

fn waits(why: &mut Why, told: &Explanation, record: &SessionRecord) {
    let nodes = told.nodes.as_slice();
    why.nodes = nodes
        .iter()
        .map(|node| NodeReason {
            node: node.name.clone(),
            reasons: node.reasons.iter().map(why_reason).collect(),
        })
        .collect();
    why.suggestion = suggestion(nodes).or_else(|| urgency(told, record.name.as_str()));
    let ahead = told.ahead.as_ref();
    why.evidence
        .extend(ahead.map(|ahead| ahead_line(ahead, record)));
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

/// A node that the site does not take in may be the very one that is waited for.
fn refused_nodes(why: &mut Why, refused: Vec<String>) {
    if refused.is_empty() {
        return;
    }
    if why.nodes.is_empty() {
        why.summary = format!("no node was taken in: {}", refused.join("; "));
        why.suggestion = Some(REFUSED_REMEDY.to_owned());
    }
    let told = refused.iter().map(|reason| format!("refused: {reason}"));
    why.evidence.extend(told);
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
        Reason::Drained { order } => drained(order),
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
        Reason::BehindOthers {
            name,
            priority,
            waited,
            ..
        } => {
            let waited = Span(waited.0 / 1_000 * 1_000);
            let priority = match priority {
                usual if usual.is_usual() => String::new(),
                other => format!(", of priority {other},"),
            };
            format!("`{name}`{priority} has waited {waited} and goes first")
        }
        Reason::MembersShort { fits, asked } => {
            format!("{fits} of its {asked} members fit here, and all have to start together")
        }
    }
}

fn drained(order: &DrainOrder) -> String {
    let mut text = format!("it is drained by {}", order.by);
    if !order.reason.is_empty() {
        text.push_str(&format!(": {}", shortened(&order.reason)));
    }
    text
}

/// The smallest change that would start it now: less of one slot, on the node that is short of
/// least; else a drained node that an operator could take back.
fn suggestion(nodes: &[NodeReasons]) -> Option<String> {
    let drained = || {
        let only =
            |node: &&NodeReasons| matches!(node.reasons.as_slice(), [Reason::Drained { .. }]);
        let node = nodes.iter().find(only)?;
        let name = &node.name;
        Some(format!(
            "`insula node undrain {name}` (by an operator) would let it start there"
        ))
    };
    smaller(nodes).or_else(drained)
}

/// The least priority with which it would go before those that go before it now, where that is what
/// it waits for: no priority brings back a node or what its engine lacks. `name` is the one in its
/// record: an element has its array's there.
fn urgency(told: &Explanation, name: &str) -> Option<String> {
    let helps = |reason: &Reason| match reason {
        Reason::SlotShort { .. } | Reason::MembersShort { .. } | Reason::BehindOthers { .. } => {
            true
        }
        Reason::Disconnected | Reason::Drained { .. } | Reason::NotEnforceable { .. } => false,
    };
    let mut nodes = told.nodes.iter();
    if !nodes.any(|node| node.reasons.iter().all(helps)) {
        return None;
    }
    if let Some(enough) = told.past {
        return Some(format!(
            "`insula priority {name} {enough}` lets it go first"
        ));
    }
    let ahead = told.ahead.as_ref()?;
    let enough = ahead.enough?;
    let whom = match ahead.names.as_slice() {
        [only] => only,
        _ => "them",
    };
    let rest = "once there is room";
    Some(format!(
        "`insula priority {name} {enough}` lets it go before {whom}, {rest}"
    ))
}

/// Who waits too and goes first, where it fits: that alone is why nobody waits.
fn ahead_line(ahead: &Ahead, record: &SessionRecord) -> String {
    let (count, own) = (ahead.count, record.priority);
    let mut names = ahead.names.join(", ");
    if let Some(more @ 1..) = count.checked_sub(ahead.names.len()) {
        names += &format!(" and {more} more");
    }
    if count == 1 {
        format!(
            "1 of a higher priority than {own} waits too, and goes first where it fits: {names}"
        )
    } else {
        format!(
            "{count} of a higher priority than {own} wait too, and go first where they fit: {names}"
        )
    }
}

fn smaller(nodes: &[NodeReasons]) -> Option<String> {
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
            match &record.pause {
                Some(pause) => paused(why, record, pause, &place),
                None => {
                    let since = record.started_at.unwrap_or(record.created_at);
                    format!("it has been running on {place} for {}", seconds(since, now))
                }
            }
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

/// What a user sees of a pause: who asked, and whether the node has obeyed.
fn paused(why: &mut Why, record: &SessionRecord, pause: &PauseOrder, place: &str) -> String {
    let (by, since) = (&pause.by, time_text(pause.at));
    why.suggestion = Some(format!(
        "`insula resume {}` lets it go on",
        record.shown_name()
    ));
    if record.stands_still() {
        why.evidence
            .push("it keeps its CPUs, its memory and everything in it".to_owned());
        return format!("paused by {by} since {since}");
    }
    if let Some(problem) = record.pause_problem() {
        let problem = shortened(problem);
        why.evidence.push(format!("{place} tries again: {problem}"));
        return format!("{by} asked for a pause at {since}, and it could not be paused yet");
    }
    format!("{by} asked for a pause at {since}, and {place} has not told yet that it stands still")
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
            MemberState::Exited { record: exit } => {
                exit_lines(why, exit, &place);
                let limits = exit.limits_reached.as_deref();
                let lines = limits.map(|limits| limit_lines(limits, record.spec.pids_limit));
                why.evidence.extend(lines.into_iter().flatten());
                let system = exit.system.as_ref();
                why.evidence
                    .extend(system.map(|system| format!("{place} ran {system}")));
            }
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
    why.evidence.extend(past_lines(record));
    why.suggestion = remedy(outcome, record);
}

fn exit_lines(why: &mut Why, exit: &ExitRecord, place: &str) {
    let ran = match exit.started_at {
        Some(started) => format!("it ran on {place} for {}", seconds(started, exit.ended_at)),
        None => format!("it never ran on {place}"),
    };
    why.evidence.push(ran);
    if let ExitHow::NeverRan { reason } = &exit.how {
        why.evidence.push(shortened(reason));
    }
    why.evidence.extend(exit.reason.as_deref().map(shortened));
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

/// What its programs saw as an error of no clear cause, and output that is gone.
fn limit_lines(limits: &LimitsReached, pids_limit: u32) -> Vec<String> {
    let mut lines = Vec::new();
    if limits.pids_hits > 0 {
        let times = match limits.pids_hits {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        lines.push(format!(
            "the limit of {pids_limit} processes was reached {times}; ask for more with --pids"
        ));
    }
    let full = [
        ("/tmp", limits.tmp_full_bytes),
        ("/dev/shm", limits.shm_full_bytes),
    ];
    for (place, bytes) in full {
        if let Some(bytes) = bytes {
            let limit = show_bytes(bytes.into());
            lines.push(format!(
                "{place} was full: its limit is {limit}, a quarter of the memory; write to /work, \
                 or ask for more with --memory"
            ));
        }
    }
    if limits.files_incomplete {
        let text = "some of what it wrote is lost: its node's disk had no room for it, or failed";
        lines.push(text.to_owned());
    }
    let dropped = [
        ("stdout", limits.stdout_dropped_bytes),
        ("stderr", limits.stderr_dropped_bytes),
    ];
    for (stream, bytes) in dropped {
        if bytes > 0 {
            let (bytes, kept) = (show_bytes(bytes.into()), show_bytes(LOG_LIMIT_BYTES.into()));
            lines.push(format!(
                "{bytes} of {stream} were dropped: the log keeps {kept}"
            ));
        }
    }
    lines
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
            cause: Cause::NodeOutOfMemory { .. },
        } => Some(
            "something else used the node's memory, beyond what its sessions were given: \
             `insula doctor` and `insula top` tell of the node"
                .to_owned(),
        ),
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
        Outcome::Cancelled {
            dependency: Some(FailedDependency { name, .. }),
            ..
        } => Some(format!("`insula why {name}` tells how that came")),
        Outcome::Failed { .. }
        | Outcome::Succeeded
        | Outcome::Stopped { .. }
        | Outcome::Cancelled {
            dependency: None, ..
        }
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

#[cfg(test)]
mod tests;
