//! From two samples to rates, and from those to the rows of the table.

use clap::ValueEnum;
use jiff::Timestamp;
use public_api::{NodeUsageView, SessionUsageView, SiteUsageView, UsageView};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SortKey {
    /// Most CPU first
    Cpu,
    /// Most memory first
    Memory,
    /// Most processes first
    Pids,
    /// Most bytes read per second first
    Read,
    /// Most bytes written per second first
    Write,
    /// The longest running first
    Time,
    /// By name
    Name,
}

impl SortKey {
    /// As the user writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Read => "read",
            Self::Write => "write",
            Self::Time => "time",
            Self::Name => "name",
        }
    }
}

/// What is used in a second; absent where two samples do not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    /// In thousandths of one CPU.
    pub(super) cpu_thousandths: Option<u64>,
    /// Bytes read in a second.
    pub(super) read: Option<u64>,
    /// Bytes written in a second.
    pub(super) write: Option<u64>,
}

/// Rates by session id and by node name.
#[derive(Debug, Default)]
pub(super) struct Rates {
    sessions: BTreeMap<String, Rate>,
    nodes: BTreeMap<String, Rate>,
}

impl Rates {
    /// What was used between two samples.
    pub(super) fn between(before: Option<&SiteUsageView>, after: &SiteUsageView) -> Self {
        let Some(before) = before else {
            return Self::default();
        };
        let old: BTreeMap<&str, &UsageView> = before
            .sessions
            .iter()
            .filter_map(|session| Some((session.id.as_str(), session.usage.as_ref()?)))
            .collect();
        let mut nodes: BTreeMap<String, Rate> = BTreeMap::new();
        let mut sessions = BTreeMap::new();
        for session in &after.sessions {
            let (Some(usage), Some(old)) = (&session.usage, old.get(session.id.as_str())) else {
                continue;
            };
            let rate = rate(old, usage);
            // A node's own sums fall whenever a session ends, so its rate is the sum of those of
            // its sessions; one that is spread over several nodes belongs to none.
            if let [node] = session.nodes.as_slice() {
                let sum = nodes.entry(node.clone()).or_default();
                sum.cpu_thousandths = sum_of(sum.cpu_thousandths, rate.cpu_thousandths);
                sum.read = sum_of(sum.read, rate.read);
                sum.write = sum_of(sum.write, rate.write);
            }
            sessions.insert(session.id.clone(), rate);
        }
        Self { sessions, nodes }
    }

    fn of(&self, session: &SessionUsageView) -> Rate {
        self.sessions.get(&session.id).copied().unwrap_or_default()
    }
}

fn sum_of(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// Counters that fell belong to a new attempt: then there is no rate yet.
fn rate(before: &UsageView, after: &UsageView) -> Rate {
    let time = after.sampled_micros.checked_sub(before.sampled_micros);
    let Some(time) = time.filter(|time| *time > 0) else {
        return Rate::default();
    };
    let per = |amount: u64, unit: u64| {
        let scaled = u128::from(amount) * u128::from(unit) / u128::from(time);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    let bytes = |before: Option<u64>, after: Option<u64>| {
        Some(per(after?.checked_sub(before?)?, 1_000_000))
    };
    let cpu = after.cpu_micros.checked_sub(before.cpu_micros);
    Rate {
        cpu_thousandths: cpu.map(|cpu| per(cpu, 1_000)),
        read: bytes(before.read_bytes, after.read_bytes),
        write: bytes(before.write_bytes, after.write_bytes),
    }
}

/// A session as a row.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) session: &'a SessionUsageView,
    pub(super) rate: Rate,
    /// Whole seconds since it first ran.
    pub(super) running_seconds: Option<i64>,
}

impl Row<'_> {
    fn used(&self, what: impl Fn(&UsageView) -> u64) -> u64 {
        self.session.usage.as_ref().map_or(0, what)
    }
}

