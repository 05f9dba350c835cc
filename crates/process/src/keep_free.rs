//! Writing that leaves a part of the file system free.

use domain::amounts::{disk_reserve, show_bytes};
use rustix::fs::fstatvfs;
use std::io;
use std::os::fd::AsFd;

/// Who writes no more than this is never refused: on a node that was nearly full before, small
/// things still run.
const SMALL_BYTES: u64 = 64 << 20;
/// Bytes between two looks at what is free.
const LOOK_EVERY_BYTES: u64 = 4 << 20;

/// Counts what one writer writes, and refuses it when less than [`disk_reserve`] is free.
#[derive(Debug, Default)]
pub struct KeepFree {
    written: u64,
    looked_at: u64,
}

impl KeepFree {
    /// To be asked before `bytes` are written to `file`; refuses with
    /// [`io::ErrorKind::StorageFull`]. Where the file system does not tell, nothing is refused.
    pub fn spend(&mut self, file: impl AsFd, bytes: usize) -> io::Result<()> {
        self.spend_of(bytes, || {
            let stat = fstatvfs(file).ok()?;
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            Some((bytes(stat.f_bavail), bytes(stat.f_blocks)))
        })
    }

    /// `space` tells how many bytes are free, and all.
    fn spend_of(
        &mut self,
        bytes: usize,
        space: impl FnOnce() -> Option<(u64, u64)>,
    ) -> io::Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.written = self.written.saturating_add(bytes);
        let due = self.written.saturating_sub(self.looked_at) >= LOOK_EVERY_BYTES;
        if self.written <= SMALL_BYTES || !due {
            return Ok(());
        }
        self.looked_at = self.written;
        let Some((free, total)) = space() else {
            return Ok(());
        };
        let kept = disk_reserve(total);
        if free >= kept {
            return Ok(());
        }
        let (free, kept) = (show_bytes(free.into()), show_bytes(kept.into()));
        let text = format!("{free} are free, and of this file system {kept} are kept free");
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }
}

#[cfg(test)]
mod tests {
    use super::{KeepFree, SMALL_BYTES};
    use std::io::ErrorKind;

    #[test]
    fn who_writes_much_is_refused_before_the_reserve_is_gone() {
        const STEP: usize = 1 << 20;
        let written_of = |mut free: u64, total: u64| {
            let mut keeping = KeepFree::default();
            let mut written = 0;
            while free > 0 {
                let left = || Some((free, total));
                if let Err(error) = keeping.spend_of(STEP, left) {
                    assert_eq!(error.kind(), ErrorKind::StorageFull);
                    break;
                }
                free -= 1 << 20;
                written += 1 << 20;
            }
            (written, free)
        };
        let total = 1_000 << 20;
        let (_, left) = written_of(900 << 20, total);
        assert!((46 << 20..50 << 20).contains(&left), "{left}");
        // Nearly full before: a little can be written.
        assert_eq!(written_of(45 << 20, total), (45 << 20, 0));
        let (written, _) = written_of(100 << 20, 4_000 << 20);
        assert!((SMALL_BYTES..SMALL_BYTES + (4 << 20)).contains(&written));
        // The control: who is not asked fills it.
        assert!(KeepFree::default().spend_of(1 << 30, || None).is_ok());
    }
}
