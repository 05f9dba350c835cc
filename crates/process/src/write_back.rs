//! Having the disk take what a file has while more of it is written.

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Begins to write a part of `file` to the disk and does not wait for its end, so that a later
/// `sync_all` finds less to do; that alone makes anything durable, and alone tells what the disk
/// did not take: what could not be written is told to it, or tried again by it. Blocks only while
/// the disk's queue is full. Where there is no such thing, nothing is done.
pub fn begin_write_back(file: &File, from: u64, bytes: u64) {
    let (Ok(from), Ok(bytes)) = (i64::try_from(from), i64::try_from(bytes)) else {
        return;
    };
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: it takes a descriptor, which is open as long as `file` is, and numbers.
    #[expect(unsafe_code, reason = "rustix does not have it")]
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), from, bytes, flags) };
}

#[cfg(test)]
mod tests {
    use super::begin_write_back;
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    #[test]
    fn a_file_stays_as_it_is_and_what_has_no_disk_is_left_alone() {
        begin_write_back(&File::open("/dev/null").expect("open"), 0, 1);
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[7; 1 << 20]).expect("written");
        begin_write_back(&file, 0, 1 << 20);
        begin_write_back(&file, u64::MAX, u64::MAX);
        file.write_all(b"more").expect("written");
        file.sync_all().expect("on the disk");
        let mut found = Vec::new();
        file.rewind().expect("it is a file");
        file.read_to_end(&mut found).expect("read");
        assert!(found == [&[7; 1 << 20][..], b"more"].concat());
    }
}
