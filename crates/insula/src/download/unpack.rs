//! Reads an archive from a session. The archive is not trusted: names are relative and stay
//! within, devices and set-user-id bits are dropped.

use super::place::{Incoming, Place, Returned};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, EntryType};

/// Most entries that are read.
const ENTRIES_LIMIT: usize = 1_000_000;

/// Puts everything in the archive into `place` and reports it. An error means that the archive
/// broke off or the disk is full; what came before is in place.
pub(super) fn unpack(reader: impl Read, place: &mut Place) -> io::Result<()> {
    let mut archive = Archive::new(reader);
    for (number, entry) in archive.entries()?.enumerate() {
        if number >= ENTRIES_LIMIT {
            return Err(io::Error::other(format!(
                "more than {ENTRIES_LIMIT} files came back"
            )));
        }
        let mut entry = entry?;
        let raw = entry.path()?.into_owned();
        let Some(path) = stays_within(&raw) else {
            place
                .returned
                .skip(&raw, "its name leads out of the directory");
            continue;
        };
        if path.as_os_str().is_empty() {
            continue;
        }
        let mode = entry.header().mode()? & 0o777;
        let modified_s = i64::try_from(entry.header().mtime()?).unwrap_or(0);
        match entry.header().entry_type() {
            EntryType::Directory => place.directory(&path)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                place.file(
                    &path,
                    Incoming {
                        body: &mut entry,
                        mode,
                        modified_s,
                    },
                )?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
                place.link(&path, &target.unwrap_or_default())?;
            }
            _ => place
                .returned
                .skip(&path, "it is neither a file nor a directory"),
        }
    }
    Ok(())
}

/// The path with only names in it; `None` if it leads out.
fn stays_within(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

/// Whether a link at `path` that says `target` stays within.
pub(super) fn link_stays_within(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !target.as_os_str().is_empty()
}

impl Returned {
    fn skip(&mut self, path: &Path, reason: &'static str) {
        self.skipped.push((path.to_path_buf(), reason));
    }
}

#[cfg(test)]
mod tests {
    use super::{link_stays_within, stays_within};
    use std::path::Path;

    #[test]
    fn names_stay_within() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("./a/./b/", Some("a/b")),
            (".", Some("")),
            ("/etc/passwd", None),
            ("../x", None),
            ("a/../../x", None),
        ] {
            assert_eq!(
                stays_within(Path::new(name)).as_deref(),
                expected.map(Path::new),
                "{name}"
            );
        }
    }

    #[test]
    fn links_stay_within() {
        for (path, target, expected) in [
            ("a", "b", true),
            ("d/a", "../b", true),
            ("a", "../b", false),
            ("d/a", "../../b", false),
            ("a", "/etc", false),
            ("a", "", false),
            ("a", "b/../../c", false),
        ] {
            let found = link_stays_within(Path::new(path), Path::new(target));
            assert_eq!(found, expected, "{path} -> {target}");
        }
    }
}
