//! Version 2: one hierarchy for all controllers, our group in the [`Place`] we were given, a group
//! per member in that.
//!
//! A member's group hands no controller down, so processes may stand in it and in groups within it
//! at once; the launcher clones the container into it (`CLONE_INTO_CGROUP`), and nothing has to be
//! moved. Killed is the whole group by one write (`cgroup.kill`, Linux 5.14; before that each
//! process by itself).

use super::GroupError;
use super::files::{
    CPU_PERIOD_MICROS, MAKE_TRIES, cpu_quota, kill_all, kill_each, limit_all_processes, make,
    measures_pressure, members, pressure, processes, read_keyed, read_number, read_text,
    remove_group, removed_at_once, report, write,
};
use super::freezer::FREEZER_V2;
use super::mounts::UnifiedMount;
use super::names::Names;
use super::place::{DAEMON, Place, has_word, sites};
use crate::message::{GroupPaths, ShownGroups};
use domain::{AskedLimits, MemberId, OomEvidence};
use engine_api::{Limits, Pause, RemoveReport, Usage};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is handed down to members where it can be. `io` limits nothing, but counts.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// The groups of version 2.
#[derive(Debug)]
pub(crate) struct V2 {
    place: Place,
    /// Our own groups in other places, left by daemons that were started there.
    others: Vec<PathBuf>,
    pub(super) names: Names,
}

impl V2 {
    /// Finds the place that this process may divide, or says why there is none.
    pub(super) fn find(mount: &UnifiedMount, group: &str) -> Result<Self, String> {
        let place = Place::find(mount, group)?;
        let mut others = sites(&mount.point, group);
        others.retain(|site| *site != place.site);
        Ok(Self {
            place,
            others,
            names: Names::default(),
        })
    }

    pub(super) fn place(&self) -> &Path {
        &self.place.path
    }

    pub(super) fn has(&self, controller: &str) -> Result<(), String> {
        self.place.has(controller)
    }

    fn sites(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.place.site).chain(&self.others)
    }

    /// The member's group: where it is, or where it would be made.
    fn group(&self, member: MemberId) -> PathBuf {
        let name = self.names.of(member).to_string();
        let mut groups = self.sites().map(|site| site.join(&name));
        let there = groups.find(|group| group.exists());
        there.unwrap_or_else(|| self.place.site.join(name))
    }

    pub(super) fn create(
        &self,
        member: MemberId,
        limits: &Limits,
    ) -> Result<GroupPaths, GroupError> {
        let made = self.make(member).and_then(|group| {
            limit(&group, limits)?;
            Ok(group)
        });
        let group = match made {
            Ok(group) => group,
            Err(error) if limits.best_effort || self.may_go_without(limits) => {
                tracing::warn!(member.id = %member, "a container starts without a group: {error}");
                return Ok(GroupPaths::default());
            }
            Err(error) => return Err(error),
        };
        let quota = group.join("cpu.max");
        Ok(GroupPaths {
            tasks: Vec::new(),
            cpu_quota: quota.exists().then(|| (quota, cpu_quota(limits.cpu))),
            limits_memory: group.join("memory.max").exists(),
            shown: Some(ShownGroups::V2),
            unified: Some(group),
        })
    }

    /// Whether its limits are defaults, of a place that cannot hold them: those keep nothing down.
    fn may_go_without(&self, limits: &Limits) -> bool {
        let cannot = |controller: &&str| self.place.has(controller).is_err();
        limits.asked == AskedLimits::NONE && super::CONTROLLERS.iter().any(cannot)
    }

    /// Makes our own group and the member's in it. An older process of this site that is just
    /// ending may remove ours, while it is empty, between the two.
    fn make(&self, member: MemberId) -> Result<PathBuf, GroupError> {
        let group = self.group(member);
        for _ in 0..MAKE_TRIES {
            self.make_site()?;
            match make(&group) {
                Err(GroupError::Act { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                }
                result => return result.map(|()| group),
            }
        }
        make(&group).map(|()| group)
    }

    pub(super) fn settle(&self) {
        if let Err(error) = self.make_site() {
            tracing::info!("the control group is not divided: {error}");
        }
    }

    fn make_site(&self) -> Result<(), GroupError> {
        let site = &self.place.site;
        make(site)?;
        if self.place.is_in_the_way() {
            let aside = site.join(DAEMON);
            make(&aside)?;
            write(&aside.join("cgroup.procs"), "0")?;
        }
        hand_down(&self.place.path)?;
        if !site.join(DAEMON).exists() {
            // Where this process stands in it too, whoever gave us the place has limited it.
            limit_all_processes(site)?;
        }
        hand_down(site)
    }

    /// Whether members can be paused. It takes a group for each member, and groups are made only
    /// if every controller that is there can be handed down to them.
    pub(super) fn has_pause(&self) -> Result<(), String> {
        let there = self.place.path.join("cgroup.controllers");
        let mut known = CONTROLLERS
            .into_iter()
            .filter(|name| has_word(&there, name));
        known.try_for_each(|name| self.place.has(name))
    }

    pub(super) fn has_pressure(&self) -> Result<(), String> {
        measures_pressure(&self.place.path)
    }

    pub(super) fn pause(&self, member: MemberId, guest: i32) -> Result<(), GroupError> {
        FREEZER_V2.pause(&self.group(member), guest)
    }

    pub(super) fn resume(&self, member: MemberId) -> Result<(), GroupError> {
        FREEZER_V2.resume(&self.group(member))
    }

    pub(super) fn pause_of(&self, member: MemberId) -> Pause {
        FREEZER_V2.state(&self.group(member))
    }

    pub(super) fn list(&self) -> Vec<MemberId> {
        members(self.sites().cloned(), &self.names)
    }

    pub(super) fn processes(&self, member: MemberId) -> Vec<i32> {
        processes([self.group(member)])
    }

    pub(super) fn usage(&self, member: MemberId) -> Result<Usage, GroupError> {
        let group = self.group(member);
        let read = |file: &str| read_number(&group.join(file)).unwrap_or(0);
        let cpu_micros = read_keyed(&group.join("cpu.stat"), "usage_usec");
        let memory = read("memory.current");
        Ok(Usage {
            cpu_micros: cpu_micros.ok_or(GroupError::Absent)?,
            memory_bytes: memory,
            // Linux before 5.19 does not tell.
            memory_peak_bytes: read("memory.peak").max(memory),
            pids: read("pids.current"),
            out_of_memory: evidence(&group),
            pids_limit_hits: read_keyed(&group.join("pids.events"), "max").unwrap_or(0),
            read_bytes: block_bytes(&group, "rbytes="),
            write_bytes: block_bytes(&group, "wbytes="),
            pressure: pressure(&group),
        })
    }

    pub(super) fn unthrottle(&self, member: MemberId) {
        let path = self.group(member).join("cpu.max");
        if path.exists() {
            // A group that is gone has no limit either.
            let _ = fs::write(path, format!("max {CPU_PERIOD_MICROS}"));
        }
    }

    pub(super) fn kill(&self, member: MemberId) {
        let killed = fs::write(self.group(member).join("cgroup.kill"), "1");
        if killed.is_err() {
            kill_each(|| self.processes(member));
        }
    }

    pub(super) fn remove(&self, member: MemberId) -> Result<RemoveReport, GroupError> {
        let group = self.group(member);
        let report = || report(self.usage(member).ok(), || evidence(&group));
        let at_once = report();
        if removed_at_once(std::slice::from_ref(&group)) == 0 {
            return Ok(at_once);
        }
        let deadline = kill_all(|| self.processes(member), || self.kill(member))?;
        let report = report();
        remove_group(&group, deadline)?;
        Ok(report)
    }

    /// Where this process stood aside, its own group stays with the place it was given.
    pub(super) fn remove_own_group(&self) {
        for site in self.sites() {
            // Refused while somebody stands in it, as it should be.
            let _ = fs::remove_dir(site.join(DAEMON));
            // Refused while a member has a group in it.
            let _ = fs::remove_dir(site);
        }
    }
}

