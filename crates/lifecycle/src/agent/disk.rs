//! A disk that is nearly full: who is ended for it, and how often it is looked at.
//!
//! ```text
//!  all of the file system
//!  ├──────────────── free ────────────────┤
//!  ├─ reserve ─┤─ margin ─┤               is written from the right to the left
//!              │          └ the line: below it the largest writer is ended
//!              └ what is kept free
//! ```
//! The margin is what a fast program writes between two looks and its end.

use super::member::{Guest, Member};
use super::{AgentEffect, NodeCore, Touched};
use domain::amounts::disk_reserve;
use domain::{MemberId, Now};
use std::collections::{BTreeMap, BTreeSet};

/// Members are ended when this much more than the reserve is left.
pub(super) const DISK_MARGIN_BYTES: u64 = 64 << 20;
/// Of a small file system the margin is at most this part: one in eight.
const DISK_MARGIN_DIVISOR: u64 = 8;
/// A member that wrote less is never ended for a full disk: on a node that was nearly full before,
/// small programs still run.
const DISK_BLAME_LEAST_BYTES: u64 = 64 << 20;
/// Where little is free, what counts as less is this part of it, for many that each write a little
/// fill it too: one in eight.
const DISK_BLAME_DIVISOR: u64 = 8;

/// A member is ended for a full disk only if the measured growth of the members accounts for at
/// least this part of what was lost meanwhile: one in two. Otherwise something else fills it.
const DISK_ACCOUNTED_DIVISOR: u64 = 2;
/// Between two warnings that the disk fills and no member is to blame.
pub(super) const DISK_WARNING_MICROS: u64 = 600 * 1_000_000;

/// Longest pause between two looks at the free space, and the pause while nothing runs.
pub const DISK_LOOK_MOST_MICROS: u64 = 2_000_000;
/// Shortest pause: one look costs some microseconds.
pub(super) const DISK_LOOK_LEAST_MICROS: u64 = 25_000;
/// Nobody is expected to write faster than so many bytes in a second.
pub(super) const DISK_FASTEST_BYTES: u64 = 2 << 30;

/// With fewer bytes free than this the largest writers are ended.
pub fn disk_line(total_bytes: u64) -> u64 {
    let margin = (total_bytes / DISK_MARGIN_DIVISOR).min(DISK_MARGIN_BYTES);
    disk_reserve(total_bytes) + margin
}

/// Microseconds until the free space is looked at again while members run: before the fastest
/// writer could have come from here to the line.
pub fn disk_look_micros(free_bytes: u64, total_bytes: u64) -> u64 {
    let room = u128::from(free_bytes.saturating_sub(disk_line(total_bytes)));
    let micros = room * 1_000_000 / u128::from(DISK_FASTEST_BYTES);
    let micros = u64::try_from(micros).unwrap_or(DISK_LOOK_MOST_MICROS);
    micros.clamp(DISK_LOOK_LEAST_MICROS, DISK_LOOK_MOST_MICROS)
}

/// How full a member's own file system is, and what of that has come to the node's.
///
/// What a program writes to it lies in memory at first, for half a minute or until that is too much;
/// only then does its image grow. Until then the node's file system has more free than it can keep,
/// and a program that writes at the speed of memory would fill it after it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnDisk {
    /// Bytes that are used inside, those in memory included.
    pub used_bytes: u64,
    /// Bytes that its image has on the node's file system.
    pub image_bytes: u64,
}

impl OwnDisk {
    /// Bytes that the image will grow by when everything is written.
    pub fn promised_bytes(self) -> u64 {
        self.used_bytes.saturating_sub(self.image_bytes)
    }
}

/// What is free of the node's file system and promised to nobody, in bytes.
pub fn disk_unpromised(free_bytes: u64, promised: impl IntoIterator<Item = u64>) -> u64 {
    let promised = promised.into_iter().fold(0, u64::saturating_add);
    free_bytes.saturating_sub(promised)
}

