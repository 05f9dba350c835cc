//! Making a layer's entries on the disk.
//!
//! Directories are made closed and with their owner's full permissions, and get what the archive
//! says at the end, when nothing more is put into them.

use super::Ownership;
use super::beneath::{Beneath, Met, open_name};
use crate::LayerError;
use crate::archive::Attribute;
use crate::check::{Hide, Make, MakeKind};
use crate::fault::Fault;
use crate::refusal::readable;
use crate::streams::{COPY_BYTES, length};
use crate::walk::{Content, Sink};
use process::KeepFree;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, fstatvfs, futimens, linkat, mkdirat, mknodat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The attribute that makes a directory hide all below it, in mounts with `userxattr`.
const OPAQUE: (&str, &[u8]) = ("user.overlay.opaque", b"y");
/// What a directory gets that the archive does not mention.
const DIRECTORY_MODE: u32 = 0o755;
/// What the owner of a directory must be able to do who has no privileges: list and remove it.
const OWN_MODE: u32 = 0o700;

/// A layer's directory that is being filled.
pub(super) struct Unpacking {
    beneath: Beneath,
    ownership: Ownership,
    /// What directories get at the end, by path.
    directories: BTreeMap<Vec<u8>, Directory>,
    buffer: Vec<u8>,
    keep_free: KeepFree,
}

/// What a directory shall be.
struct Directory {
    mode: u32,
    owner: (u32, u32),
    /// None for one that the archive does not mention.
    modified: Option<(i64, u32)>,
    attributes: Vec<Attribute>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            mode: DIRECTORY_MODE,
            owner: (0, 0),
            modified: None,
            attributes: Vec::new(),
        }
    }
}

fn failed(act: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> LayerError {
    let entry = if path.is_empty() {
        "/".to_owned()
    } else {
        readable(path)
    };
    move |error| LayerError::Entry {
        act,
        entry,
        source: error.into(),
    }
}

impl Unpacking {
    /// Into the empty directory `root`.
    pub(super) fn new(root: &Path, ownership: Ownership) -> Result<Self, LayerError> {
        let directories = BTreeMap::from([(Vec::new(), Directory::default())]);
        Ok(Self {
            beneath: Beneath::open(root).map_err(failed("open", b""))?,
            ownership,
            directories,
            buffer: vec![0; COPY_BYTES],
            keep_free: KeepFree::default(),
        })
    }

    /// Gives directories what they shall be, and brings everything to the disk. Returns the
    /// directories that the archive only leads through.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<u8>>, LayerError> {
        let ownership = self.ownership;
        let mut unlisted = Vec::new();
        for (path, directory) in std::mem::take(&mut self.directories) {
            let opened = self.beneath.directory(&path, &mut |_, _| Ok(()));
            let opened = opened.map_err(failed("open", &path))?;
            let mode = match ownership {
                Ownership::AsIs => directory.mode,
                Ownership::CurrentUser => directory.mode | OWN_MODE,
            };
            let settle = Settle {
                ownership,
                owner: directory.owner,
                mode,
                modified: directory.modified,
                attributes: &directory.attributes,
            };
            settle.apply(opened, &path)?;
            // One that hides what is below stands for itself.
            if directory.modified.is_none() && directory.attributes.is_empty() && !path.is_empty() {
                unlisted.push(path);
            }
        }
        rustix::fs::syncfs(self.beneath.root()).map_err(failed("sync", b""))?;
        Ok(unlisted)
    }

    /// A directory that is there and that nobody made by this name was made by a name that this
    /// file system takes for the same: of what names it does, only it is sure.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(BorrowedFd<'_>, &'a [u8]), LayerError> {
        let directories = &mut self.directories;
        let mut meeting = |path: &[u8], met: Met| match met {
            Met::Made => {
                directories.insert(path.to_vec(), Directory::default());
                Ok(())
            }
            Met::There if directories.contains_key(path) => Ok(()),
            Met::There => Err(Errno::EXIST),
        };
        let found = self.beneath.parent(path, &mut meeting);
        found.map_err(failed("open the directory of", path))
    }

    fn directory(&mut self, make: Make) -> Result<(), LayerError> {
        if !self.directories.contains_key(&make.path) {
            let (parent, name) = self.parent(&make.path)?;
            mkdirat(parent, name, Mode::RWXU).map_err(failed("create", &make.path))?;
        }
        let directory = Directory {
            mode: make.mode,
            owner: make.owner,
            modified: Some(make.modified),
            attributes: make.attributes,
        };
        self.directories.insert(make.path, directory);
        Ok(())
    }

    fn file(&mut self, make: &Make, content: Content<'_>) -> Result<(), LayerError> {
        let (parent, name) = self.parent(&make.path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let opened = open_name(parent, name, flags, mode);
        let mut file = File::from(opened.map_err(failed("create", &make.path))?);
        self.fill(&mut file, &make.path, content)?;
        let settle = Settle {
            ownership: self.ownership,
            owner: make.owner,
            mode: make.mode,
            modified: Some(make.modified),
            attributes: &make.attributes,
        };
        settle.apply(file.as_fd(), &make.path)
    }

    fn fill(
        &mut self,
        file: &mut File,
        path: &[u8],
        content: Content<'_>,
    ) -> Result<(), LayerError> {
        let Some(holes) = content.holes else {
            return self.copy(file, path, content.reader, content.size);
        };
        let entry = |act: &'static str| {
            move |source| LayerError::Entry {
                act,
                entry: readable(path),
                source,
            }
        };
        for segment in &holes.segments {
            file.seek(SeekFrom::Start(segment.offset))
                .map_err(entry("write"))?;
            self.copy(file, path, content.reader, segment.length)?;
        }
        file.set_len(holes.real_size).map_err(entry("extend"))
    }

    fn copy(
        &mut self,
        file: &mut File,
        path: &[u8],
        reader: &mut dyn Read,
        bytes: u64,
    ) -> Result<(), LayerError> {
        let mut left = bytes;
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let read = reader.read(&mut self.buffer[..wanted]);
            let count = read.map_err(|error| Fault::reading(error).at(path))?;
            if count == 0 {
                return Err(Fault::from(crate::Refusal::Truncated).at(path).into());
            }
            let room = self.keep_free.spend(&*file, count);
            room.and_then(|()| file.write_all(&self.buffer[..count]))
                .map_err(|source| LayerError::Entry {
                    act: "write",
                    entry: readable(path),
                    source,
                })?;
            left -= length(count);
        }
        Ok(())
    }

    fn symlink(&mut self, make: &Make, target: &[u8]) -> Result<(), LayerError> {
        let ownership = self.ownership;
        let (parent, name) = self.parent(&make.path)?;
        symlinkat(target, parent, name).map_err(failed("create", &make.path))?;
        if ownership == Ownership::AsIs {
            let (uid, gid) = ids(make.owner);
            chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("set the owner of", &make.path))?;
        }
        let times = times(make.modified);
        utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the time of", &make.path))
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), LayerError> {
        let (directory, target_name) = self.parent(target)?;
        let directory = directory.try_clone_to_owned();
        let directory = directory.map_err(|source| LayerError::Entry {
            act: "open the directory of",
            entry: readable(target),
            source,
        })?;
        let (parent, name) = self.parent(path)?;
        // Without AT_SYMLINK_FOLLOW a link is linked itself.
        linkat(&directory, target_name, parent, name, AtFlags::empty())
            .map_err(failed("link", path))
    }
}

