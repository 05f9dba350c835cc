//! Room for a large file, asked for before its bytes come: a file system then takes each piece with
//! half the work, and the file lies together.

use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use std::io;
use std::os::fd::AsFd;

/// A file is asked for from here on: a small one is written as it comes.
const SMALL_BYTES: u64 = 1 << 20;
/// Bytes that are asked for at once, and the most that a file which ends early has too many.
const STEP_BYTES: u64 = 32 << 20;

/// Counts what is written to one new file from its start on, and asks for room ahead of it. A file
/// system that gives none is not asked again, and a full one says so when it is written to.
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
        let from = self.written;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.written = from.saturating_add(bytes);
        if self.refused || from < SMALL_BYTES || self.written <= self.asked {
            return;
        }
        let length = STEP_BYTES.max(bytes);
        self.refused = fallocate(file, FallocateFlags::KEEP_SIZE, from, length).is_err();
        self.asked = from.saturating_add(length);
    }

    /// Gives back what was asked for and not written.
    pub fn settle(&self, file: impl AsFd) -> io::Result<()> {
        if self.refused || self.asked <= self.written {
            return Ok(());
        }
        Ok(ftruncate(file, self.written)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{RoomAhead, SMALL_BYTES, STEP_BYTES};
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    const PIECE: usize = 256 << 10;

    fn written(pieces: usize) -> (File, RoomAhead) {
        let mut file = tempfile::tempfile().expect("a file");
        let mut room = RoomAhead::default();
        for _ in 0..pieces {
            room.spend(&file, PIECE);
            file.write_all(&[7; PIECE]).expect("written");
        }
        (file, room)
    }

    fn bytes_on_disk(file: &File) -> u64 {
        file.metadata().expect("facts").blocks() * 512
    }

    #[test]
    fn a_large_file_has_room_ahead_and_gives_back_what_it_did_not_use() {
        let (file, room) = written(8);
        let length = 8 * PIECE as u64;
        assert_eq!(file.metadata().expect("facts").len(), length);
        if room.refused {
            return;
        }
        assert!(bytes_on_disk(&file) >= SMALL_BYTES + STEP_BYTES);
        room.settle(&file).expect("given back");
        assert_eq!(file.metadata().expect("facts").len(), length);
        assert!(bytes_on_disk(&file) < length + (1 << 20));
    }

    #[test]
    fn a_small_file_is_written_as_it_comes() {
        let (file, room) = written(4);
        assert_eq!(room.asked, 0);
        room.settle(&file).expect("nothing to do");
        assert_eq!(file.metadata().expect("facts").len(), SMALL_BYTES);
    }

    #[test]
    fn where_there_is_no_room_ahead_nobody_is_asked_again() {
        let null = File::options().write(true).open("/dev/null").expect("open");
        let mut room = RoomAhead::default();
        for _ in 0..8 {
            room.spend(&null, PIECE);
        }
        assert!(room.refused);
        room.settle(&null).expect("nothing was given");
    }
}
