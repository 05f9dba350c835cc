//! What a container is shown of its node, prepared before the clone.
//!
//! Fixed for its life is what tells its CPUs; what changes is written by the guest (see
//! `guest_api::picture`), into files that the child makes and puts over those of `/proc`.

use super::plan::{CpuDirectory, GroupsPlan, PicturePlan};
use super::prepare::text;
use crate::cpus::{Share, list};
use crate::message::{Failure, ShownGroups, Start};
use guest_api::Picture;
use guest_api::picture::Groups;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};

/// Where control groups are shown.
const GROUPS: &str = "/sys/fs/cgroup";
/// What version 1 counts CPU time with.
const COUNTING: &str = "cpuacct";
const MEMORY: &str = "memory";
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The node, as it was when the launcher started.
#[derive(Debug)]
pub(super) struct Node {
    cpuinfo: String,
}

impl Node {
    pub(super) fn read() -> Self {
        Self {
            cpuinfo: std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
        }
    }

    pub(super) fn picture(&self, request: &Start) -> Result<PicturePlan, Failure> {
        let share = &request.share;
        let limits = &request.container.limits;
        let groups = request.groups.shown.as_ref();
        let picture = Picture {
            cpus: share.cpus.clone(),
            memory_bytes: request.groups.limits_memory.then_some(limits.memory_bytes),
            groups: groups.map(directories),
        };
        let content = rmp_serde::to_vec_named(&picture)
            .map_err(|error| Failure::act("describe the container's share", error))?;
        Ok(PicturePlan {
            content,
            memory: picture.memory_bytes.is_some() && picture.groups.is_some(),
            cpus: share.hides.then(|| self.cpus(&share.cpus)).transpose()?,
            groups: groups.map(groups_plan).transpose()?,
            boot_offset: boot_offset(),
        })
    }

    fn cpus(&self, cpus: &[u32]) -> Result<CpuDirectory, Failure> {
        let names = cpus.iter().map(|cpu| text(format!("cpu{cpu}")));
        let list = list(cpus);
        Ok(CpuDirectory {
            cpuinfo: cpuinfo_of(&self.cpuinfo, cpus).into_bytes(),
            list: format!("{list}\n").into_bytes(),
            last: format!("{}\n", cpus.last().copied().unwrap_or(0)).into_bytes(),
            names: names.collect::<Result<_, _>>()?,
        })
    }
}

/// Keeps the container's first process, and with it all that come after, to its CPUs. It sleeps
/// until the launcher lets it go on: one that runs would have to be moved at once, which takes
/// half a millisecond. A CPU that went away since they were chosen keeps it from nothing.
pub(super) fn keep_to_cpus(pid: i32, share: &Share) {
    if !share.kept {
        return;
    }
    let mut set = CpuSet::new();
    for cpu in &share.cpus {
        match usize::try_from(*cpu) {
            Ok(cpu) if cpu < CpuSet::MAX_CPU => set.set(cpu),
            // There is no room for it: it is shown only.
            Ok(_) | Err(_) => return,
        }
    }
    let _ = sched_setaffinity(Pid::from_raw(pid), &set);
}

fn directories(shown: &ShownGroups) -> Groups {
    let of = |controller: &str, directories: &[(String, Vec<String>)]| {
        let found = directories
            .iter()
            .find(|(_, controllers)| controllers.iter().any(|name| name == controller));
        let name = found.map_or(controller, |(name, _)| name.as_str());
        format!("{GROUPS}/{name}")
    };
    match shown {
        ShownGroups::V1(found) => Groups {
            version: 1,
            cpu: of(COUNTING, found),
            memory: of(MEMORY, found),
        },
        ShownGroups::V2 => Groups {
            version: 2,
            cpu: GROUPS.to_owned(),
            memory: GROUPS.to_owned(),
        },
    }
}

fn groups_plan(shown: &ShownGroups) -> Result<GroupsPlan, Failure> {
    Ok(match shown {
        ShownGroups::V2 => GroupsPlan::V2,
        ShownGroups::V1(directories) => {
            let mut plans = Vec::new();
            for (name, controllers) in directories {
                let controllers = controllers.iter().map(|name| text(name.as_str()));
                plans.push((
                    text(name.as_str())?,
                    controllers.collect::<Result<Vec<_>, _>>()?,
                ));
            }
            GroupsPlan::V1(plans)
        }
    })
}

