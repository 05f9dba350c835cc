//! What the session uses, by its control group as it is shown inside.

use guest_api::Picture;
use guest_api::picture::Groups;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Version 1 counts user and system time in units of this many microseconds (USER_HZ is 100).
const TICK_MICROS: u64 = 10_000;

/// See the module. What cannot be read is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// CPU time in user mode and in the kernel, in microseconds.
    pub(super) user_micros: u64,
    pub(super) system_micros: u64,
    /// All memory that counts against the limit, in bytes; `None` where that cannot be told.
    pub(super) memory_bytes: Option<u64>,
    /// Parts of it, in bytes.
    pub(super) memory: Memory,
    /// Processes there are.
    pub(super) processes: u32,
}

/// In bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) anonymous: u64,
    /// Content of files.
    pub(super) cached: u64,
    /// Of `/tmp` and `/dev/shm` and shared between processes; part of `cached`.
    pub(super) shared: u64,
    pub(super) active_anonymous: u64,
    pub(super) inactive_anonymous: u64,
    pub(super) active_file: u64,
    pub(super) inactive_file: u64,
    pub(super) unevictable: u64,
    pub(super) dirty: u64,
    pub(super) writeback: u64,
    pub(super) mapped: u64,
    pub(super) slab_reclaimable: u64,
    pub(super) slab_unreclaimable: u64,
    pub(super) kernel_stack: u64,
    pub(super) page_tables: u64,
}

impl Usage {
    pub(super) fn cpu_micros(&self) -> u64 {
        self.user_micros.saturating_add(self.system_micros)
    }
}

pub(super) fn read(picture: &Picture) -> Usage {
    let mut usage = Usage {
        processes: processes(),
        ..Usage::default()
    };
    let Some(groups) = &picture.groups else {
        (usage.user_micros, usage.system_micros) = cpu_of_processes();
        return usage;
    };
    (usage.user_micros, usage.system_micros) = cpu(groups);
    if picture.memory_bytes.is_some() {
        let directory = Path::new(&groups.memory);
        let (file, total) = match groups.version {
            1 => ("memory.usage_in_bytes", "total_"),
            _ => ("memory.current", ""),
        };
        let bytes = fs::read_to_string(directory.join(file)).ok();
        usage.memory_bytes = bytes.and_then(|text| text.trim().parse().ok());
        let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
        usage.memory = memory(&stat, total);
    }
    usage
}

/// What the processes that there are have used, and those of which somebody took the exit status,
/// the last of them the guest.
fn cpu_of_processes() -> (u64, u64) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all = (0_u64, 0_u64);
    for entry in entries.filter(is_process) {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if let Some((user, system)) = times(&stat) {
            all = (all.0.saturating_add(user), all.1.saturating_add(system));
        }
    }
    all
}

/// Of a process and of its children that were waited for, by proc(5): the fields behind its name, which
/// may hold anything, are counted from 3; these are 14 to 17.
fn times(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || ticks.next()?.ok();
    let (user, system, childrens_user, childrens_system) = (next()?, next()?, next()?, next()?);
    let micros = |own: u64, others: u64| own.saturating_add(others).saturating_mul(TICK_MICROS);
    Some((
        micros(user, childrens_user),
        micros(system, childrens_system),
    ))
}

fn cpu(groups: &Groups) -> (u64, u64) {
    let directory = Path::new(&groups.cpu);
    let (file, user, system, unit) = match groups.version {
        1 => ("cpuacct.stat", "user", "system", TICK_MICROS),
        _ => ("cpu.stat", "user_usec", "system_usec", 1),
    };
    let stat = fs::read_to_string(directory.join(file)).unwrap_or_default();
    let stat = keyed(&stat);
    let time = |key: &str| stat.get(key).copied().unwrap_or(0).saturating_mul(unit);
    (time(user), time(system))
}

/// Lines of a key and a number.
fn keyed(text: &str) -> BTreeMap<&str, u64> {
    let lines = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    });
    lines.collect()
}

/// Version 1 counts those of groups within this one under names that begin with `total`.
fn memory(stat: &str, total: &str) -> Memory {
    let stat = keyed(stat);
    let is_first = !total.is_empty();
    let of = |v1: &str, v2: &str| {
        let key = if is_first { v1 } else { v2 };
        stat.get(format!("{total}{key}").as_str())
            .copied()
            .unwrap_or(0)
    };
    Memory {
        anonymous: of("rss", "anon"),
        cached: of("cache", "file"),
        shared: of("shmem", "shmem"),
        active_anonymous: of("active_anon", "active_anon"),
        inactive_anonymous: of("inactive_anon", "inactive_anon"),
        active_file: of("active_file", "active_file"),
        inactive_file: of("inactive_file", "inactive_file"),
        unevictable: of("unevictable", "unevictable"),
        dirty: of("dirty", "file_dirty"),
        writeback: of("writeback", "file_writeback"),
        mapped: of("mapped_file", "file_mapped"),
        slab_reclaimable: of("slab_reclaimable", "slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable", "slab_unreclaimable"),
        kernel_stack: of("kernel_stack", "kernel_stack"),
        page_tables: of("pagetables", "pagetables"),
    }
}

/// Processes of this namespace, which are those of the session.
fn processes() -> u32 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    u32::try_from(entries.filter(is_process).count()).unwrap_or(u32::MAX)
}

/// Of the entries of `/proc`.
fn is_process(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::{Memory, memory, times};

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 5 6 20 0 1 0 99 0 0";
        assert_eq!(times(stat), Some((170_000, 400_000)));
        assert_eq!(times("7 (a"), None);
    }

    #[test]
    fn both_versions_tell_the_same() {
        let v1 = "cache 7\nrss 1\ntotal_cache 300\ntotal_rss 200\ntotal_inactive_file 100\n\
                  total_mapped_file 50\nhierarchical_memory_limit 9\n";
        let v2 = "anon 200\nfile 300\ninactive_file 100\nfile_mapped 50\npgfault 3\n";
        let expected = Memory {
            anonymous: 200,
            cached: 300,
            inactive_file: 100,
            mapped: 50,
            ..Memory::default()
        };
        assert_eq!(memory(v1, "total_"), expected);
        assert_eq!(memory(v2, ""), expected);
        assert_eq!(memory("nonsense\n", ""), Memory::default());
    }
}
