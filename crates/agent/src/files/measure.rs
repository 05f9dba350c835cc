//! How many bytes a tree has on disk.

use super::beneath::{DEPTH_LIMIT, open_directory};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, statat};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Entries after which a walk stops.
const ENTRIES_LIMIT: u64 = 500_000;
/// Bytes of the blocks that `stat` counts in.
const BLOCK_BYTES: u64 = 512;

/// What a walk found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes of all blocks; at least that many if it stopped early.
    pub(crate) bytes: u64,
    /// Entries seen.
    pub(crate) entries: u64,
}

/// Adds up the blocks of everything below `root`, on its own file system, following no links.
/// What vanishes meanwhile or cannot be read is left out. Files with several names count for
/// each. Blocks.
pub(crate) fn measure(root: &Path) -> Measured {
    let mut found = Measured::default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if let Ok(directory) = open(root, flags, Mode::empty()) {
        walk(&directory, 0, &mut found);
    }
    found
}

fn walk(directory: &OwnedFd, depth: usize, found: &mut Measured) {
    let Ok(entries) = Dir::read_from(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        found.entries += 1;
        if found.entries > ENTRIES_LIMIT {
            return;
        }
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        found.bytes = found
            .bytes
            .saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory && depth < DEPTH_LIMIT {
            let name = OsStr::from_bytes(name.to_bytes());
            if let Ok(inner) = open_directory(directory, name) {
                walk(&inner, depth + 1, found);
            }
        }
    }
}
