//! Which CPUs a container is kept to, or is shown.
//!
//! One that asks for whole CPUs is kept to so many of its own, as far as there are any that nobody
//! else was given: threads of others may still run there while it leaves them idle. One that asks
//! for a part is kept to none, since several parts on one CPU may be more than it has while another
//! one idles: it runs wherever there is time, up to its quota, and is shown as many CPUs as its
//! share needs at least.
//!
//! The lowest number is given last: it is where most nodes serve their devices.

use domain::amounts::WHOLE;
use domain::{MemberId, SessionId};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Where the node tells which CPUs are close to each other.
const NODES: &str = "/sys/devices/system/node";
/// Where it tells of all that there could be.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// Whom a share is looked for that nobody gets.
const NOBODY: MemberId = MemberId {
    session: SessionId(0),
    attempt: 0,
    index: 0,
};

/// CPUs of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// By number, in order; at least one.
    pub(crate) cpus: Vec<u32>,
    /// It runs on no others.
    pub(crate) kept: bool,
    /// There are others that it is not shown.
    pub(crate) hides: bool,
}

/// The CPUs of a node and who has which.
#[derive(Debug, Default)]
pub(crate) struct Cpus {
    /// Groups of CPUs that share their memory, each in order.
    groups: Vec<Vec<u32>>,
    /// There are others of the node that this process may not run on, or that are off.
    others: bool,
    held: BTreeMap<MemberId, Share>,
}

impl Cpus {
    /// Those that this process may run on.
    pub(crate) fn find() -> Self {
        // One that cannot be asked has the first.
        let own = affinity(None).filter(|own| !own.is_empty());
        let own = own.unwrap_or_else(|| vec![0]);
        let mut groups: Vec<Vec<u32>> = memory_groups()
            .into_iter()
            .map(|group| group.into_iter().filter(|cpu| own.contains(cpu)).collect())
            .filter(|group: &Vec<u32>| !group.is_empty())
            .collect();
        let known: BTreeSet<u32> = groups.iter().flatten().copied().collect();
        let rest: Vec<u32> = own.into_iter().filter(|cpu| !known.contains(cpu)).collect();
        if !rest.is_empty() {
            groups.push(rest);
        }
        let possible = fs::read_to_string(POSSIBLE).unwrap_or_default();
        let possible = parse_list(&possible).len();
        let others = possible > groups.iter().map(Vec::len).sum();
        Self {
            groups,
            others,
            held: BTreeMap::new(),
        }
    }

    fn all(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.groups.iter().flatten().copied().collect();
        all.sort_unstable();
        all
    }

    /// What `member` gets for so many ten-thousandths of a CPU.
    pub(crate) fn choose(&mut self, member: MemberId, cpu: u64) -> Share {
        self.held.remove(&member);
        let all = self.all();
        let count = usize::try_from(cpu.div_ceil(WHOLE)).unwrap_or(usize::MAX);
        let count = count.max(1);
        if count >= all.len() {
            return Share {
                cpus: all,
                kept: self.others,
                hides: self.others,
            };
        }
        let own = cpu
            .is_multiple_of(WHOLE)
            .then(|| self.free(count))
            .flatten();
        let kept = own.is_some();
        let mut cpus = own.unwrap_or_else(|| self.least_used(count));
        cpus.sort_unstable();
        let share = Share {
            cpus,
            kept,
            hides: true,
        };
        self.held.insert(member, share.clone());
        share
    }

    /// What a next one would get for so much, if it would not have to share with others what it
    /// could have for itself.
    pub(crate) fn likely(&self, cpu: u64) -> Option<Share> {
        let mut after = Self {
            groups: self.groups.clone(),
            others: self.others,
            held: self.held.clone(),
        };
        let share = after.choose(NOBODY, cpu);
        (share.kept || !share.hides || !cpu.is_multiple_of(WHOLE)).then_some(share)
    }

    /// Gives `member` this share, which was likely once, if that is still as good as any.
    pub(crate) fn take(&mut self, member: MemberId, cpu: u64, share: &Share) -> bool {
        let Some(likely) = self.likely(cpu) else {
            return false;
        };
        let others = self.held.iter().filter(|(other, _)| **other != member);
        let mut kept = others.filter(|(_, other)| other.kept && share.kept);
        let taken = kept.any(|(_, other)| other.cpus.iter().any(|cpu| share.cpus.contains(cpu)));
        let alike = |other: &Share| (other.cpus.len(), other.kept, other.hides);
        if taken || alike(&likely) != alike(share) {
            return false;
        }
        if share.hides && share.cpus.len() < self.all().len() {
            self.held.insert(member, share.clone());
        }
        true
    }

