//! Copies named entries of the node's `/etc` into a skeleton.
//!
//! Links stay links (`alternatives` is nothing else), but for a link that leads out of what will be
//! visible (systemd's `resolv.conf` points into `/run`): that one is copied as what it leads to.
//! A file that not everybody may read is left out, so nothing private is ever shown, whatever
//! name it has. Set-user-id bits, devices, sockets and pipes are left out too.

use super::{ImageError, failed, make_directory, write_file};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

/// Most entries that are copied; Debian with every certificate has about 1,000.
const ENTRIES_LIMIT: u64 = 50_000;
/// Most bytes that are copied.
const BYTES_LIMIT: u64 = 256 << 20;
/// Most levels of directories.
const DEPTH_LIMIT: u32 = 16;
/// Where a link of `/etc` may lead and still be found inside.
const VISIBLE: &[&str] = &["/usr/", "/etc/", "/opt/", "/bin/", "/lib/", "/proc/"];

/// What has been copied so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    entries: u64,
    bytes: u64,
    depth: u32,
}

impl Budget {
    fn take(&mut self, path: &Path, bytes: u64) -> Result<(), ImageError> {
        self.entries += 1;
        self.bytes += bytes;
        let over = [
            (self.entries, ENTRIES_LIMIT, "entries"),
            (self.bytes, BYTES_LIMIT, "bytes"),
        ]
        .into_iter()
        .find(|(used, limit, _)| used > limit);
        match over {
            None => Ok(()),
            Some((_, limit, unit)) => Err(ImageError::TooLarge {
                path: path.into(),
                limit,
                unit,
            }),
        }
    }
}

/// Copies `from` to `to` with what is below it. An absent or private entry is passed over.
pub(super) fn copy_entry(from: &Path, to: &Path, budget: &mut Budget) -> Result<(), ImageError> {
    let Ok(facts) = fs::symlink_metadata(from) else {
        return Ok(());
    };
    if let Some(parent) = to.parent() {
        make_parents(parent)?;
    }
    if facts.file_type().is_symlink() {
        return copy_link(from, to, budget);
    }
    let world = facts.mode() & 0o007;
    if facts.is_dir() && world & 0o005 == 0o005 {
        copy_directory(from, to, budget)
    } else if facts.is_file() && world & 0o004 != 0 {
        copy_file(from, to, budget)
    } else {
        Ok(())
    }
}

fn make_parents(directory: &Path) -> Result<(), ImageError> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_parents(parent)?;
    }
    make_directory(directory, 0o755)
}

fn copy_link(from: &Path, to: &Path, budget: &mut Budget) -> Result<(), ImageError> {
    let target = fs::read_link(from).map_err(failed("read", from))?;
    // Where the link really leads: a relative one is as good as the place it ends in.
    let end = fs::canonicalize(from).ok();
    let visible = |path: &Path| VISIBLE.iter().any(|prefix| path.starts_with(prefix));
    if end.as_deref().is_none_or(visible) {
        budget.take(from, 0)?;
        return symlink(target, to).map_err(failed("link", to));
    }
    let readable = |facts: &fs::Metadata| facts.is_file() && facts.mode() & 0o004 != 0;
    if fs::metadata(from).is_ok_and(|facts| readable(&facts)) {
        return copy_file(from, to, budget);
    }
    Ok(())
}

fn copy_directory(from: &Path, to: &Path, budget: &mut Budget) -> Result<(), ImageError> {
    budget.take(from, 0)?;
    if budget.depth == DEPTH_LIMIT {
        return Ok(());
    }
    make_directory(to, 0o755)?;
    budget.depth += 1;
    for entry in fs::read_dir(from).map_err(failed("list", from))? {
        let entry = entry.map_err(failed("list", from))?;
        copy_entry(&entry.path(), &to.join(entry.file_name()), budget)?;
    }
    budget.depth -= 1;
    Ok(())
}

fn copy_file(from: &Path, to: &Path, budget: &mut Budget) -> Result<(), ImageError> {
    let facts = fs::metadata(from).map_err(failed("inspect", from))?;
    budget.take(from, facts.len())?;
    let bytes = fs::read(from).map_err(failed("read", from))?;
    write_file(to, &bytes, facts.mode() & 0o755)
}