/// Rows in the order that is asked for; the same order for the same numbers.
pub(super) fn rows<'a>(
    sample: &'a SiteUsageView,
    rates: &Rates,
    sort: SortKey,
    now: Timestamp,
) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = sample
        .sessions
        .iter()
        .map(|session| Row {
            session,
            rate: rates.of(session),
            running_seconds: running_seconds(session, now),
        })
        .collect();
    rows.sort_by(|one, other| one.session.name.cmp(&other.session.name));
    match sort {
        SortKey::Cpu => rows.sort_by_key(|row| Reverse(row.rate.cpu_thousandths)),
        SortKey::Memory => rows.sort_by_key(|row| Reverse(row.used(|used| used.memory_bytes))),
        SortKey::Pids => rows.sort_by_key(|row| Reverse(row.used(|used| used.pids))),
        SortKey::Read => rows.sort_by_key(|row| Reverse(row.rate.read)),
        SortKey::Write => rows.sort_by_key(|row| Reverse(row.rate.write)),
        SortKey::Time => rows.sort_by_key(|row| Reverse(row.running_seconds)),
        SortKey::Name => {}
    }
    rows
}

fn running_seconds(session: &SessionUsageView, now: Timestamp) -> Option<i64> {
    let since: Timestamp = session.started_at.as_ref()?.parse().ok()?;
    Some((now.as_second() - since.as_second()).max(0))
}

/// A node with what its sessions use in a second.
pub(super) fn node_lines<'a>(
    sample: &'a SiteUsageView,
    rates: &Rates,
) -> Vec<(&'a NodeUsageView, Rate)> {
    let rate = |node: &NodeUsageView| rates.nodes.get(&node.name).copied();
    let nodes = sample.nodes.iter();
    nodes
        .map(|node| (node, rate(node).unwrap_or_default()))
        .collect()
}

/// The sample with its rates: `cpu_percent` of one CPU, bytes per second; null where not known.
pub(super) fn json(sample: &SiteUsageView, rates: &Rates) -> serde_json::Value {
    let mut value = serde_json::to_value(sample).expect("a sample has string keys");
    for (index, session) in sample.sessions.iter().enumerate() {
        add_rate(&mut value["sessions"][index], rates.of(session));
    }
    for (index, (_, rate)) in node_lines(sample, rates).into_iter().enumerate() {
        add_rate(&mut value["nodes"][index], rate);
    }
    value
}

fn add_rate(value: &mut serde_json::Value, rate: Rate) {
    let percent = rate.cpu_thousandths.map(|cpu| {
        let tenths = u32::try_from(cpu).unwrap_or(u32::MAX);
        f64::from(tenths) / 10.0
    });
    value["cpu_percent"] = serde_json::json!(percent);
    value["read_bytes_per_second"] = serde_json::json!(rate.read);
    value["write_bytes_per_second"] = serde_json::json!(rate.write);
}

#[cfg(test)]
mod tests {
    use super::{Rate, Rates, SortKey, rows};
    use crate::commands::top::picture::samples;
    use jiff::Timestamp;

    #[test]
    fn rates_are_differences_over_the_nodes_own_time() {
        let (before, after) = samples();
        let rates = Rates::between(Some(&before), &after);
        let rate = |id: &str| rates.sessions.get(id).copied();
        let expected = Rate {
            cpu_thousandths: Some(1_500),
            read: Some(2_048),
            write: Some(0),
        };
        assert_eq!(rate("a"), Some(expected));
        let fell = rate("b").expect("it was there before");
        assert_eq!((fell.cpu_thousandths, fell.read), (None, None));
        assert_eq!(rate("c"), None, "it is new");
        assert_eq!(rates.nodes["here"].cpu_thousandths, Some(1_500));
        assert!(Rates::between(None, &after).sessions.is_empty());
    }

    #[test]
    fn rows_are_sorted_by_what_is_asked() {
        let (before, after) = samples();
        let rates = Rates::between(Some(&before), &after);
        for (key, expected) in [
            (SortKey::Cpu, "train,eval,waits"),
            (SortKey::Memory, "eval,train,waits"),
            (SortKey::Name, "eval,train,waits"),
            (SortKey::Time, "eval,train,waits"),
        ] {
            let rows = rows(&after, &rates, key, Timestamp::UNIX_EPOCH);
            let names: Vec<&str> = rows.iter().map(|row| row.session.name.as_str()).collect();
            assert_eq!(names.join(","), expected, "{key:?}");
        }
    }
}
