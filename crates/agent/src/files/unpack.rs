//! Unpacking an upload into a member's working directory.

use super::Manifest;
use super::beneath::{PathError, components, open_directory, open_name};
use super::lender::{Lender, parts_of};
use bytes::Bytes;
use process::{KeepFree, WholeSteps};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens,
    mkdirat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use tar::{Archive, Entry, EntryType};

/// Permission bits that survive: neither set-user-id nor set-group-id nor sticky.
const MODE_MASK: u32 = 0o777;
/// Longest target of a symbolic link, in bytes.
const LINK_LIMIT: usize = 4_095;
/// Most bytes taken at a time.
const COPY_BYTES: usize = 256 << 10;

/// What an archive may contain at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Default for Limits {
    /// 200,000 entries, 64 GiB. What people send without saying so is limited much earlier, by
    /// the client.
    fn default() -> Self {
        Self {
            entries: 200_000,
            bytes: 64 << 30,
        }
    }
}

/// An archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It could not be read: it ended early, or it is not a tar archive.
    #[error("the archive cannot be read")]
    Archive {
        /// Why.
        source: io::Error,
    },
    /// A path in it is not allowed.
    #[error("`{path}` in the archive is not allowed: {reason}")]
    Path {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// An entry is neither a file nor a directory nor a symbolic link.
    #[error(
        "`{path}` in the archive is a {kind}; only files, directories and symbolic links are taken"
    )]
    Kind {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A path is there twice.
    #[error("`{path}` is in the archive twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// There are more entries than allowed.
    #[error("the archive has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The files are larger than allowed.
    #[error("the archive has more than {limit} bytes of files")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// An act on a file failed.
    #[error("cannot {act} `{path}`")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what, below the working directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Unpacks the tar archive `reader` into the empty directory `root`, and says what is there then.
///
/// Only files, directories and symbolic links are made, each beneath `root`; a link's target is
/// text and is never followed. Modes lose their special bits, times are kept, and everything
/// belongs to `owner`, if one is given. Nothing may run in `root` meanwhile. Blocks.
pub fn unpack(
    reader: impl Read,
    root: &Path,
    owner: Option<u32>,
    limits: &Limits,
) -> Result<Manifest, UnpackError> {
    unpack_parts(parts_of(reader, COPY_BYTES), root, owner, limits)
}

/// The same of an archive that comes in parts, whose bytes it does not copy.
pub(crate) fn unpack_parts(
    parts: impl Iterator<Item = io::Result<Bytes>>,
    root: &Path,
    owner: Option<u32>,
    limits: &Limits,
) -> Result<Manifest, UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty());
    let opened = opened.map_err(|error| act("open", b".")(error))?;
    let lender = Lender::new(parts);
    let mut unpacking = Unpacking {
        lender: &lender,
        room: vec![0; COPY_BYTES],
        root: opened,
        owner: owner.map(|id| (Uid::from_raw(id), Gid::from_raw(id))),
        limits: *limits,
        entries: 0,
        bytes: 0,
        keep_free: KeepFree::default(),
        parent: None,
        directories: BTreeMap::new(),
        made: Vec::new(),
    };
    let mut archive = Archive::new(&lender);
    let entries = archive
        .entries()
        .map_err(|source| UnpackError::Archive { source })?;
    for entry in entries {
        let entry = entry.map_err(|source| UnpackError::Archive { source })?;
        unpacking.take(entry)?;
    }
    if lender.has_ended() {
        let source = io::ErrorKind::UnexpectedEof.into();
        return Err(UnpackError::Archive { source });
    }
    unpacking.finish()
}

fn act(act: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> UnpackError {
    let path = show(path);
    move |error| UnpackError::Act {
        act,
        path,
        source: error.into(),
    }
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// What a directory shall be when nothing more is put into it.
#[derive(Clone, Copy)]
struct Directory {
    mode: u32,
    modified: Option<u64>,
}

struct Unpacking<'a, I> {
    lender: &'a Lender<I>,
    /// Where the archive library wants what is lent instead.
    room: Vec<u8>,
    root: OwnedFd,
    owner: Option<(Uid, Gid)>,
    limits: Limits,
    entries: u64,
    bytes: u64,
    keep_free: KeepFree,
    /// The directory of the last entry: the next one is usually beside it.
    parent: Option<(Vec<OsString>, OwnedFd)>,
    /// By path, so that what is in a directory comes after it.
    directories: BTreeMap<Vec<u8>, Directory>,
    /// Everything made, in order, for the manifest.
    made: Vec<Vec<u8>>,
}

/// Where an entry goes.
struct Target<'a> {
    path: Vec<u8>,
    parents: Vec<&'a OsStr>,
    name: &'a OsStr,
}

