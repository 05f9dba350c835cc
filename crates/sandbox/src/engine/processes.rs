//! What a container uses, counted from its processes: for where it has no control group.
//!
//! The guest is the first process of its pid namespace, so everything inside descends from it, also
//! what lost its parent. Of processes that have ended it knows the CPU time, for it reaped them or
//! those who did. Memory that processes share is counted for each of them, and what lies in tmpfs
//! not at all; the peak is the sum of the peaks of those that live. There is no control group, so
//! no count of what a limit refused either.

use engine_api::Usage;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Most processes of the node that are looked at.
const PROCESSES_LIMIT: usize = 100_000;
const KIB: u64 = 1_024;
const MICROS: u64 = 1_000_000;

/// What one process tells of itself in /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    /// Its own and that of the descendants it reaped, in clock ticks.
    ticks: u64,
    threads: u64,
}

/// What `guest` and all that descend from it use; `None` if it is not there.
pub(super) fn usage(guest: i32) -> Option<Usage> {
    let mut stats = BTreeMap::new();
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in numbers.take(PROCESSES_LIMIT) {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"));
        if let Some(stat) = text.ok().as_deref().and_then(parse) {
            stats.insert(pid, stat);
        }
    }
    stats.get(&guest)?;
    let mut usage = Usage::default();
    let mut ticks = 0_u64;
    for pid in descendants(&stats, guest) {
        let stat = stats[&pid];
        ticks = ticks.saturating_add(stat.ticks);
        usage.pids += stat.threads;
        let status = Path::new("/proc").join(pid.to_string()).join("status");
        let status = fs::read_to_string(status).unwrap_or_default();
        let (now, peak) = (kibibytes(&status, "VmRSS:"), kibibytes(&status, "VmHWM:"));
        usage.memory_bytes += now * KIB;
        usage.memory_peak_bytes += peak.max(now) * KIB;
    }
    usage.cpu_micros = ticks.saturating_mul(MICROS) / rustix::param::clock_ticks_per_second();
    Some(usage)
}

/// `first` and everything below it.
fn descendants(stats: &BTreeMap<i32, Stat>, first: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in stats {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut found = vec![first];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // Each has one parent, so nothing is found twice; the list was read piece by piece, so a
        // number may have passed on, but never into a circle that holds `first`.
        let below = children.remove(pid).unwrap_or_default();
        found.extend(below.into_iter().filter(|child| *child != first));
        next += 1;
    }
    found
}

/// Fields are counted behind the name, which may hold anything: proc(5).
fn parse(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    // utime, stime, and those of the children that were waited for.
    let times = [11, 12, 13, 14].map(number);
    let ticks = times
        .into_iter()
        .try_fold(0, |sum, ticks| Some(sum + ticks?))?;
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks,
        threads: number(17)?,
    })
}

fn kibibytes(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Stat, descendants, kibibytes, parse, usage};
    use std::collections::BTreeMap;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 5 0 99 1 2";
        let expected = Stat {
            parent: 3,
            ticks: 100,
            threads: 5,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("7 (a) S 3"), None);
        assert_eq!(parse(""), None);
        assert_eq!(kibibytes("VmPeak:\t 9 kB\nVmRSS:\t 12 kB\n", "VmRSS:"), 12);
        assert_eq!(kibibytes("", "VmRSS:"), 0);
    }

    #[test]
    fn only_what_descends_is_counted() {
        let parents = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (6, 2)];
        let stats: BTreeMap<i32, Stat> = parents
            .map(|(pid, parent)| {
                let stat = Stat {
                    parent,
                    ticks: 0,
                    threads: 1,
                };
                (pid, stat)
            })
            .into();
        assert_eq!(descendants(&stats, 2), [2, 3, 6, 4]);
        assert_eq!(descendants(&stats, 5), [5]);
    }

    #[test]
    fn this_process_uses_something() {
        let own = i32::try_from(std::process::id()).expect("a process id");
        let found = usage(own).expect("it is there");
        assert!(found.pids >= 1 && found.memory_bytes > 0, "{found:?}");
        assert!(found.memory_peak_bytes >= found.memory_bytes, "{found:?}");
        assert_eq!(usage(i32::MAX), None);
    }
}
