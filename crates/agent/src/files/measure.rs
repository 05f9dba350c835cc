//! How many bytes a tree has on disk.
//!
//! Programs inside may nest directories as deep as they like, and move them meanwhile: the walk
//! holds one directory and the names that wait, goes back by `..`, and checks that it came to
//! where it was.

use super::beneath::open_directory;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, statat};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Entries after which a walk stops that may take its time.
pub(crate) const ENTRIES_LIMIT: u64 = 500_000;
/// Walks of a tree whose directories are moved meanwhile: programs do that, too, and mean no harm.
const TRIES_LIMIT: u32 = 3;
/// Bytes of the blocks that `stat` counts in.
pub(super) const BLOCK_BYTES: u64 = 512;

/// What a walk found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes of all blocks; at least that many if it stopped early.
    pub(crate) bytes: u64,
    /// Entries seen.
    pub(crate) entries: u64,
    /// It stopped early: there are too many entries, or they were moved while it walked.
    pub(crate) truncated: bool,
}

/// Adds up the blocks of everything below `root`, on its own file system, following no links.
/// What vanishes meanwhile or cannot be read is left out. Files with several names count for
/// each. Stops after so many entries. Blocks.
pub(crate) fn measure(root: &Path, entries_limit: u64) -> Measured {
    let mut most = Measured::default();
    for _ in 0..TRIES_LIMIT {
        let mut walk = Walk {
            found: Measured::default(),
            entries_limit,
            levels: Vec::new(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(directory) = open(root, flags, Mode::empty()) else {
            return Measured::default();
        };
        if walk.run(directory).is_some() {
            return walk.found;
        }
        most.bytes = most.bytes.max(walk.found.bytes);
        most.entries = most.entries.max(walk.found.entries);
        most.truncated = true;
        if walk.found.entries == entries_limit {
            break;
        }
    }
    most
}

/// Device and inode: a directory is known again by them.
type Place = (u64, u64);

#[allow(
    clippy::unnecessary_cast,
    reason = "the fields' types differ between architectures"
)]
fn place_of(directory: &OwnedFd) -> Option<Place> {
    let stat = fstat(directory).ok()?;
    Some((stat.st_dev as u64, stat.st_ino as u64))
}

/// A directory on the way down.
struct Level {
    place: Place,
    /// Directories in it that have not been entered.
    pending: Vec<OsString>,
}

struct Walk {
    found: Measured,
    entries_limit: u64,
    levels: Vec<Level>,
}

impl Walk {
    /// `None` if it had to stop early.
    fn run(&mut self, root: OwnedFd) -> Option<()> {
        let mut current = root;
        self.enter(&current)?;
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.pending.pop() {
                // One that vanished or became something else is passed over.
                if let Ok(inner) = open_directory(&current, &name) {
                    self.enter(&inner)?;
                    current = inner;
                }
            } else {
                self.levels.pop();
                let Some(above) = self.levels.last() else {
                    break;
                };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let parent = openat(&current, "..", flags, Mode::empty()).ok()?;
                if place_of(&parent)? != above.place {
                    return None;
                }
                current = parent;
            }
        }
        Some(())
    }

    /// Counts the entries of a directory and notes which are directories.
    fn enter(&mut self, directory: &OwnedFd) -> Option<()> {
        let mut pending = Vec::new();
        let entries = Dir::read_from(directory).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.found.entries == self.entries_limit {
                return None;
            }
            self.found.entries += 1;
            let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            let bytes = blocks.saturating_mul(BLOCK_BYTES);
            self.found.bytes = self.found.bytes.saturating_add(bytes);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                pending.push(OsStr::from_bytes(name.to_bytes()).to_os_string());
            }
        }
        let place = place_of(directory)?;
        self.levels.push(Level { place, pending });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES_LIMIT, measure};
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    use std::fs;
    use std::io::Write as _;

    #[test]
    fn what_lies_deep_is_counted() {
        let kept = tempfile::tempdir().expect("a directory");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut current = open(kept.path(), flags, Mode::empty()).expect("opened");
        // Deeper than there are descriptors for, and than a path may be long.
        for _ in 0..5_000 {
            mkdirat(&current, "d", Mode::RWXU).expect("made");
            current = openat(&current, "d", flags, Mode::empty()).expect("opened");
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = openat(&current, "hog", flags, Mode::RUSR).expect("created");
        let mut file = fs::File::from(file);
        file.write_all(&vec![1; 1 << 20]).expect("written");
        file.sync_all().expect("its blocks are known");
        fs::create_dir_all(kept.path().join("e/f")).expect("made");
        let found = measure(kept.path(), ENTRIES_LIMIT);
        assert!(found.bytes >= 1 << 20, "{found:?}");
        assert_eq!((found.entries, found.truncated), (5_003, false));
        drop(file);
        process::remove_tree(&kept.path().join("d")).expect("removed");
    }

    #[test]
    fn a_walk_that_stops_early_says_so() {
        let kept = tempfile::tempdir().expect("a directory");
        for name in ["a", "b/c", "b/d"] {
            fs::create_dir_all(kept.path().join(name)).expect("made");
        }
        for (limit, truncated) in [(4, false), (3, true)] {
            let found = measure(kept.path(), limit);
            assert_eq!((found.entries, found.truncated), (limit, truncated));
        }
        assert!(!measure(&kept.path().join("absent"), 3).truncated);
    }
}
