//! A disk that is nearly full: who is ended for it.

use super::member::{Guest, Member};
use super::{AgentEffect, NodeCore, Touched};
use domain::{MemberId, Now};
use std::collections::{BTreeMap, BTreeSet};

/// The agent keeps this part of the file system free: one in twenty.
pub const DISK_RESERVE_DIVISOR: u64 = 20;
/// Never more than this is kept free, so that a large disk is not left unused.
pub const DISK_RESERVE_MOST_BYTES: u64 = 20 << 30;
/// A member that wrote less is never ended for a full disk: on a node that was nearly full before,
/// small programs still run.
pub const DISK_BLAME_LEAST_BYTES: u64 = 64 << 20;

/// A member is ended for a full disk only if the measured growth of the members accounts for at
/// least this part of what was lost meanwhile: one in two. Otherwise something else fills it.
pub const DISK_ACCOUNTED_DIVISOR: u64 = 2;
/// Between two warnings that the disk fills and no member is to blame.
pub const DISK_WARNING_MICROS: u64 = 600 * 1_000_000;

/// A measurement of the node's file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes of work and logs of running members.
    pub members: BTreeMap<MemberId, u64>,
    /// Those of them that were not measured to the end, and have at least that many bytes.
    pub truncated: BTreeSet<MemberId>,
}

impl NodeCore {
    /// Ends every member that has more on disk than its own limit. Beside that, when the disk is
    /// nearly full, ends the member that wrote the most; one at a time. One that
    /// could not be measured to the end counts as the largest. If what they wrote does not account
    /// for what was lost, nobody is ended: it may be that none of them did it.
    pub(super) fn take_disk(
        &mut self,
        disk: &DiskUsage,
        now: Now,
        out: &mut Vec<AgentEffect>,
    ) -> Touched {
        for (id, found) in &mut self.members {
            found.disk_measured(disk.members.get(id).copied(), disk.free_bytes);
        }
        if self.end_above_limit() {
            return Touched::All;
        }
        let reserve = (disk.total_bytes / DISK_RESERVE_DIVISOR).min(DISK_RESERVE_MOST_BYTES);
        let ending = self.members.values().any(Member::is_ended_for_disk);
        if disk.free_bytes >= reserve || ending {
            return Touched::Nothing;
        }
        let size = |id: &MemberId, found: &Member| {
            let unknown = disk.truncated.contains(id);
            (unknown, found.written_bytes())
        };
        let written = self.members.values().map(Member::written_bytes);
        let written_bytes = written.fold(0, u64::saturating_add);
        let writers = self.members.iter_mut().filter(|(id, found)| {
            let (unknown, written) = size(id, found);
            let large = unknown || written >= DISK_BLAME_LEAST_BYTES;
            large && found.guest == Guest::Alive
        });
        let Some((member, found)) = writers.max_by_key(|(id, found)| size(id, found)) else {
            return Touched::Nothing;
        };
        let (unknown, _) = size(member, found);
        let lost_bytes = found.lost_bytes(disk.free_bytes);
        if unknown || written_bytes >= lost_bytes / DISK_ACCOUNTED_DIVISOR {
            found.end_for_disk();
            return Touched::One { member: *member };
        }
        let warned = self.warned_of_disk_at;
        if warned.is_none_or(|at| now.monotonic.micros_since(at) >= DISK_WARNING_MICROS) {
            self.warned_of_disk_at = Some(now.monotonic);
            out.push(AgentEffect::WarnOfDisk {
                free_bytes: disk.free_bytes,
                lost_bytes,
                written_bytes,
            });
        }
        Touched::Nothing
    }

    /// Whether there was one to end.
    fn end_above_limit(&mut self) -> bool {
        let mut any = false;
        for found in self.members.values_mut() {
            let alive = found.guest == Guest::Alive;
            if alive && found.is_above_disk_limit() && !found.is_ended_for_disk() {
                found.end_for_disk();
                any = true;
            }
        }
        any
    }
}
