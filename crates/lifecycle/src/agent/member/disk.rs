//! What a member has on its node's disk, and that it is ended for it.

use super::super::DiskBegan;
use super::{Guest, Member};

/// What is known of what a member has on disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// When it was started or, if this process did not start it, at the first measurement.
    first: DiskBegan,
    /// What its writing is counted from: the first or, while the disk stays full, when another one
    /// was ended for the disk.
    mark: DiskBegan,
    /// At the last measurement.
    last: u64,
}

impl Member {
    /// Notes what is on disk now.
    pub(in super::super) fn disk_measured(
        &mut self,
        bytes: Option<u64>,
        began: Option<DiskBegan>,
        free_bytes: u64,
    ) {
        if bytes.is_none() && self.guest == Guest::Gone {
            // What it wrote is kept, and still accounts for what the disk lost.
            return;
        }
        let known = self.disk;
        self.disk = bytes.map(|last| {
            let now = DiskBegan {
                bytes: last,
                free_bytes,
            };
            let first = known.map_or(began.unwrap_or(now), |disk| disk.first);
            let mark = known.map_or(first, |disk| disk.mark);
            Disk { first, mark, last }
        });
    }

    /// What it writes is counted from now on.
    pub(in super::super) fn mark_disk(&mut self, free_bytes: u64) {
        if let Some(disk) = &mut self.disk {
            disk.mark = DiskBegan {
                bytes: disk.last,
                free_bytes,
            };
        }
    }

    /// What it writes is counted from its start.
    pub(in super::super) fn forget_disk_mark(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.mark = disk.first;
        }
    }

    /// Bytes that the file system lost since the mark.
    pub(in super::super) fn lost_bytes(&self, free: u64) -> u64 {
        let before = self.disk.map_or(free, |disk| disk.mark.free_bytes);
        before.saturating_sub(free)
    }

    /// Bytes written since the mark, as far as was seen.
    pub(in super::super) fn written_bytes(&self) -> u64 {
        self.disk
            .map_or(0, |disk| disk.last.saturating_sub(disk.mark.bytes))
    }

    /// The last measurement is above the limit of its specification.
    pub(in super::super) fn is_above_disk_limit(&self) -> bool {
        let limit = self.spec.session.disk_limit;
        let last = self.disk.map(|disk| disk.last);
        limit.is_some_and(|limit| last.is_some_and(|last| last > limit))
    }

    pub(in super::super) fn is_ended_for_disk(&self) -> bool {
        self.reasons.disk_limit.is_some() && self.state.occupies()
    }

    /// Ends it with what it has on disk by the last measurement.
    pub(in super::super) fn end_for_disk(&mut self) {
        let bytes = self.disk.map_or(0, |disk| disk.last);
        self.reasons.disk_limit = Some(bytes);
    }

    /// An earlier process has decided that, and may have ordered it.
    pub(in super::super) fn was_ended_for_disk(&mut self, bytes: Option<u64>) {
        self.reasons.disk_limit = bytes;
    }
}