/// A measurement of the node's file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes that can still be written and are promised to nobody ([`disk_unpromised`]).
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes of work and logs of running members, those that are promised included.
    pub members: BTreeMap<MemberId, u64>,
    /// Those of them that were not measured to the end, and have at least that many bytes.
    pub truncated: BTreeSet<MemberId>,
    /// Those whose limit a file system of their own keeps: they are told when it is full.
    pub with_own_disk: BTreeSet<MemberId>,
    /// How it was when they were started, of those that this process started. Of others the first
    /// measurement tells it.
    pub began: BTreeMap<MemberId, DiskBegan>,
}

/// How it was when a member was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskBegan {
    /// Bytes that the member had.
    pub bytes: u64,
    /// Bytes that could still be written.
    pub free_bytes: u64,
}

impl NodeCore {
    /// Ends every member that has more on disk than its own limit, where only measuring keeps it.
    /// Beside that, when the disk is nearly full, ends the member that wrote the most since its
    /// mark: its start or, while the disk stays full, the moment when another one was ended for it.
    /// What an ended one wrote is kept, so the disk stays full, and who wrote only before that does
    /// no harm now. The next one is ended when that one is dead, or when less than half of the
    /// reserve is left.
    ///
    /// One that could not be measured to the end counts as the largest. If what they wrote does not
    /// account for what was lost, nobody is ended: it may be that none of them did it.
    pub(super) fn take_disk(
        &mut self,
        disk: &DiskUsage,
        now: Now,
        out: &mut Vec<AgentEffect>,
    ) -> Touched {
        for (id, found) in &mut self.members {
            let began = disk.began.get(id).copied();
            found.disk_measured(disk.members.get(id).copied(), began, disk.free_bytes);
        }
        if self.end_above_limit(&disk.with_own_disk) {
            return Touched::All;
        }
        if disk.free_bytes >= disk_line(disk.total_bytes) {
            self.members.values_mut().for_each(Member::forget_disk_mark);
            return Touched::Nothing;
        }
        let hurry = disk.free_bytes < disk_reserve(disk.total_bytes) / 2;
        let ending = |found: &Member| found.is_ended_for_disk() && found.guest == Guest::Alive;
        if !hurry && self.members.values().any(ending) {
            return Touched::Nothing;
        }
        let Some(member) = self.largest_writer(disk) else {
            return Touched::Nothing;
        };
        let written = self.members.values().map(Member::written_bytes);
        let written_bytes = written.fold(0, u64::saturating_add);
        let lost_bytes = self.members[&member].lost_bytes(disk.free_bytes);
        let unknown = disk.truncated.contains(&member);
        if unknown || written_bytes >= lost_bytes / DISK_ACCOUNTED_DIVISOR {
            for found in self.members.values_mut() {
                found.mark_disk(disk.free_bytes);
            }
            if let Some(found) = self.members.get_mut(&member) {
                found.end_for_disk();
            }
            return Touched::One { member };
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

    /// The member that is ended next, if any wrote enough.
    fn largest_writer(&self, disk: &DiskUsage) -> Option<MemberId> {
        let least = (disk.free_bytes / DISK_BLAME_DIVISOR).min(DISK_BLAME_LEAST_BYTES);
        let size = |id: &MemberId, found: &Member| {
            let unknown = disk.truncated.contains(id);
            (unknown, found.written_bytes())
        };
        let writers = self.members.iter().filter(|(id, found)| {
            let (unknown, written) = size(id, found);
            let large = unknown || written > 0 && written >= least;
            large && found.guest == Guest::Alive && !found.is_ended_for_disk()
        });
        let largest = writers.max_by_key(|(id, found)| size(id, found));
        largest.map(|(id, _)| *id)
    }

    /// Whether there was one to end.
    fn end_above_limit(&mut self, with_own_disk: &BTreeSet<MemberId>) -> bool {
        let mut any = false;
        for (id, found) in &mut self.members {
            let measured = found.guest == Guest::Alive && !with_own_disk.contains(id);
            if measured && found.is_above_disk_limit() && !found.is_ended_for_disk() {
                found.end_for_disk();
                any = true;
            }
        }
        any
    }
}