impl Sink for Unpacking {
    type Error = LayerError;

    fn make(&mut self, make: Make, content: Content<'_>) -> Result<(), LayerError> {
        match &make.kind {
            MakeKind::File => self.file(&make, content),
            MakeKind::Directory => self.directory(make),
            MakeKind::HardLink(target) => self.hard_link(&make.path, target),
            MakeKind::Symlink(target) => self.symlink(&make, target),
        }
    }

    fn hide(&mut self, hide: Hide) -> Result<(), LayerError> {
        match hide {
            Hide::Name(path) => {
                let (parent, name) = self.parent(&path)?;
                // Device 0/0: the one that a user without privileges may make.
                mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(failed("create the whiteout of", &path))
            }
            Hide::Below(path) => {
                let mut inside = path.clone();
                inside.extend_from_slice(b"/.");
                self.parent(&inside)?;
                let directory = self.directories.entry(path).or_default();
                let (name, value) = OPAQUE;
                let attribute = (name.as_bytes().to_vec(), value.to_vec());
                directory.attributes.push(attribute);
                Ok(())
            }
        }
    }
}

/// What a file or directory gets when its content is there.
struct Settle<'a> {
    ownership: Ownership,
    owner: (u32, u32),
    mode: u32,
    modified: Option<(i64, u32)>,
    attributes: &'a [Attribute],
}

impl Settle<'_> {
    fn apply(&self, file: BorrowedFd<'_>, path: &[u8]) -> Result<(), LayerError> {
        for (name, value) in self.attributes {
            let set = fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
            set.map_err(|error| not_set(error, file, path))?;
        }
        if self.ownership == Ownership::AsIs {
            let (uid, gid) = ids(self.owner);
            fchown(file, uid, gid).map_err(failed("set the owner of", path))?;
        }
        fchmod(file, Mode::from_raw_mode(self.mode)).map_err(failed("set the mode of", path))?;
        if let Some(modified) = self.modified {
            futimens(file, &times(modified)).map_err(failed("set the time of", path))?;
        }
        Ok(())
    }
}

/// Why an attribute was not set. The kernel has one word for a full file system and for more
/// attributes than it keeps of one file; with blocks left it is the latter.
fn not_set(error: Errno, file: BorrowedFd<'_>, path: &[u8]) -> LayerError {
    let has_room = || fstatvfs(file).is_ok_and(|stat| stat.f_bavail > 0);
    let too_many = match error {
        Errno::TOOBIG | Errno::RANGE => true,
        Errno::NOSPC => has_room(),
        _ => false,
    };
    if too_many {
        let entry = readable(path);
        return LayerError::Attributes { entry };
    }
    failed("set an attribute of", path)(error)
}

fn ids((uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// A file was used last when it was changed: nobody knows better.
fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