/// The parts of /proc/cpuinfo about these CPUs, and what stands there about all. A part begins with
/// the line `processor`.
fn cpuinfo_of(cpuinfo: &str, cpus: &[u32]) -> String {
    let is_shown = |part: &&str| {
        let number = value_of(part, "processor").and_then(|value| value.parse::<u32>().ok());
        number.is_none_or(|number| cpus.contains(&number))
    };
    let parts = cpuinfo.split_inclusive("\n\n").filter(is_shown);
    let parts: Vec<&str> = parts.collect();
    let mut packages: BTreeMap<Option<&str>, Package<'_>> = BTreeMap::new();
    for part in &parts {
        let package = packages.entry(value_of(part, "physical id")).or_default();
        package.cpus += 1;
        package.cores.insert(value_of(part, "core id"));
    }
    let mut told = String::with_capacity(cpuinfo.len());
    for part in parts {
        write_part(&mut told, part, &packages[&value_of(part, "physical id")]);
    }
    told
}

/// What is shown of the CPUs that are made in one piece.
#[derive(Debug, Default)]
struct Package<'a> {
    cpus: usize,
    cores: BTreeSet<Option<&'a str>>,
}

/// Adds a part with what is shown of its package: `siblings` are the CPUs, `cpu cores` the cores.
fn write_part(told: &mut String, part: &str, package: &Package<'_>) {
    for line in part.split_inclusive('\n') {
        let key = line.split_once(':').map_or("", |(key, _)| key);
        let count = match key.trim() {
            "siblings" => package.cpus,
            "cpu cores" => package.cores.len(),
            _ => {
                told.push_str(line);
                continue;
            }
        };
        told.push_str(key);
        told.push_str(": ");
        told.push_str(&count.to_string());
        told.push('\n');
    }
}

/// What a part says of `key`.
fn value_of<'a>(part: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = part.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(name, _)| name.trim() == key);
    found.map(|(_, value)| value.trim())
}

/// What makes the clock since boot begin now, as the kernel takes it: `boottime SECONDS NANOSECONDS`,
/// of which only the seconds can be negative.
pub(super) fn boot_offset() -> Vec<u8> {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = match now.tv_nsec {
        0 => (-now.tv_sec, 0),
        nanos => (-now.tv_sec - 1, NANOS_PER_SECOND - nanos),
    };
    format!("boottime {seconds} {nanos}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::cpuinfo_of;

    #[test]
    fn only_the_parts_of_shown_cpus_stay() {
        let part = |number: u32| format!("processor\t: {number}\nflags\t\t: fpu\n\n");
        let all: String = (0..12).map(part).collect();
        let expected = format!("{}{}", part(1), part(11));
        assert_eq!(cpuinfo_of(&all, &[1, 11]), expected);
        // Some architectures tell of the machine at the end.
        let more = format!("{all}Hardware\t: board\n");
        assert_eq!(
            cpuinfo_of(&more, &[3]),
            format!("{}Hardware\t: board\n", part(3))
        );
        assert_eq!(cpuinfo_of("", &[1]), "");
    }

    #[test]
    fn what_is_counted_of_a_package_is_what_is_shown_of_it() {
        // Two packages of two cores with two threads each; cores are numbered in their package.
        let part = |cpu: u32, siblings: u32, cores: u32| {
            let (package, core) = (cpu / 4, cpu % 2);
            format!(
                "processor\t: {cpu}\nphysical id\t: {package}\nsiblings\t: {siblings}\n\
                 core id\t\t: {core}\ncpu cores\t: {cores}\nflags\t\t: ht siblings\n\n"
            )
        };
        let all: String = (0..8).map(|cpu| part(cpu, 4, 2)).collect();
        for (cpus, expected) in [
            (&[5][..], part(5, 1, 1)),
            (&[0, 2], part(0, 2, 1) + &part(2, 2, 1)),
            (&[0, 3, 4], part(0, 2, 2) + &part(3, 2, 2) + &part(4, 1, 1)),
        ] {
            assert_eq!(cpuinfo_of(&all, cpus), expected, "{cpus:?}");
        }
        let every: Vec<u32> = (0..8).collect();
        assert_eq!(cpuinfo_of(&all, &every), all);
    }
}
