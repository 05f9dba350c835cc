//! The files of `/proc` as texts: formats of proc(5).

use super::usage::Usage;
use guest_api::Picture;
use std::fmt::Write as _;
use std::time::Duration;

/// Times are told in hundredths of a second (USER_HZ).
const TICK_MICROS: u64 = 10_000;
const KIB: u64 = 1_024;

/// Everything there is to tell, at one moment.
pub(super) struct Moment<'a> {
    pub(super) picture: &'a Picture,
    pub(super) usage: &'a Usage,
    /// Since the session's start.
    pub(super) uptime: Duration,
    /// The wall clock at its start, in seconds since 1970.
    pub(super) began_at: i64,
    /// Over 1, 5 and 15 minutes.
    pub(super) load: [f64; 3],
}

impl Moment<'_> {
    /// Memory that can still be used: what is free, and what the kernel can take back.
    fn available(&self, limit: u64) -> u64 {
        let memory = &self.usage.memory;
        let back = memory.inactive_file + memory.active_file + memory.slab_reclaimable;
        let kept = self.usage.memory_bytes.unwrap_or(0).saturating_sub(back);
        limit.saturating_sub(kept)
    }
}

/// `/proc/stat`: the session's CPU time, spread evenly over the CPUs that it is shown.
pub(super) fn stat(moment: &Moment<'_>) -> String {
    let usage = moment.usage;
    let cpus = u64::try_from(moment.picture.cpus.len()).unwrap_or(1).max(1);
    let uptime = u64::try_from(moment.uptime.as_micros()).unwrap_or(u64::MAX) / TICK_MICROS;
    let (user, system) = (
        usage.user_micros / TICK_MICROS,
        usage.system_micros / TICK_MICROS,
    );
    let idle = uptime.saturating_mul(cpus).saturating_sub(user + system);
    // Numbers of one width: whoever reads a part before and a part after it is written anew reads
    // whole lines all the same.
    let mut text = format!("cpu  {user:>10} 0 {system:>10} {idle:>10} 0 0 0 0 0 0\n");
    for cpu in &moment.picture.cpus {
        let (user, system, idle) = (user / cpus, system / cpus, idle / cpus);
        let _ = writeln!(
            text,
            "cpu{cpu} {user:>10} 0 {system:>10} {idle:>10} 0 0 0 0 0 0"
        );
    }
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {}\nprocesses {:>10}\nprocs_running 1\nprocs_blocked 0\n\
         softirq 0 0 0 0 0 0 0 0 0 0 0\n",
        moment.began_at, usage.processes
    );
    text
}

/// `/proc/meminfo`: the memory limit and what is used of it.
pub(super) fn memory(moment: &Moment<'_>) -> String {
    let limit = moment.picture.memory_bytes.unwrap_or(0);
    let memory = &moment.usage.memory;
    let used = moment.usage.memory_bytes.unwrap_or(0);
    let free = limit.saturating_sub(used);
    let lines = [
        ("MemTotal", limit),
        ("MemFree", free),
        ("MemAvailable", moment.available(limit).max(free)),
        ("Buffers", 0),
        ("Cached", memory.cached),
        ("SwapCached", 0),
        ("Active", memory.active_anonymous + memory.active_file),
        ("Inactive", memory.inactive_anonymous + memory.inactive_file),
        ("Active(anon)", memory.active_anonymous),
        ("Inactive(anon)", memory.inactive_anonymous),
        ("Active(file)", memory.active_file),
        ("Inactive(file)", memory.inactive_file),
        ("Unevictable", memory.unevictable),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", memory.dirty),
        ("Writeback", memory.writeback),
        ("AnonPages", memory.anonymous),
        ("Mapped", memory.mapped),
        ("Shmem", memory.shared),
        ("KReclaimable", memory.slab_reclaimable),
        ("Slab", memory.slab_reclaimable + memory.slab_unreclaimable),
        ("SReclaimable", memory.slab_reclaimable),
        ("SUnreclaim", memory.slab_unreclaimable),
        ("KernelStack", memory.kernel_stack),
        ("PageTables", memory.page_tables),
        ("CommitLimit", limit),
        ("Committed_AS", used),
    ];
    let mut text = String::new();
    for (name, bytes) in lines {
        let _ = writeln!(text, "{:<15} {:>8} kB", format!("{name}:"), bytes / KIB);
    }
    text
}

/// `/proc/loadavg`.
pub(super) fn load_average(moment: &Moment<'_>) -> String {
    let [one, five, fifteen] = moment.load;
    let processes = moment.usage.processes.max(1);
    format!("{one:.2} {five:.2} {fifteen:.2} 1/{processes} {processes}\n")
}

#[cfg(test)]
mod tests {
    use super::{Moment, load_average, memory, stat};
    use crate::picture::usage::{Memory, Usage};
    use guest_api::Picture;
    use std::time::Duration;

    fn check(then: impl FnOnce(&Moment<'_>)) {
        let picture = Picture {
            cpus: vec![3, 7],
            memory_bytes: Some(64 << 20),
            groups: None,
        };
        let usage = Usage {
            user_micros: 2_000_000,
            system_micros: 1_000_000,
            memory_bytes: Some(32 << 20),
            memory: Memory {
                anonymous: 12 << 20,
                cached: 20 << 20,
                inactive_file: 15 << 20,
                active_file: 5 << 20,
                ..Memory::default()
            },
            processes: 4,
        };
        then(&Moment {
            picture: &picture,
            usage: &usage,
            uptime: Duration::from_secs(10),
            began_at: 1_700_000_000,
            load: [0.5, 0.25, 0.0],
        });
    }

    #[test]
    fn cpu_time_is_that_of_the_session_on_its_cpus() {
        check(|moment| {
            let text = stat(moment);
            let mut lines = text
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            for expected in [
                "cpu 200 0 100 1700 0 0 0 0 0 0",
                "cpu3 100 0 50 850 0 0 0 0 0 0",
                "cpu7 100 0 50 850 0 0 0 0 0 0",
            ] {
                assert_eq!(lines.next().as_deref(), Some(expected));
            }
            assert!(text.contains("btime 1700000000\n"), "{text}");
        });
    }

    #[test]
    fn memory_is_the_limit_and_what_is_left_of_it() {
        check(|moment| {
            let text = memory(moment);
            let line = |name: &str| {
                let mut lines = text.lines();
                let line = lines.find(|line| line.starts_with(name)).expect("a line");
                let words: Vec<_> = line.split_whitespace().collect();
                assert_eq!((words.len(), words[2]), (3, "kB"));
                words[1].parse::<u64>().expect("a number")
            };
            assert_eq!(line("MemTotal:"), 65_536);
            assert_eq!(line("MemFree:"), 32_768);
            assert_eq!(line("MemAvailable:"), 53_248);
            assert_eq!(line("SwapTotal:"), 0);
            assert!(text.starts_with("MemTotal:          65536 kB\n"), "{text}");
        });
    }

    #[test]
    fn the_load_is_as_the_kernel_writes_it() {
        check(|moment| assert_eq!(load_average(moment), "0.50 0.25 0.00 1/4 4\n"));
    }
}
