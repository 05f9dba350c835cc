//! What this machine is and offers.

use anyhow::Context;
use domain::amounts::WHOLE;
use domain::{Slots, Timestamp};
use std::time::SystemTime;

/// Least memory that a node keeps for itself.
const LEAST_RESERVE_BYTES: u64 = 512 << 20;

/// The wall clock, read once at the start.
pub(super) fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The machine's host name, `node` where it has none.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "node".to_owned()
    } else {
        name
    }
}

/// What the node offers: its CPUs, and its memory less the larger of 512 MiB and 5 %; or what
/// the operator set, which cannot be more than there is.
pub(super) fn offers(cpu: Option<u64>, memory: Option<u64>) -> anyhow::Result<Slots> {
    let cpus = std::thread::available_parallelism().context("cannot count the CPUs")?;
    let all_cpu = u64::try_from(cpus.get()).unwrap_or(1).saturating_mul(WHOLE);
    let total = total_memory()?;
    let all_memory = total.saturating_sub(LEAST_RESERVE_BYTES.max(total / 20));
    let offered_cpu = cpu.unwrap_or(all_cpu).min(all_cpu);
    let offered_memory = memory.unwrap_or(all_memory).min(total);
    Ok(Slots::of(offered_cpu, offered_memory))
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total_memory() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes
        .and_then(|number| number.trim().parse().ok())
        .context("/proc/meminfo has no MemTotal")?;
    Ok(kibibytes * 1024)
}
