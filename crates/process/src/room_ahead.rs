//! Room for a large file, asked for before its bytes come: a file system then takes each piece with
//! half the work, and the file lies together.

use domain::amounts::disk_reserve;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs, ftruncate};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A file is asked for from here on: a small one is written as it comes.
const SMALL_BYTES: u64 = 1 << 20;
/// Bytes that are asked for at once, and the most that a file which ends early has too many.
const STEP_BYTES: u64 = 32 << 20;
/// What has to be free beside what is kept free ([`disk_reserve`]): what some writers ask for ahead
/// takes nothing from others that write, nor brings them to the reserve.
const PLENTY_BYTES: u64 = 1 << 30;

/// Counts what is written to one new file from its start on, and asks for room ahead of it where
/// there is plenty. Of a file system that gives none nothing more is asked for this file.
#[derive(Debug, Default)]
pub struct RoomAhead {
    written: u64,
    /// Room was asked for up to here.
    asked: u64,
    refused: bool,
}

impl RoomAhead {
    /// To be told before `bytes` are written to `file`.
    pub fn spend(&mut self, file: impl AsFd, bytes: usize) {
        let file = file.as_fd();
        self.spend_of(file, bytes, || has_plenty(file));
    }

    fn spend_of(&mut self, file: BorrowedFd<'_>, bytes: usize, plenty: impl FnOnce() -> bool) {
        let from = self.written;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.written = from.saturating_add(bytes);
        if self.refused || from < SMALL_BYTES || self.written <= self.asked {
            return;
        }
        let length = STEP_BYTES.max(bytes);
        self.asked = from.saturating_add(length);
        self.refused =
            !plenty() || fallocate(file, FallocateFlags::KEEP_SIZE, from, length).is_err();
        if self.refused {
            // One that ran full may have given a part. Where this fails, too, there is none.
            let _ = ftruncate(file, from);
        }
    }

    /// Gives back what was asked for and not written.
    pub fn settle(&self, file: impl AsFd) -> io::Result<()> {
        if self.refused || self.asked <= self.written {
            return Ok(());
        }
        Ok(ftruncate(file, self.written)?)
    }
}

fn has_plenty(file: BorrowedFd<'_>) -> bool {
    fstatvfs(file).is_ok_and(|stat| {
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let kept = disk_reserve(bytes(stat.f_blocks)).saturating_add(PLENTY_BYTES);
        bytes(stat.f_bavail) >= kept
    })
}

#[cfg(test)]
mod tests {
    use super::{RoomAhead, SMALL_BYTES, STEP_BYTES};
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    const PIECE: usize = 256 << 10;

    fn written(pieces: usize, has_plenty: bool) -> (File, RoomAhead) {
        let mut file = tempfile::tempfile().expect("a file");
        let mut room = RoomAhead::default();
        for _ in 0..pieces {
            room.spend_of(file.as_fd(), PIECE, || has_plenty);
            file.write_all(&[7; PIECE]).expect("written");
        }
        (file, room)
    }

    fn length(file: &File) -> u64 {
        file.metadata().expect("facts").len()
    }

    fn bytes_on_disk(file: &File) -> u64 {
        file.metadata().expect("facts").blocks() * 512
    }

    #[test]
    fn a_large_file_has_room_ahead_and_gives_back_what_it_did_not_use() {
        let (file, room) = written(8, true);
        assert_eq!(length(&file), 8 * PIECE as u64);
        if room.refused {
            return;
        }
        assert!(bytes_on_disk(&file) >= SMALL_BYTES + STEP_BYTES);
        room.settle(&file).expect("given back");
        assert_eq!(length(&file), 8 * PIECE as u64);
        assert!(bytes_on_disk(&file) < 8 * PIECE as u64 + (1 << 20));
    }

    #[test]
    fn a_small_file_and_one_on_a_disk_without_plenty_are_written_as_they_come() {
        for (pieces, has_plenty) in [(4, true), (8, false)] {
            let (file, room) = written(pieces, has_plenty);
            let bytes = pieces as u64 * PIECE as u64;
            assert!(bytes_on_disk(&file) < bytes + (1 << 20));
            room.settle(&file).expect("nothing to do");
            assert_eq!(length(&file), bytes);
        }
    }

    #[test]
    fn where_there_is_no_room_ahead_nothing_more_is_asked() {
        let null = File::options().write(true).open("/dev/null").expect("open");
        let mut room = RoomAhead::default();
        let mut asked = 0;
        for _ in 0..1024 {
            room.spend_of(null.as_fd(), PIECE, || {
                asked += 1;
                true
            });
        }
        assert_eq!(asked, 1);
        room.settle(&null).expect("nothing was given");
    }
}