    /// So many that nobody is kept to, close to each other if there are: of the groups with enough
    /// the one with the fewest, so that the others stay whole.
    fn free(&self, count: usize) -> Option<Vec<u32>> {
        let kept = self.held.values().filter(|share| share.kept);
        let taken: BTreeSet<u32> = kept.flat_map(|share| &share.cpus).copied().collect();
        let free = |group: &Vec<u32>| -> Vec<u32> {
            let mut free = group.clone();
            free.retain(|cpu| !taken.contains(cpu));
            free
        };
        let mut groups: Vec<Vec<u32>> = self.groups.iter().map(free).collect();
        groups.sort_by_key(|group| (group.len(), Reverse(group.first().copied())));
        let enough = groups.iter().find(|group| group.len() >= count);
        let from = match enough {
            Some(group) => group.clone(),
            None => groups.into_iter().flatten().collect(),
        };
        let mut from: Vec<u32> = from;
        from.sort_unstable_by_key(|cpu| Reverse(*cpu));
        (from.len() >= count).then(|| from[..count].to_vec())
    }

    /// So many that are given to or shown to the fewest.
    fn least_used(&self, count: usize) -> Vec<u32> {
        let mut uses: BTreeMap<u32, u32> = self.all().into_iter().map(|cpu| (cpu, 0)).collect();
        for cpu in self.held.values().flat_map(|share| &share.cpus) {
            *uses.entry(*cpu).or_default() += 1;
        }
        let mut cpus: Vec<(u32, Reverse<u32>)> = uses
            .into_iter()
            .map(|(cpu, uses)| (uses, Reverse(cpu)))
            .collect();
        cpus.sort_unstable();
        let cpus = cpus.into_iter().map(|(_, Reverse(cpu))| cpu);
        cpus.take(count).collect()
    }

    /// `member` runs, and a process of it may run on these: they are its own if they are not all.
    pub(crate) fn found(&mut self, member: MemberId, may: Vec<u32>) {
        if !self.held.contains_key(&member) && !may.is_empty() && may.len() < self.all().len() {
            let share = Share {
                cpus: may,
                kept: true,
                hides: true,
            };
            self.held.insert(member, share);
        }
    }

    /// `member` is gone.
    pub(crate) fn release(&mut self, member: MemberId) {
        self.held.remove(&member);
    }
}

/// The CPUs that a process may run on, in order; this one without a number.
pub(crate) fn affinity(process: Option<Pid>) -> Option<Vec<u32>> {
    let mask = crate::kernel::affinity(Pid::as_raw(process)).ok()?;
    let bits = mask.iter().zip(0_u32..).flat_map(|(byte, place)| {
        let is_set = move |bit: &u32| byte & (1 << bit) != 0;
        let set = (0..u8::BITS).filter(is_set);
        set.map(move |bit| place * u8::BITS + bit)
    });
    Some(bits.collect())
}

/// CPUs by the memory that is close to them; none where the node does not tell.
fn memory_groups() -> Vec<Vec<u32>> {
    let entries = fs::read_dir(NODES).into_iter().flatten().flatten();
    let lists = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cpulist")).ok());
    let mut groups: Vec<Vec<u32>> = lists.map(|list| parse_list(&list)).collect();
    groups.sort();
    groups
}

/// Numbers of a list like `0-3,8`.
pub(crate) fn parse_list(list: &str) -> Vec<u32> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    });
    ranges.flatten().collect()
}

