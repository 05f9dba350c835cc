//! Acts on groups that are the same in both versions.

use super::GroupError;
use super::names::Names;
use domain::{MemberId, OomEvidence, Pressure};
use engine_api::{RemoveReport, Usage};
use process::{ProcessIdentity, send_signal};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::retry_on_intr;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// CPU time is dealt out in periods of this length.
pub(super) const CPU_PERIOD_MICROS: u64 = 100_000;
/// The kernel refuses a smaller share of a period.
const CPU_QUOTA_LEAST_MICROS: u64 = 1_000;
/// How often our own group is made again because another process removed it.
pub(super) const MAKE_TRIES: u32 = 3;
/// How long the processes of a killed container may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// First and longest pause while waiting for that: it is usually over before the first.
const KILL_PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));
/// Bytes of a group's file that are read at once.
const PIECE_BYTES: usize = 4 << 10;
/// What is waited for on the whole node.
const NODE_PRESSURE: &str = "/proc/pressure";
/// How deep groups of a member may lie in each other: its own, and those that it is divided into.
const DEPTH_LIMIT: u32 = 3;

/// What all containers of a site together leave of the node's processes: a quarter.
const PROCESSES_LEFT_DIVISOR: u64 = 4;
/// Files with the most processes that a node can have; the least of them counts.
const PROCESSES_MOST: [&str; 2] = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];

/// Limits the processes of all containers together, in our own group, if it has the controller:
/// a node has only so many, and the limits of single containers are not shares of them.
pub(super) fn limit_all_processes(own: &Path) -> Result<(), GroupError> {
    let path = own.join("pids.max");
    let most = PROCESSES_MOST
        .iter()
        .filter_map(|path| read_number(Path::new(path)));
    match most.min() {
        Some(most) if path.exists() => {
            write(&path, &(most - most / PROCESSES_LEFT_DIVISOR).to_string())
        }
        Some(_) | None => Ok(()),
    }
}

/// The share of a period for so many ten-thousandths of a CPU.
pub(super) fn cpu_quota(cpu: u64) -> u64 {
    (cpu * CPU_PERIOD_MICROS / 10_000).max(CPU_QUOTA_LEAST_MICROS)
}

/// Makes a group; that it is there is success.
pub(super) fn make(group: &Path) -> Result<(), GroupError> {
    match fs::create_dir(group) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(GroupError::Act {
            act: "create",
            path: group.into(),
            source,
        }),
        _ => Ok(()),
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), GroupError> {
    fs::write(path, text).map_err(|source| GroupError::Act {
        act: "write",
        path: path.into(),
        source,
    })
}

/// What a file of a group says. It has no size that would be worth asking for, and fits into one
/// piece: an end reads a dozen of them.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (mut text, mut piece) = (Vec::new(), [0; PIECE_BYTES]);
    loop {
        match retry_on_intr(|| rustix::io::read(&file, &mut piece))? {
            0 => break,
            count => text.extend_from_slice(&piece[..count]),
        }
    }
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A file that holds one number, if it is there and does.
pub(super) fn read_number(path: &Path) -> Option<u64> {
    number(&read_text(path).ok()?)
}

/// A file of numbers, one in each line.
pub(super) fn read_numbers(path: &Path) -> Result<Vec<i32>, GroupError> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(GroupError::Absent),
        Err(source) => {
            return Err(GroupError::Act {
                act: "read",
                path: path.into(),
                source,
            });
        }
    };
    // A process that cannot be seen from here is shown as 0.
    let numbers = text.lines().filter_map(|line| line.parse().ok());
    Ok(numbers.filter(|number| *number > 0).collect())
}

/// What is told of a group that is about to be removed; `evidence` is asked for where its usage does
/// not tell.
pub(super) fn report(
    usage: Option<Usage>,
    evidence: impl FnOnce() -> Option<OomEvidence>,
) -> RemoveReport {
    let told = usage.as_ref().map(|usage| usage.out_of_memory.clone());
    RemoveReport {
        out_of_memory: told.unwrap_or_else(evidence),
        usage,
    }
}

pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind `key` in a file of lines `key number`.
pub(super) fn read_keyed(path: &Path, key: &str) -> Option<u64> {
    let text = read_text(path).ok()?;
    text.lines()
        .find_map(|line| number(line.strip_prefix(key)?.strip_prefix(' ')?))
}

/// What the processes of a group of version 2 wait for, where the kernel measures it.
pub(super) fn pressure(group: &Path) -> Option<Pressure> {
    Pressure::parse(|name| read_text(&group.join(format!("{name}.pressure"))).ok())
}