impl<I: Iterator<Item = io::Result<Bytes>>> Unpacking<'_, I> {
    fn take<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            let limit = self.limits.entries;
            return Err(UnpackError::TooMany { limit });
        }
        let path = entry.path_bytes().into_owned();
        let mut names = components(&path).map_err(|reason| refused(&path, &reason))?;
        let Some(name) = names.pop() else {
            // The root itself; its mode is ours to choose.
            return Ok(());
        };
        let target = Target {
            path: names
                .iter()
                .chain([&name])
                .map(|n| n.as_bytes())
                .collect::<Vec<_>>()
                .join(&b'/'),
            parents: names,
            name,
        };
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&mut entry, &target)
            }
            EntryType::Directory => self.directory(&entry, &target),
            EntryType::Symlink => self.symlink(&entry, &target),
            other => Err(UnpackError::Kind {
                path: show(&path),
                kind: kind_word(other),
            }),
        }
    }

    /// The directory that the entry goes to, made where it is missing.
    fn parent(&mut self, target: &Target<'_>) -> Result<OwnedFd, UnpackError> {
        let failed = |error: io::Error| UnpackError::Act {
            act: "open the directory of",
            path: show(&target.path),
            source: error,
        };
        if let Some((names, directory)) = &self.parent
            && *names == target.parents
        {
            return directory.try_clone().map_err(failed);
        }
        let mut current = self.root.try_clone().map_err(failed)?;
        let mut path = Vec::new();
        for name in &target.parents {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            current = match open_directory(&current, name) {
                Ok(inner) => inner,
                Err(Errno::NOENT) => {
                    mkdirat(&current, *name, Mode::RWXU).map_err(act("create", &path))?;
                    self.note_directory(path.clone(), 0o755, None);
                    open_directory(&current, name).map_err(act("open", &path))?
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let reason = "it leads through what is not a directory".to_owned();
                    let path = show(&target.path);
                    return Err(UnpackError::Path { path, reason });
                }
                Err(error) => return Err(act("open", &path)(error)),
            };
        }
        let names = target
            .parents
            .iter()
            .map(|name| name.to_os_string())
            .collect();
        self.parent = Some((names, current.try_clone().map_err(failed)?));
        Ok(current)
    }

    fn note_directory(&mut self, path: Vec<u8>, mode: u32, modified: Option<u64>) {
        self.made.push(path.clone());
        self.directories.insert(path, Directory { mode, modified });
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        target: &Target<'_>,
    ) -> Result<(), UnpackError> {
        let parent = self.parent(target)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let made = open_name(&parent, target.name, flags, Mode::RUSR | Mode::WUSR);
        let file = made.map_err(|error| twice_or("create", &target.path, error))?;
        let file = File::from(file);
        self.fill(&file, entry, &target.path)?;
        let failed = |name| act(name, &target.path);
        if let Some((uid, gid)) = self.owner {
            fchown(&file, Some(uid), Some(gid)).map_err(failed("give away"))?;
        }
        let mode = entry.header().mode().unwrap_or(0o644) & MODE_MASK;
        fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("set the mode of"))?;
        let modified = entry.header().mtime().unwrap_or(0);
        futimens(&file, &times(modified)).map_err(failed("set the time of"))?;
        self.made.push(target.path.clone());
        Ok(())
    }

    /// Writes what an entry has into its file.
    fn fill(&mut self, file: &File, entry: &mut impl Read, path: &[u8]) -> Result<(), UnpackError> {
        let failed = |act| {
            move |source| UnpackError::Act {
                act,
                path: show(path),
                source,
            }
        };
        let mut steps = WholeSteps::new(file, &mut self.keep_free);
        loop {
            let piece = match self.lender.lent(entry, &mut self.room) {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(UnpackError::Archive { source }),
            };
            if piece.is_empty() {
                break;
            }
            self.bytes += u64::try_from(piece.len()).expect("a length fits");
            if self.bytes > self.limits.bytes {
                let limit = self.limits.bytes;
                return Err(UnpackError::TooLarge { limit });
            }
            steps.add(piece).map_err(failed("write"))?;
        }
        let ahead = steps.finish().map_err(failed("write"))?;
        ahead.settle(file).map_err(failed("cut to its length"))
    }

    fn directory<R: Read>(
        &mut self,
        entry: &Entry<'_, R>,
        target: &Target<'_>,
    ) -> Result<(), UnpackError> {
        let parent = self.parent(target)?;
        let mode = entry.header().mode().unwrap_or(0o755) & MODE_MASK;
        let modified = entry.header().mtime().unwrap_or(0);
        match mkdirat(&parent, target.name, Mode::RWXU) {
            Ok(()) => self.note_directory(target.path.clone(), mode, Some(modified)),
            // Made before for something in it: now it is said how it should be.
            Err(Errno::EXIST) => {
                let Some(made) = self.directories.get_mut(&target.path) else {
                    let path = show(&target.path);
                    return Err(UnpackError::Twice { path });
                };
                let modified = Some(modified);
                *made = Directory { mode, modified };
            }
            Err(error) => return Err(act("create", &target.path)(error)),
        }
        Ok(())
    }

    fn symlink<R: Read>(
        &mut self,
        entry: &Entry<'_, R>,
        target: &Target<'_>,
    ) -> Result<(), UnpackError> {
        let link = entry.link_name_bytes().unwrap_or_default().into_owned();
        if link.is_empty() || link.len() > LINK_LIMIT || link.contains(&0) {
            let reason = "its target is empty or too long".to_owned();
            let path = show(&target.path);
            return Err(UnpackError::Path { path, reason });
        }
        let parent = self.parent(target)?;
        let failed = |name| act(name, &target.path);
        symlinkat(OsStr::from_bytes(&link), &parent, target.name)
            .map_err(|error| twice_or("link", &target.path, error))?;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner {
            chownat(&parent, target.name, Some(uid), Some(gid), nofollow)
                .map_err(failed("give away"))?;
        }
        let modified = entry.header().mtime().unwrap_or(0);
        utimensat(&parent, target.name, &times(modified), nofollow)
            .map_err(failed("set the time of"))?;
        self.made.push(target.path.clone());
        Ok(())
    }

    /// Looks at everything that was made, then sets modes and times of directories, the deepest
    /// first.
    fn finish(mut self) -> Result<Manifest, UnpackError> {
        let mut manifest = Manifest::default();
        let mut last: Option<(Vec<u8>, OwnedFd)> = None;
        for path in std::mem::take(&mut self.made) {
            let (parent, name) = split(&path);
            if last.as_ref().is_none_or(|(known, _)| known != parent) {
                last = Some((parent.to_vec(), self.open_path(parent)?));
            }
            let (_, directory) = last.as_ref().expect("it was opened");
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            let stat = statat(directory, OsStr::from_bytes(name), nofollow);
            let stat = stat.map_err(act("inspect", &path))?;
            manifest.note(path, &stat);
        }
        for (path, directory) in self.directories.iter().rev() {
            let opened = self.open_path(path)?;
            if let Some((uid, gid)) = self.owner {
                let given = fchown(&opened, Some(uid), Some(gid));
                given.map_err(act("give away", path))?;
            }
            if let Some(modified) = directory.modified {
                futimens(&opened, &times(modified)).map_err(act("set the time of", path))?;
            }
            let mode = Mode::from_raw_mode(directory.mode);
            fchmod(&opened, mode).map_err(act("set the mode of", path))?;
        }
        Ok(manifest)
    }

    fn open_path(&self, path: &[u8]) -> Result<OwnedFd, UnpackError> {
        let names = components(path).map_err(|reason| refused(path, &reason))?;
        let mut current = self.root.try_clone().map_err(|source| UnpackError::Act {
            act: "open",
            path: show(path),
            source,
        })?;
        for name in names {
            current = open_directory(&current, name).map_err(act("open", path))?;
        }
        Ok(current)
    }
}

/// A path's directory and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(place) => (&path[..place], &path[place + 1..]),
        None => (b"", path),
    }
}

fn refused(path: &[u8], reason: &PathError) -> UnpackError {
    UnpackError::Path {
        path: show(path),
        reason: reason.to_string(),
    }
}

fn twice_or(name: &'static str, path: &[u8], error: Errno) -> UnpackError {
    match error {
        Errno::EXIST | Errno::ISDIR => UnpackError::Twice { path: show(path) },
        error => act(name, path)(error),
    }
}

fn times(modified: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(modified).unwrap_or(0),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn kind_word(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "named pipe",
        _ => "special entry",
    }
}