/// The list of `numbers`, which are in order, as the kernel writes it.
pub(crate) fn list(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let texts = ranges.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::{Cpus, Share, list, parse_list};
    use domain::{MemberId, SessionId};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn member(number: u64) -> MemberId {
        MemberId {
            session: SessionId(number),
            attempt: 1,
            index: 0,
        }
    }

    fn node(groups: &[&[u32]]) -> Cpus {
        Cpus {
            groups: groups.iter().map(|group| group.to_vec()).collect(),
            others: false,
            held: BTreeMap::new(),
        }
    }

    fn kept(cpus: &[u32]) -> Share {
        Share {
            cpus: cpus.to_vec(),
            kept: true,
            hides: true,
        }
    }

    #[test]
    fn whole_cpus_are_ones_own_and_parts_are_only_shown() {
        let mut cpus = node(&[&[0, 1, 2, 3]]);
        assert_eq!(cpus.choose(member(1), 10_000), kept(&[3]));
        assert_eq!(cpus.choose(member(2), 20_000), kept(&[1, 2]));
        let part = cpus.choose(member(3), 2_500);
        assert_eq!((part.cpus.as_slice(), part.kept), (&[0][..], false));
        // Nothing is left that is nobody's: it runs everywhere, and is shown what it asked for.
        assert_eq!(cpus.choose(member(4), 10_000), kept(&[0]));
        let late = cpus.choose(member(5), 10_000);
        assert_eq!((late.cpus.len(), late.kept), (1, false));
        cpus.release(member(2));
        assert_eq!(cpus.choose(member(6), 10_000), kept(&[2]));
        let more = cpus.choose(member(7), 15_000);
        assert_eq!((more.cpus.len(), more.kept), (2, false));
    }

    #[test]
    fn whoever_has_all_is_kept_from_nothing() {
        let mut cpus = node(&[&[0, 1]]);
        for cpu in [15_000, 20_000, 90_000] {
            let share = cpus.choose(member(cpu), cpu);
            assert_eq!(share.cpus, [0, 1]);
            assert!(!share.kept && !share.hides, "{cpu}");
        }
        // A process that is kept to some itself keeps its sessions to these.
        cpus.others = true;
        let share = cpus.choose(member(2), 20_000);
        assert!(share.kept && share.hides);
        cpus.others = false;
        let share = cpus.choose(member(1), 0);
        assert_eq!(share.cpus.len(), 1, "at least one");
    }

    #[test]
    fn cpus_that_are_close_to_each_other_are_given_together() {
        let mut cpus = node(&[&[0, 1, 2, 3], &[4, 5, 6, 7]]);
        assert_eq!(cpus.choose(member(1), 20_000), kept(&[6, 7]));
        // The rest of the same group is enough, and leaves the other one whole.
        assert_eq!(cpus.choose(member(2), 20_000), kept(&[4, 5]));
        assert_eq!(cpus.choose(member(3), 40_000), kept(&[0, 1, 2, 3]));
        let mut cpus = node(&[&[0, 1], &[2, 3]]);
        assert_eq!(cpus.choose(member(1), 30_000), kept(&[1, 2, 3]), "no group");
    }

    #[test]
    fn what_was_likely_is_given_while_nobody_has_it() {
        let mut cpus = node(&[&[0, 1]]);
        let share = cpus.likely(10_000).expect("there are two");
        assert_eq!(share, kept(&[1]));
        assert!(cpus.take(member(1), 10_000, &share));
        assert!(!cpus.take(member(2), 10_000, &share), "somebody has it");
        assert_eq!(cpus.likely(10_000), Some(kept(&[0])));
        assert!(cpus.take(member(3), 10_000, &kept(&[0])));
        assert_eq!(cpus.likely(10_000), None, "all have somebody");
        let part = cpus.likely(5_000).expect("parts are shared");
        assert!(!part.kept && cpus.take(member(4), 5_000, &part));
        cpus.release(member(1));
        assert!(!cpus.take(member(5), 10_000, &part), "it can have its own");
        let all = cpus.likely(20_000).expect("all of them");
        assert!(cpus.take(member(6), 20_000, &all));
        assert!(!cpus.held.contains_key(&member(6)), "as if it was chosen");
    }

    #[test]
    fn what_runs_is_found_again() {
        let mut cpus = node(&[&[0, 1]]);
        cpus.found(member(1), vec![1]);
        cpus.found(member(2), vec![0, 1]);
        assert_eq!(cpus.choose(member(3), 10_000), kept(&[0]));
    }

    #[test]
    fn lists_are_the_kernels() {
        for (text, numbers) in [
            ("0", vec![0]),
            ("0-3", vec![0, 1, 2, 3]),
            ("0-1,7,9-10", vec![0, 1, 7, 9, 10]),
        ] {
            assert_eq!(list(&numbers), text);
            assert_eq!(parse_list(&format!("{text}\n")), numbers);
        }
        assert_eq!(parse_list("\n"), [0; 0]);
    }

    proptest! {
        #[test]
        fn nobody_is_given_what_another_one_has(
            acts in prop::collection::vec((0..8_u64, prop::option::of(1..60_000_u64)), 1..60),
        ) {
            let mut cpus = node(&[&[0, 1, 2], &[3, 4, 5]]);
            for (number, cpu) in acts {
                match cpu {
                    None => cpus.release(member(number)),
                    Some(cpu) => {
                        let share = cpus.choose(member(number), cpu);
                        prop_assert_eq!(share.cpus.len() as u64, cpu.div_ceil(10_000).min(6));
                        prop_assert!(share.cpus.is_sorted());
                    }
                }
                let kept = cpus.held.values().filter(|share| share.kept);
                let mut all: Vec<u32> = kept.flat_map(|share| share.cpus.clone()).collect();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                prop_assert_eq!(all.len(), count);
            }
        }
    }
}
