//! Files that have no name any more and are held open: they take room and no walk sees them.

use super::measure::BLOCK_BYTES;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statfs, statx};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Most processes that are looked at.
const PROCESSES_LIMIT: usize = 100_000;
/// Most descriptors that are looked at, of all processes together.
const DESCRIPTORS_LIMIT: usize = 2_000_000;
/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY: i64 = 0x794c_7630;
/// How the kernel ends the name of a file that has none.
const DELETED: &str = " (deleted)";

/// Bytes of nameless files on the file system of `members`, or on the root of a container, that
/// processes hold open, by what `whose` makes of a process's user id. Files that are only mapped,
/// or on their way through a socket, are not seen. Blocks.
pub(crate) fn held_open<K: Ord + Copy>(
    members: &Path,
    whose: impl Fn(u32) -> Option<K>,
) -> BTreeMap<K, u64> {
    let mut scan = Scan {
        device: look(members).map(|found| found.device),
        seen: BTreeSet::new(),
        left: DESCRIPTORS_LIMIT,
        found: BTreeMap::new(),
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    for entry in processes.take(PROCESSES_LIMIT) {
        let path = entry.path();
        if let Some(key) = user_of(&path).and_then(&whose) {
            scan.process(key, &path);
        }
    }
    scan.found
}

/// The real user id. The owner of the process's directory would not do: it is root's for one that
/// may not be dumped.
fn user_of(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What is told of a file without asking a server for it, which might not answer.
struct Look {
    device: u64,
    inode: u64,
    links: u32,
    is_file: bool,
    bytes: u64,
}

fn look(path: &Path) -> Option<Look> {
    let mask = StatxFlags::BASIC_STATS;
    let stat = statx(CWD, path, AtFlags::STATX_DONT_SYNC, mask).ok()?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    Some(Look {
        device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        links: stat.stx_nlink,
        is_file: kind == FileType::RegularFile,
        bytes: stat.stx_blocks.saturating_mul(BLOCK_BYTES),
    })
}

struct Scan<K> {
    device: Option<u64>,
    /// Device and inode of what was counted.
    seen: BTreeSet<(u64, u64)>,
    left: usize,
    found: BTreeMap<K, u64>,
}

impl<K: Ord + Copy> Scan<K> {
    fn process(&mut self, key: K, process: &Path) {
        let root = process.join("root");
        let overlay = statfs(&root)
            .ok()
            .filter(|found| found.f_type == OVERLAY)
            .and_then(|_| look(&root))
            .map(|found| found.device);
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
        for entry in descriptors.flatten() {
            let Some(left) = self.left.checked_sub(1) else {
                return;
            };
            self.left = left;
            let path = entry.path();
            let nameless = fs::read_link(&path).is_ok_and(|target| {
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .ends_with(DELETED.as_bytes())
            });
            let Some(found) = nameless.then(|| look(&path)).flatten() else {
                continue;
            };
            let here = [self.device, overlay].contains(&Some(found.device));
            if here
                && found.is_file
                && found.links == 0
                && self.seen.insert((found.device, found.inode))
            {
                let sum = self.found.entry(key).or_default();
                *sum = sum.saturating_add(found.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::held_open;
    use std::fs;
    use std::io::Write as _;

    #[test]
    fn files_without_a_name_are_counted_once_and_others_not() {
        let kept = tempfile::tempdir().expect("a directory");
        let own = rustix::process::getuid().as_raw();
        let held = || {
            let found = held_open(kept.path(), |user| (user == own).then_some(()));
            found.get(&()).copied().unwrap_or(0)
        };
        let size = 48_u64 << 20;
        let path = kept.path().join("hog");
        let mut file = fs::File::create(&path).expect("created");
        file.set_len(0).expect("empty");
        let part = vec![7; 1 << 20];
        for _ in 0..size >> 20 {
            file.write_all(&part).expect("written");
        }
        file.sync_all().expect("its blocks are known");
        let before = held();
        let twice = file.try_clone().expect("cloned");
        fs::remove_file(&path).expect("removed");
        // Other tests of this user may hold small files meanwhile.
        let grown = held().saturating_sub(before);
        assert!((size..size + (size >> 1)).contains(&grown), "{grown}");
        drop((file, twice));
        assert!(held().saturating_sub(before) < size / 2);
        assert!(held_open(kept.path(), |_| None::<()>).is_empty());
    }
}