/// Whether the kernel measures what is waited for in groups below this one, or why not. The first
/// group has the files only since Linux 5.2, where the node's own tell the same.
pub(super) fn measures_pressure(group: &Path) -> Result<(), String> {
    let node = |name| fs::read_to_string(Path::new(NODE_PRESSURE).join(name)).ok();
    if pressure(group).is_some() || Pressure::parse(node).is_some() {
        return Ok(());
    }
    let reason = if Path::new(NODE_PRESSURE).exists() {
        "the kernel measures what is waited for only when it is started with `psi=1`"
    } else {
        "the kernel does not measure what is waited for: it is older than 4.20, was built without \
         that, or is to be started with `psi=1`"
    };
    Err(reason.to_owned())
}

/// The members that have a group in one of `sites`, and what groups without a member are named after.
pub(super) fn members(sites: impl IntoIterator<Item = PathBuf>, given: &Names) -> Vec<MemberId> {
    let entries = sites.into_iter().flat_map(fs::read_dir).flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter_map(|name| name.parse().ok());
    let members: BTreeSet<MemberId> = names.map(|name| given.owner(name)).collect();
    members.into_iter().collect()
}

/// The processes of these groups and of the groups in them, by number.
pub(super) fn processes(groups: impl IntoIterator<Item = PathBuf>) -> Vec<i32> {
    let mut found = BTreeSet::new();
    for group in groups {
        collect_processes(&group, DEPTH_LIMIT, &mut found);
    }
    found.into_iter().filter(|pid| *pid > 0).collect()
}

fn collect_processes(group: &Path, depth: u32, found: &mut BTreeSet<i32>) {
    let Ok(text) = read_text(&group.join("cgroup.procs")) else {
        return;
    };
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth > 1 {
        for child in children(group) {
            collect_processes(&child, depth - 1, found);
        }
    }
}

/// The groups right in `group`.
pub(super) fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Kills each of `listed()` once. A number may pass on to another process after it was listed; the
/// descriptor that is opened in between does not.
pub(super) fn kill_each(listed: impl Fn() -> Vec<i32>) {
    for pid in listed() {
        let Ok(Some(identity)) = ProcessIdentity::of(pid) else {
            continue;
        };
        let Ok(Some(pidfd)) = identity.open() else {
            continue;
        };
        if listed().contains(&pid) {
            let _ = send_signal(&pidfd, Signal::KILL);
        }
    }
}

/// Kills until `listed` tells of no process; the time by which everything else must be done.
pub(super) fn kill_all(
    listed: impl Fn() -> Vec<i32>,
    kill: impl Fn(),
) -> Result<Instant, GroupError> {
    let deadline = Instant::now() + KILL_LIMIT;
    let mut pause = KILL_PAUSE.0;
    loop {
        let left = listed();
        if left.is_empty() {
            return Ok(deadline);
        }
        if Instant::now() > deadline {
            return Err(GroupError::StillAlive {
                count: left.len(),
                seconds: KILL_LIMIT.as_secs(),
            });
        }
        kill();
        std::thread::sleep(pause);
        pause = (pause * 2).min(KILL_PAUSE.1);
    }
}

/// Removes `groups`, the first of which tells by its refusal that processes or groups are in all of
/// them. How many are left.
pub(super) fn removed_at_once(groups: &[PathBuf]) -> usize {
    let is_removed = |group: &PathBuf| match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    let removed = groups.iter().take_while(|group| is_removed(group)).count();
    groups.len() - removed
}

/// Removes a group and the groups in it. One whose last process has just ended is busy for a
/// moment.
pub(super) fn remove_group(group: &Path, deadline: Instant) -> Result<(), GroupError> {
    remove_to_depth(group, deadline, DEPTH_LIMIT)
}

fn remove_to_depth(group: &Path, deadline: Instant, depth: u32) -> Result<(), GroupError> {
    let mut parts_removed = depth <= 1;
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // It has parts, or its last process has just ended.
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
            {
                if parts_removed {
                    std::thread::sleep(KILL_PAUSE.0);
                    continue;
                }
                for child in children(group) {
                    remove_to_depth(&child, deadline, depth - 1)?;
                }
                parts_removed = true;
            }
            Err(source) => {
                return Err(GroupError::Act {
                    act: "remove",
                    path: group.into(),
                    source,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{cpu_quota, read_keyed};

    #[test]
    fn a_share_of_a_cpu_is_a_share_of_a_period() {
        assert_eq!(cpu_quota(10_000), 100_000);
        assert_eq!(cpu_quota(2_500), 25_000);
        assert_eq!(cpu_quota(1), 1_000, "the kernel's least");
    }

    #[test]
    fn a_key_is_a_whole_word() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("memory.events");
        std::fs::write(&path, "oom 3\noom_kill 2\noom_group_kill 0\n").expect("written");
        assert_eq!(read_keyed(&path, "oom_kill"), Some(2));
        assert_eq!(read_keyed(&path, "oom"), Some(3));
        assert_eq!(read_keyed(&path, "max"), None);
    }
}