/// Lets the groups in `group` have the controllers that it has.
fn hand_down(group: &Path) -> Result<(), GroupError> {
    let file = group.join("cgroup.subtree_control");
    for controller in CONTROLLERS {
        let has = has_word(&group.join("cgroup.controllers"), controller);
        if has && !has_word(&file, controller) {
            write(&file, &format!("+{controller}"))?;
        }
    }
    Ok(())
}

/// Limits what can be limited here. The CPU quota follows when the guest is ready.
fn limit(group: &Path, limits: &Limits) -> Result<(), GroupError> {
    let memory = limits.memory_bytes.to_string();
    let pids = limits.pids.to_string();
    let period = format!("max {CPU_PERIOD_MICROS}");
    for (file, value) in [
        ("memory.max", memory.as_str()),
        ("memory.swap.max", "0"),
        // One process is chosen, as on version 1: the guest, which tells of it, is the last.
        ("memory.oom.group", "0"),
        ("pids.max", pids.as_str()),
        ("cpu.max", period.as_str()),
    ] {
        let path = group.join(file);
        if path.exists() {
            write(&path, value)?;
        }
    }
    Ok(())
}

/// Bytes that went to or came from all block devices, those of groups within this one included:
/// lines are `MAJOR:MINOR rbytes=BYTES wbytes=BYTES ...`.
fn block_bytes(group: &Path, key: &str) -> Option<u64> {
    let text = read_text(&group.join("io.stat")).ok()?;
    let amounts = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
    Some(amounts.fold(0, u64::saturating_add))
}

/// The out-of-memory kills that the kernel counted; `None` where there were none. It counts them for
/// whose they are, and the lack of memory (`oom`) only for who lacked it and those above.
fn evidence(group: &Path) -> Option<OomEvidence> {
    let events = group.join("memory.events");
    let kills = read_keyed(&events, "oom_kill")?;
    if kills == 0 {
        return None;
    }
    Some(OomEvidence {
        kills,
        limit_bytes: read_number(&group.join("memory.max"))?,
        peak_bytes: read_number(&group.join("memory.peak")),
        process: None,
        of_node: read_keyed(&events, "oom") == Some(0),
    })
}
