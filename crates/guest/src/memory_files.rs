//! Whether `/tmp` or `/dev/shm` was ever full, which programs only tell as "no space".

use domain::{LimitsReached, Monotonic};
use rustix::fs::{Mode, OFlags, StatFs, fstatfs, open};
use std::os::fd::OwnedFd;

use crate::time::after;

/// What statfs(2) says of a tmpfs.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// A file system with less than this part of its blocks free is full.
const FREE_DIVISOR: u64 = 100;
/// Shortest time between two looks while the command runs, in milliseconds.
const PAUSE_MS: u64 = 100;

/// The two places, as far as they are kept in memory: what a user mounted there is their own, and
/// may be a file system whose server is gone, which nobody should wait for.
#[derive(Debug)]
pub(crate) struct MemoryFiles {
    tmp: Option<Place>,
    shm: Option<Place>,
    next: Monotonic,
}

#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    /// Its size in bytes, if it was found full.
    full_bytes: Option<u64>,
}

impl MemoryFiles {
    /// Finds the places of the container, before the command is there.
    pub(crate) fn find() -> Self {
        Self {
            tmp: Place::find("/tmp"),
            shm: Place::find("/dev/shm"),
            next: Monotonic(0),
        }
    }

    /// Looks, unless it has done so a moment ago. A program often removes what it wrote before it
    /// ends; the guest is awake when one complains.
    pub(crate) fn look_now_and_then(&mut self, now: Monotonic) {
        if now >= self.next {
            self.next = after(now, PAUSE_MS);
            self.look();
        }
    }

    /// Looks.
    pub(crate) fn look(&mut self) {
        for place in [&mut self.tmp, &mut self.shm].into_iter().flatten() {
            place.look();
        }
    }

    /// For the exit record.
    pub(crate) fn limits_reached(&self) -> Option<Box<LimitsReached>> {
        let full = |place: &Option<Place>| place.as_ref().and_then(|place| place.full_bytes);
        let limits = LimitsReached {
            tmp_full_bytes: full(&self.tmp),
            shm_full_bytes: full(&self.shm),
            ..LimitsReached::default()
        };
        limits.if_any()
    }
}

impl Place {
    fn find(path: &str) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty()).ok()?;
        let stat = fstatfs(&directory).ok()?;
        (stat.f_type == TMPFS_MAGIC).then_some(Self {
            directory,
            full_bytes: None,
        })
    }

    fn look(&mut self) {
        if self.full_bytes.is_none()
            && let Ok(stat) = fstatfs(&self.directory)
        {
            self.full_bytes = full_bytes(&stat);
        }
    }
}

/// The size of a file system that has no room; `None` if it has, or has no limit.
fn full_bytes(stat: &StatFs) -> Option<u64> {
    let no_blocks = stat.f_blocks > 0 && stat.f_bavail < stat.f_blocks.div_ceil(FREE_DIVISOR);
    let no_files = stat.f_files > 0 && stat.f_ffree == 0;
    let block_bytes = u64::try_from(stat.f_bsize).unwrap_or(0);
    (no_blocks || no_files).then(|| stat.f_blocks.saturating_mul(block_bytes))
}

#[cfg(test)]
mod tests {
    use super::full_bytes;
    use rustix::fs::statfs;

    #[test]
    fn full_is_without_blocks_or_without_files() {
        let mut stat = statfs("/").expect("there is a root");
        stat.f_bsize = 4_096;
        for (blocks, available, files, files_free, expected) in [
            (1_000, 10, 100, 50, None),
            (1_000, 9, 100, 50, Some(4_096_000)),
            (1_000, 0, 100, 50, Some(4_096_000)),
            (1_000, 900, 100, 0, Some(4_096_000)),
            (3, 1, 100, 50, None),
            (3, 0, 100, 50, Some(12_288)),
            (0, 0, 0, 0, None),
        ] {
            (stat.f_blocks, stat.f_bavail) = (blocks, available);
            (stat.f_files, stat.f_ffree) = (files, files_free);
            assert_eq!(full_bytes(&stat), expected, "{blocks} {available}");
        }
    }
}
