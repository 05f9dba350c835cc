//! An image's files as a container will see them, looked up in its layers without mounting them.
//!
//! Links are followed as the container would follow them, never out of the layers: each component
//! is opened by itself, without following, and `..` is taken away from the names.

use crate::files::{open_directory, open_name};
use guest_api::users::LIST_LIMIT_BYTES;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fgetxattr, readlinkat, statat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Most links on the way to a file, as the kernel's.
const LINKS_LIMIT: u32 = 40;
/// The attribute that hides what lower layers have in a directory.
const OPAQUE: &str = "user.overlay.opaque";

/// The layers of an image, opened.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The highest first.
    roots: Vec<Part>,
}

/// What a path is in a container.
#[derive(Debug)]
pub(crate) enum Place {
    /// A file; its path without links.
    File(PathBuf, File),
    /// A directory.
    Directory,
    /// Nothing is there; where it would be, without links.
    Missing(PathBuf),
    /// Something else.
    Other,
}

/// One component in the directories of several layers.
enum Entry {
    Missing,
    Directory(Vec<Part>),
    Link(Vec<u8>),
    File(OwnedFd),
    Other,
}

/// A layer's part of a directory: the layer's place, counted from the lowest, and the directory.
pub(crate) type Part = (usize, OwnedFd);
/// A directory on the way, and its name.
type Step = (OsString, Vec<Part>);

impl Merged {
    /// Opens the layers, given from the lowest to the highest.
    pub(crate) fn open(layers: &[PathBuf]) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = layers.iter().enumerate().rev();
        let roots =
            opened.map(|(place, path)| Ok((place, rustix::fs::open(path, flags, Mode::empty())?)));
        Ok(Self {
            roots: roots.collect::<Result<_, _>>()?,
        })
    }

    /// Whether `path` is a directory inside.
    pub(crate) fn is_directory(&self, path: &str) -> bool {
        matches!(self.look_up(path), Ok(Place::Directory))
    }

    /// Whether there is something at `path`.
    pub(crate) fn exists(&self, path: &str) -> bool {
        !matches!(self.look_up(path), Ok(Place::Missing(_)) | Err(_))
    }

    /// A small text file; `None` if it is not there, is something else, or is too large.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let Ok(Place::File(_, file)) = self.look_up(path) else {
            return None;
        };
        let mut bytes = Vec::new();
        file.take(LIST_LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .ok()?;
        let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= LIST_LIMIT_BYTES);
        fits.then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The parts of the directory at a path without links, the highest first; none if it is
    /// something else, or not there.
    pub(crate) fn parts(&self, path: &[u8]) -> Result<Vec<Part>, Errno> {
        let mut found: Option<Vec<Part>> = None;
        for name in names(path) {
            match entry(found.as_ref().unwrap_or(&self.roots), &name)? {
                Entry::Directory(parts) => found = Some(parts),
                Entry::Missing | Entry::Link(_) | Entry::File(_) | Entry::Other => {
                    return Ok(Vec::new());
                }
            }
        }
        Ok(found.unwrap_or_default())
    }

    /// What an absolute path is.
    pub(crate) fn look_up(&self, path: &str) -> Result<Place, Errno> {
        let mut pending = names(path.as_bytes());
        let mut way: Vec<Step> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                way.pop();
                continue;
            }
            let here = way.last().map_or(&self.roots, |(_, opened)| opened);
            match entry(here, &name)? {
                Entry::Directory(opened) => way.push((name, opened)),
                Entry::Link(target) => {
                    links += 1;
                    if links > LINKS_LIMIT {
                        return Err(Errno::LOOP);
                    }
                    if target.first() == Some(&b'/') {
                        way.clear();
                    }
                    let mut next = names(&target);
                    next.append(&mut pending);
                    pending = next;
                }
                Entry::File(_) | Entry::Other if !pending.is_empty() => return Err(Errno::NOTDIR),
                Entry::File(file) => return Ok(Place::File(joined(&way, [name]), file.into())),
                Entry::Other => return Ok(Place::Other),
                Entry::Missing if pending.iter().any(|name| name == "..") => {
                    return Err(Errno::NOENT);
                }
                Entry::Missing => {
                    let rest = std::iter::once(name).chain(pending);
                    return Ok(Place::Missing(joined(&way, rest)));
                }
            }
        }
        Ok(Place::Directory)
    }
}

fn names(path: &[u8]) -> VecDeque<OsString> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

