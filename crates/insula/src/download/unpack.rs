//! Reads an archive from a session. The archive is not trusted: names are relative and stay
//! within, devices and set-user-id bits are dropped.

use super::left_out;
use super::place::{Incoming, Limits, Place, Returned, TooMuch};
use crate::pack::is_version_control;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, EntryType};

/// Most entries that are read.
const ENTRIES_LIMIT: usize = 1_000_000;
/// Most symbolic links that are taken: they are kept until everything else is there.
const LINKS_LIMIT: usize = 100_000;
/// Most bytes that are read over because they do not fit; more, and the rest is left.
const READ_OVER_LIMIT: u64 = 2_000_000_000;

/// Puts everything in the archive into `place` and reports it. An error means that the archive
/// broke off or the disk is full; what came before is in place.
pub(super) fn unpack(reader: impl Read, place: &mut Place) -> io::Result<()> {
    place.returned.too_much = TooMuch::default();
    let mut budget = Budget {
        left: place.limits,
        read_over: 0,
    };
    let mut links = Vec::new();
    let mut archive = Archive::new(reader);
    for (number, entry) in archive.entries()?.enumerate() {
        if number >= ENTRIES_LIMIT {
            return Err(io::Error::other(format!(
                "more than {ENTRIES_LIMIT} files came back"
            )));
        }
        let mut entry = entry?;
        let raw = entry.path()?.into_owned();
        let Some(path) = allowed(&raw, place) else {
            continue;
        };
        if path == Path::new(left_out::NAME) {
            left_out::note(&mut entry, &mut place.returned)?;
            continue;
        }
        let (kind, size) = (entry.header().entry_type(), entry.size());
        match budget.take(&path, size, &mut place.returned.too_much) {
            Room::Enough => {}
            Room::TooLittle => continue,
            Room::Hopeless => break,
        }
        let mode = entry.header().mode()? & 0o777;
        let modified_s = i64::try_from(entry.header().mtime()?).unwrap_or(0);
        match kind {
            EntryType::Directory => place.directory(&path)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let incoming = Incoming {
                    body: &mut entry,
                    size,
                    mode,
                    modified_s,
                };
                place.file(&path, incoming)?;
            }
            EntryType::Symlink if links.len() < LINKS_LIMIT => {
                let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
                links.push((path, target.unwrap_or_default()));
            }
            EntryType::Symlink => place.returned.skip(&path, "there are too many links"),
            _ => place
                .returned
                .skip(&path, "it is neither a file nor a directory"),
        }
    }
    for (path, target) in links {
        place.link(&path, &target)?;
    }
    Ok(())
}

/// The path as it is put here; `None`, with a word about it, for what is never taken.
fn allowed(raw: &Path, place: &mut Place) -> Option<PathBuf> {
    let Some(path) = stays_within(raw) else {
        place
            .returned
            .skip(raw, "its name leads out of the directory");
        return None;
    };
    if let Some(top) = version_control(&path) {
        // Programs of the user run what stands in there: hooks, editors, monitors.
        place
            .returned
            .skip(&top, "version control is never taken from a session");
        return None;
    }
    if let Some(top) = place.closed.iter().find(|closed| path.starts_with(closed)) {
        let top = top.clone();
        place.returned.skip(&top, "it belongs to the site itself");
        return None;
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

/// The part of the path up to the first directory of version control in it.
fn version_control(path: &Path) -> Option<PathBuf> {
    let count = path.iter().position(is_version_control)? + 1;
    Some(path.iter().take(count).collect())
}

/// What still fits.
struct Budget {
    left: Option<Limits>,
    read_over: u64,
}

/// Whether something fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// It is read over.
    TooLittle,
    /// It is so large that reading over it would take too long.
    Hopeless,
}

impl Budget {
    fn take(&mut self, path: &Path, size: u64, too_much: &mut TooMuch) -> Room {
        let Some(left) = &mut self.left else {
            return Room::Enough;
        };
        if left.files > 0 && size <= left.bytes {
            left.files -= 1;
            left.bytes -= size;
            return Room::Enough;
        }
        too_much.files += 1;
        too_much.bytes = too_much.bytes.saturating_add(size);
        if too_much
            .largest
            .as_ref()
            .is_none_or(|(_, most)| size > *most)
        {
            too_much.largest = Some((path.to_path_buf(), size));
        }
        self.read_over = self.read_over.saturating_add(size);
        if self.read_over > READ_OVER_LIMIT {
            too_much.broke_off = true;
            return Room::Hopeless;
        }
        Room::TooLittle
    }
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

/// Whether a link at `path` that says `target` stays within as far as the words tell: `..` only at
/// the start, since after a name that is itself a link it would lead elsewhere.
pub(super) fn link_stays_within(path: &Path, target: &Path) -> bool {
    let mut above = path.components().count().saturating_sub(1);
    let mut named = false;
    for part in target.components() {
        match part {
            Component::Normal(name) if is_version_control(name) => return false,
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir if above > 0 && !named => above -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !target.as_os_str().is_empty()
}

impl Returned {
    /// Something was not taken. A directory whose every file is skipped is told once.
    pub(super) fn skip(&mut self, path: &Path, reason: &'static str) {
        let told = |(last, why): &(PathBuf, &str)| last == path && *why == reason;
        if !self.skipped.last().is_some_and(told) {
            self.skipped.push((path.to_path_buf(), reason));
        }
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
            ("a", "b/../c", false),
            ("d/a", ".././b", true),
            ("a", ".git/config", false),
        ] {
            let found = link_stays_within(Path::new(path), Path::new(target));
            assert_eq!(found, expected, "{path} -> {target}");
        }
    }
}
