//! What a member has on its node's disk, and that it is ended for it.

use super::{Guest, Member};

/// What is known of what a member has on disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// At the first measurement.
    first: u64,
    /// At the last.
    last: u64,
    /// What was free at the first.
    first_free: u64,
}

impl Member {
    /// Notes what is on disk now; the first measurement is what it started with.
    pub(in super::super) fn disk_measured(&mut self, bytes: Option<u64>, free: u64) {
        if bytes.is_none() && self.guest == Guest::Gone {
            // What it wrote is kept, and still accounts for what the disk lost.
            return;
        }
        self.disk = bytes.map(|last| Disk {
            first: self.disk.map_or(last, |disk| disk.first),
            last,
            first_free: self.disk.map_or(free, |disk| disk.first_free),
        });
    }

    /// Bytes that the file system lost since the first measurement.
    pub(in super::super) fn lost_bytes(&self, free: u64) -> u64 {
        let first_free = self.disk.map_or(free, |disk| disk.first_free);
        first_free.saturating_sub(free)
    }

    /// Bytes written since the first measurement, as far as was seen.
    pub(in super::super) fn written_bytes(&self) -> u64 {
        self.disk
            .map_or(0, |disk| disk.last.saturating_sub(disk.first))
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