fn joined(way: &[Step], rest: impl IntoIterator<Item = OsString>) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(way.iter().map(|(name, _)| Path::new(name)));
    path.extend(rest);
    path
}

/// The entry `name` of a directory that several layers have parts of, the highest first.
fn entry(parts: &[Part], name: &OsStr) -> Result<Entry, Errno> {
    let mut found = Vec::new();
    for (place, part) in parts {
        let facts = match statat(part, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            facts => facts?,
        };
        let kind = FileType::from_raw_mode(facts.st_mode);
        if kind == FileType::Directory {
            let opened = open_directory(part, name)?;
            let opaque = is_opaque(&opened);
            found.push((*place, opened));
            if opaque {
                break;
            }
            continue;
        }
        // Whatever else it is hides what is below, and is hidden by a directory above.
        if !found.is_empty() {
            break;
        }
        return match kind {
            FileType::CharacterDevice if facts.st_rdev == 0 => Ok(Entry::Missing),
            FileType::Symlink => {
                let target = readlinkat(part, name, Vec::new())?;
                Ok(Entry::Link(target.into_bytes()))
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                open_name(part, name, flags, Mode::empty()).map(Entry::File)
            }
            _ => Ok(Entry::Other),
        };
    }
    Ok(if found.is_empty() {
        Entry::Missing
    } else {
        Entry::Directory(found)
    })
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0_u8; 1];
    let read = fgetxattr(directory, OPAQUE, &mut value);
    read == Ok(1) && value == *b"y"
}

#[cfg(test)]
mod tests {
    use super::{Merged, Place};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn layers_are_seen_as_one() {
        let kept = tempfile::tempdir().expect("a directory");
        let (low, high) = (kept.path().join("low"), kept.path().join("high"));
        for (path, text) in [
            ("etc/passwd", "low"),
            ("etc/group", "low"),
            ("etc/gone", "low"),
            ("opt/hidden", "low"),
            ("real/passwd", "linked"),
        ] {
            write(&low.join(path), text);
        }
        write(&high.join("etc/passwd"), "high");
        fs::create_dir(high.join("opt")).expect("made");
        symlink("/real/passwd", high.join("etc/absolute")).expect("linked");
        symlink("../../../real/./passwd", high.join("etc/relative")).expect("linked");
        symlink("/etc/loop", high.join("etc/loop")).expect("linked");
        symlink("../run/resolve/conf", high.join("etc/resolv.conf")).expect("linked");
        // What lies beside the layers must never be reached.
        write(&kept.path().join("secret"), "secret");
        symlink("../../secret", high.join("etc/out")).expect("linked");
        let merged = Merged::open(&[low, high.clone()]).expect("opened");
        for (path, expected) in [
            ("/etc/passwd", Some("high")),
            ("/etc/group", Some("low")),
            ("/etc/absolute", Some("linked")),
            ("/etc/relative", Some("linked")),
            ("/etc/../real/passwd", Some("linked")),
            ("/opt/hidden", Some("low")),
            ("/etc/loop", None),
            ("/etc/out", None),
            ("/etc", None),
            ("/etc/passwd/x", None),
        ] {
            assert_eq!(merged.text(path).as_deref(), expected, "{path}");
        }
        let conf = merged.look_up("/etc/resolv.conf");
        let expected = PathBuf::from("/run/resolve/conf");
        assert!(
            matches!(&conf, Ok(Place::Missing(path)) if *path == expected),
            "{conf:?}"
        );
        assert!(merged.is_directory("/etc") && merged.exists("/opt/hidden"));
        opaque(&high.join("opt"));
        assert!(merged.is_directory("/opt") && !merged.exists("/opt/hidden"));
    }

    fn opaque(path: &Path) {
        let directory = fs::File::open(path).expect("opened");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&directory, super::OPAQUE, b"y", flags).expect("set");
    }

    #[test]
    fn a_whiteout_hides_what_is_below() {
        let kept = tempfile::tempdir().expect("a directory");
        let (low, high) = (kept.path().join("low"), kept.path().join("high"));
        write(&low.join("etc/gone"), "low");
        write(&low.join("etc/there"), "low");
        fs::create_dir_all(high.join("etc")).expect("made");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            high.join("etc/gone"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        );
        made.expect("everybody may make a whiteout");
        let merged = Merged::open(&[low, high]).expect("opened");
        assert_eq!(merged.text("/etc/gone"), None);
        assert_eq!(merged.text("/etc/there").as_deref(), Some("low"));
    }
}
