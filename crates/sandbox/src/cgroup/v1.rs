//! Version 1: one hierarchy per controller, our group in each, a group per member in that.
//!
//! Where version 2 is mounted beside them the member has a group there too, which limits nothing
//! but can be killed as a whole (`cgroup.kill`).

use super::GroupError;
use super::files::{
    CPU_PERIOD_MICROS, MAKE_TRIES, cpu_quota, kill_all, kill_each, limit_all_processes, make,
    measures_pressure, members, pressure, processes, read_keyed, read_number, read_text,
    remove_group, removed_at_once, report, write,
};
use super::freezer::FREEZER_V1;
use super::mounts::GroupMounts;
use super::names::Names;
use crate::message::{GroupPaths, ShownGroups};
use domain::{MemberId, OomEvidence};
use engine_api::{Limits, Pause, RemoveReport, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

/// The character devices that can be opened: null, zero, full, random, urandom, tty, ptmx, pts.
const DEVICES: &[&str] = &[
    "c 1:3 rw",
    "c 1:5 rw",
    "c 1:7 rw",
    "c 1:8 rw",
    "c 1:9 rw",
    "c 5:0 rw",
    "c 5:2 rw",
    "c 136:* rw",
];

/// Controllers whose files a container sees: where programs look for their limits.
const SHOWN: [&str; 3] = ["cpu", "cpuacct", "memory"];
const PRESSURE_V1: &str = "control groups of version 1 do not measure what is waited for: boot with version 2, or have it \
     mounted beside version 1";
/// A kill while this much was free below the limit, in bytes, was not for the limit. How often that
/// was reached no file tells where memory with swap has a limit too (Linux 6.18 does not count it).
const BELOW_LIMIT: u64 = 2 << 20;
/// What has to be written before anybody can join a group, where `cpuset` shares a hierarchy with a
/// controller that we use.
const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
/// Makes groups stand still.
const FREEZER: &str = "freezer";
/// Limits bytes read in a second, by device.
const BLOCK_RULE_FILE: &str = "blkio.throttle.read_bps_device";
/// Names of block devices that are no disks of their own begin so.
const MEMORY_DISKS: [&str; 3] = ["loop", "ram", "zram"];
/// Counts bytes by device and direction, those of descendant groups included.
const BLOCK_BYTES_FILE: &str = "blkio.throttle.io_service_bytes_recursive";

/// The groups of version 1.
#[derive(Debug)]
pub(crate) struct V1 {
    mounts: GroupMounts,
    group: String,
    counting: Once,
    /// Our own groups are as they should be.
    settled: Mutex<bool>,
    pub(super) names: Names,
}

impl V1 {
    pub(super) fn new(mounts: GroupMounts, group: String) -> Self {
        let counting = Once::new();
        Self {
            mounts,
            group,
            counting,
            settled: Mutex::new(false),
            names: Names::default(),
        }
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.mounts.v1.contains_key(controller)
    }

    /// Our own group in each hierarchy, version 2 last.
    fn own_groups(&self) -> BTreeSet<PathBuf> {
        let unified = self.mounts.v2.as_ref().map(|mount| &mount.point);
        let points = self.mounts.v1.values().chain(unified);
        points.map(|point| point.join(&self.group)).collect()
    }

    /// The name of the member's group.
    fn name(&self, member: MemberId) -> String {
        self.names.of(member).to_string()
    }

    fn path(&self, controller: &str, member: MemberId) -> Option<PathBuf> {
        let point = self.mounts.v1.get(controller)?;
        Some(point.join(&self.group).join(self.name(member)))
    }

    fn unified(&self, member: MemberId) -> Option<PathBuf> {
        let point = &self.mounts.v2.as_ref()?.point;
        Some(point.join(&self.group).join(self.name(member)))
    }

    pub(super) fn create(
        &self,
        member: MemberId,
        limits: &Limits,
    ) -> Result<GroupPaths, GroupError> {
        let own_groups = self.own_groups();
        self.settle_once(&own_groups)?;
        for own in own_groups {
            self.make_both(&own, &own.join(self.name(member)))?;
        }
        self.counting.call_once(|| self.count_block_bytes());
        self.limit(member, limits)?;
        let groups: BTreeSet<PathBuf> = self
            .mounts
            .v1
            .keys()
            .filter_map(|controller| self.path(controller, member))
            .collect();
        let quota = cpu_quota(limits.cpu);
        Ok(GroupPaths {
            tasks: groups.iter().map(|group| group.join("tasks")).collect(),
            unified: self.unified(member),
            cpu_quota: self
                .path("cpu", member)
                .map(|group| (group.join("cpu.cfs_quota_us"), quota)),
            limits_memory: self.has("memory"),
            shown: Some(self.shown()),
        })
    }

    /// Those that programs look for, each under the name that it has on the node.
    fn shown(&self) -> ShownGroups {
        let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let points = SHOWN.iter().filter_map(|name| self.mounts.v1.get(*name));
        for point in points {
            let Some(name) = point.file_name().and_then(OsStr::to_str) else {
                continue;
            };
            // A hierarchy is mounted with all of its controllers.
            let of_it = self.mounts.v1.iter().filter(|(_, other)| *other == point);
            let controllers = of_it.map(|(controller, _)| controller.clone());
            shown.insert(name.to_owned(), controllers.collect());
        }
        ShownGroups::V1(shown.into_iter().collect())
    }

    fn limit(&self, member: MemberId, limits: &Limits) -> Result<(), GroupError> {
        if let Some(group) = self.path("memory", member) {
            let bytes = limits.memory_bytes.to_string();
            write(&group.join("memory.limit_in_bytes"), &bytes)?;
            let with_swap = group.join("memory.memsw.limit_in_bytes");
            if with_swap.exists() {
                write(&with_swap, &bytes)?;
            }
            write(&group.join("memory.swappiness"), "0")?;
        }
        if let Some(group) = self.path("pids", member) {
            write(&group.join("pids.max"), &limits.pids.to_string())?;
        }
        if let Some(group) = self.path("cpu", member) {
            let period = CPU_PERIOD_MICROS.to_string();
            write(&group.join("cpu.cfs_period_us"), &period)?;
        }
        match self.path("devices", member) {
            Some(group) if !allows_devices_only(&group) => limit_devices(&group),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes our own group, if it is missing, and a member's in it. An older process of this site
    /// that is just ending may remove ours, while it is empty, between the two.
    fn make_both(&self, own: &Path, member: &Path) -> Result<(), GroupError> {
        for _ in 0..MAKE_TRIES {
            match make(member) {
                Err(GroupError::Act { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    self.settle(own)?;
                }
                result => return result,
            }
        }
        make(member)
    }

    fn settle_once(&self, own_groups: &BTreeSet<PathBuf>) -> Result<(), GroupError> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if !*settled {
            own_groups.iter().try_for_each(|own| self.settle(own))?;
            *settled = true;
        }
        Ok(())
    }

    /// Makes our own group, and what the members' groups have from it as they are made.
    fn settle(&self, own: &Path) -> Result<(), GroupError> {
        make(own)?;
        let of = |controller: &str| {
            let point = self.mounts.v1.get(controller);
            point.is_some_and(|point| own.starts_with(point))
        };
        if own.join(CPUSET_FILES[0]).exists() {
            adopt_cpuset(own)?;
        }
        if of("pids") {
            limit_all_processes(own)?;
        }
        if of("devices") && !allows_devices_only(own) {
            // Refused while there are groups in it, which were limited each by itself then.
            let _ = limit_devices(own);
        }
        Ok(())
    }

    /// Version 1 does not measure it: where version 2 is mounted beside it, that does.
    pub(super) fn has_pressure(&self) -> Result<(), String> {
        let beside = self.mounts.v2.as_ref();
        measures_pressure(&beside.ok_or(PRESSURE_V1)?.point)
    }

    pub(super) fn has_pause(&self) -> Result<(), String> {
        if self.has(FREEZER) {
            return Ok(());
        }
        Err("the freezer controller of version 1 is not mounted, or cannot be written".to_owned())
    }

    pub(super) fn pause(&self, member: MemberId, guest: i32) -> Result<(), GroupError> {
        let group = self.path(FREEZER, member).ok_or(GroupError::Absent)?;
        FREEZER_V1.pause(&group, guest)
    }

    pub(super) fn resume(&self, member: MemberId) -> Result<(), GroupError> {
        match self.path(FREEZER, member) {
            Some(group) => FREEZER_V1.resume(&group),
            None => Ok(()),
        }
    }

    pub(super) fn pause_of(&self, member: MemberId) -> Pause {
        let group = self.path(FREEZER, member);
        group.map_or(Pause::Never, |group| FREEZER_V1.state(&group))
    }

    pub(super) fn list(&self) -> Vec<MemberId> {
        members(self.own_groups(), &self.names)
    }

    /// Every hierarchy is asked: a child that was starting may have joined some only.
    pub(super) fn processes(&self, member: MemberId) -> Vec<i32> {
        let (own, name) = (self.own_groups(), self.name(member));
        processes(own.iter().map(|own| own.join(&name)))
    }

    pub(super) fn usage(&self, member: MemberId) -> Result<Usage, GroupError> {
        let read =
            |controller: &str, file: &str| read_number(&self.path(controller, member)?.join(file));
        let memory = read("memory", "memory.usage_in_bytes").ok_or(GroupError::Absent)?;
        let (read_bytes, write_bytes) = self.block_bytes(member);
        Ok(Usage {
            cpu_micros: read("cpuacct", "cpuacct.usage").unwrap_or(0) / 1_000,
            memory_bytes: memory,
            memory_peak_bytes: read("memory", "memory.max_usage_in_bytes").unwrap_or(0),
            pids: read("pids", "pids.current").unwrap_or(0),
            out_of_memory: self.evidence(member),
            pids_limit_hits: self.pids_limit_hits(member),
            read_bytes,
            write_bytes,
            pressure: self.unified(member).as_deref().and_then(pressure),
        })
    }

    /// Newer kernels count a disk's bytes by group only once any group has had a rule for that
    /// disk; a rule that limits nothing (0) will do, and outlives nothing but the counting. Where
    /// it cannot be written, the counters may stay 0.
    fn count_block_bytes(&self) {
        let Some(point) = self.mounts.v1.get("blkio") else {
            return;
        };
        let rules = point.join(&self.group).join(BLOCK_RULE_FILE);
        for disk in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let name = disk.file_name();
            let name = name.to_string_lossy();
            if MEMORY_DISKS.iter().any(|other| name.starts_with(other)) {
                continue;
            }
            if let Ok(number) = fs::read_to_string(disk.path().join("dev")) {
                let _ = fs::write(&rules, format!("{} 0", number.trim()));
            }
        }
    }

    /// Bytes that came from and went to all block devices: lines are `MAJOR:MINOR ACT BYTES`.
    fn block_bytes(&self, member: MemberId) -> (Option<u64>, Option<u64>) {
        let file = self.path("blkio", member);
        let text = file.and_then(|group| read_text(&group.join(BLOCK_BYTES_FILE)).ok());
        let of = |act: &str| {
            let amounts = text.as_ref()?.lines().filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                (words.next()? == act).then(|| words.next()?.parse::<u64>().ok())?
            });
            Some(amounts.fold(0, u64::saturating_add))
        };
        (of("Read"), of("Write"))
    }

    /// How often the limit of processes refused one.
    fn pids_limit_hits(&self, member: MemberId) -> u64 {
        let events = self
            .path("pids", member)
            .map(|group| group.join("pids.events"));
        events
            .and_then(|path| read_keyed(&path, "max"))
            .unwrap_or(0)
    }

    /// The out-of-memory kills that the kernel counted; `None` where there were none. A limit that
    /// was never reached ended nobody.
    fn evidence(&self, member: MemberId) -> Option<OomEvidence> {
        let group = self.path("memory", member)?;
        let kills = read_keyed(&group.join("memory.oom_control"), "oom_kill")?;
        if kills == 0 {
            return None;
        }
        let limit_bytes = read_number(&group.join("memory.limit_in_bytes"))?;
        let peak_bytes = read_number(&group.join("memory.max_usage_in_bytes"));
        Some(OomEvidence {
            kills,
            limit_bytes,
            peak_bytes,
            process: None,
            of_node: peak_bytes.is_some_and(|peak| peak.saturating_add(BELOW_LIMIT) < limit_bytes),
        })
    }

    pub(super) fn kill(&self, member: MemberId) {
        // One write kills all of them, without a race against fork.
        if let Some(group) = self.unified(member) {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        kill_each(|| self.processes(member));
        // What stands still dies when it goes on.
        let _ = self.resume(member);
    }

    pub(super) fn remove(&self, member: MemberId) -> Result<RemoveReport, GroupError> {
        let report = || report(self.usage(member).ok(), || self.evidence(member));
        let own = self.own_groups().into_iter();
        let name = self.name(member);
        let groups: Vec<PathBuf> = own.map(|own| own.join(&name)).collect();
        let at_once = report();
        let left = removed_at_once(&groups);
        if left == 0 {
            return Ok(at_once);
        }
        let deadline = kill_all(|| self.processes(member), || self.kill(member))?;
        // What was removed can tell no more.
        let report = if left == groups.len() {
            report()
        } else {
            at_once
        };
        for group in groups {
            remove_group(&group, deadline)?;
        }
        Ok(report)
    }

    pub(super) fn remove_own_group(&self) {
        for own in self.own_groups() {
            // Refused while a member has a group in it, as it should be.
            let _ = fs::remove_dir(own);
        }
    }
}

/// Only these devices can be opened by who is in the group.
fn allows_devices_only(group: &Path) -> bool {
    let list = fs::read_to_string(group.join("devices.list")).unwrap_or_default();
    list.lines().eq(DEVICES.iter().copied())
}

fn limit_devices(group: &Path) -> Result<(), GroupError> {
    write(&group.join("devices.deny"), "a")?;
    let allow = group.join("devices.allow");
    DEVICES.iter().try_for_each(|device| write(&allow, device))
}

/// A new cpuset has no CPUs and no memory nodes, and nobody can join it. Ours takes its parent's,
/// and its children take ours as they are made.
fn adopt_cpuset(own: &Path) -> Result<(), GroupError> {
    let clone = own.join("cgroup.clone_children");
    let is_set = fs::read_to_string(&clone).is_ok_and(|text| text.trim() == "1");
    let parent = own.parent().unwrap_or(own);
    for file in CPUSET_FILES {
        let have = fs::read_to_string(own.join(file)).unwrap_or_default();
        if is_set && !have.trim().is_empty() {
            continue;
        }
        let path = parent.join(file);
        let wanted = fs::read_to_string(&path).map_err(|source| GroupError::Act {
            act: "read",
            path,
            source,
        })?;
        write(&own.join(file), wanted.trim())?;
    }
    if is_set { Ok(()) } else { write(&clone, "1") }
}
