//! Packing a member's files into a tar archive, while programs may be changing them.

use super::Manifest;
use super::beneath::{DEPTH_LIMIT, open_directory, open_name};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// Permission bits that are handed out.
const MODE_MASK: u32 = 0o777;
/// Most entries of one archive.
const ENTRIES_LIMIT: u64 = 1_000_000;
/// Most bytes of one archive: a file with holes can claim any size.
const BYTES_LIMIT: u64 = 1 << 40;

/// A tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There are more entries than one archive may have.
    #[error("there are more than {ENTRIES_LIMIT} entries")]
    TooMany,
    /// The files are larger than one archive may be.
    #[error("the files have more than {BYTES_LIMIT} bytes")]
    TooLarge,
    /// Directories are nested too deep.
    #[error("`{path}` is nested more than {DEPTH_LIMIT} deep")]
    Deep {
        /// The path.
        path: String,
    },
    /// An act on a file failed.
    #[error("cannot {act} `{path}`")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody takes the archive any more.
    #[error("cannot hand on the archive")]
    Write {
        /// Why.
        source: io::Error,
    },
}

/// What is packed.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Only entries that are new or differ from these.
    pub changed_since: Option<Manifest>,
}

/// A part of a tree that was opened beneath its root.
#[derive(Debug)]
pub(crate) struct Subtree {
    /// The directory that the first entry is in.
    parent: OwnedFd,
    /// The first entry; `None` is the directory itself, whose entries are packed without it.
    name: Option<OsString>,
    /// The parent's path below the root.
    prefix: Vec<u8>,
}

/// Opens what `names` lead to beneath `root`; `Ok(None)` if it is not there.
pub(crate) fn open_subtree(root: &Path, names: &[&OsStr]) -> Result<Option<Subtree>, PackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = match rustix::fs::open(root, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(act("open", b".")(error)),
    };
    let Some((last, before)) = names.split_last() else {
        return Ok(Some(Subtree {
            parent,
            name: None,
            prefix: Vec::new(),
        }));
    };
    let mut prefix = Vec::new();
    for name in before {
        join(&mut prefix, name);
        parent = match open_directory(&parent, name) {
            Ok(inner) => inner,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(act("open", &prefix)(error)),
        };
    }
    match statat(&parent, *last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(Some(Subtree {
            parent,
            name: Some(last.to_os_string()),
            prefix,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(act("inspect", last.as_bytes())(error)),
    }
}

/// Packs everything below `root` into `out`: names relative to it, owners 0, special bits of modes
/// left out; links as links, and neither sockets nor pipes nor devices. Nothing is followed out of
/// `root`, whatever programs do to it meanwhile; a file that shrinks while it is read is filled
/// up with zeros. Blocks.
pub fn pack(root: &Path, options: &PackOptions, out: impl Write) -> Result<(), PackError> {
    match open_subtree(root, &[])? {
        Some(subtree) => pack_subtree(subtree, options, out),
        None => Err(act("open", b".")(Errno::NOENT)),
    }
}

/// Packs a subtree; its names are relative to the root it was opened beneath.
pub(crate) fn pack_subtree(
    subtree: Subtree,
    options: &PackOptions,
    out: impl Write,
) -> Result<(), PackError> {
    let mut packing = Packing {
        builder: Builder::new(out),
        options,
        entries: 0,
        bytes: 0,
    };
    match subtree.name {
        None => packing.directory(&subtree.parent, &subtree.prefix, 0)?,
        Some(name) => packing.entry(&subtree.parent, &name, &subtree.prefix, 0)?,
    }
    packing.finish()
}

/// One file that comes from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct SingleFile {
    pub(crate) name: OsString,
    pub(crate) size: u64,
    pub(crate) mode: u32,
}

/// Packs one file whose bytes come from `reader`; missing ones become zeros.
pub(crate) fn pack_single(
    file: &SingleFile,
    reader: impl Read,
    out: impl Write,
) -> Result<(), PackError> {
    let mut header = header(EntryType::Regular, file.mode, 0);
    header.set_size(file.size);
    let mut builder = Builder::new(out);
    builder
        .append_data(
            &mut header,
            Path::new(&file.name),
            padded(reader, file.size),
        )
        .and_then(|()| builder.into_inner())
        .and_then(|mut out| out.flush())
        .map_err(|source| PackError::Write { source })
}

/// Exactly `size` bytes of `reader`, with zeros where it has fewer.
fn padded(reader: impl Read, size: u64) -> impl Read {
    reader.take(size).chain(io::repeat(0)).take(size)
}

fn act(act: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> PackError {
    let path = String::from_utf8_lossy(path).into_owned();
    move |error| PackError::Act {
        act,
        path,
        source: error.into(),
    }
}

fn join(path: &mut Vec<u8>, name: &OsStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
}

fn header(kind: EntryType, mode: u32, modified: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & MODE_MASK);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified);
    header.set_size(0);
    header
}

fn modified(stat: &Stat) -> u64 {
    u64::try_from(stat.st_mtime).unwrap_or(0)
}

struct Packing<'a, W: Write> {
    builder: Builder<W>,
    options: &'a PackOptions,
    entries: u64,
    bytes: u64,
}

impl<W: Write> Packing<'_, W> {
    /// The entries of `directory`, by name.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        depth: usize,
    ) -> Result<(), PackError> {
        if depth > DEPTH_LIMIT {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(PackError::Deep { path });
        }
        let listing = Dir::read_from(directory).map_err(act("list", path))?;
        let mut names = Vec::new();
        for entry in listing {
            let entry = entry.map_err(act("list", path))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
            if u64::try_from(names.len()).is_ok_and(|count| count > ENTRIES_LIMIT) {
                return Err(PackError::TooMany);
            }
        }
        names.sort();
        for name in names {
            self.entry(directory, &name, path, depth)?;
        }
        Ok(())
    }

    /// What vanishes or changes its kind meanwhile is left out.
    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        prefix: &[u8],
        depth: usize,
    ) -> Result<(), PackError> {
        let mut path = prefix.to_vec();
        join(&mut path, name);
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(act("inspect", &path)(error)),
        };
        self.entries += 1;
        if self.entries > ENTRIES_LIMIT {
            return Err(PackError::TooMany);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if self.is_wanted(&path, &stat) => self.file(parent, name, &path),
            FileType::Symlink if self.is_wanted(&path, &stat) => {
                self.symlink(parent, name, &path, &stat)
            }
            FileType::Directory => match open_directory(parent, name) {
                Ok(inner) => {
                    let known = self.options.changed_since.as_ref();
                    if !known.is_some_and(|manifest| manifest.has(&path)) {
                        let mut header =
                            header(EntryType::Directory, stat.st_mode, modified(&stat));
                        self.append(&mut header, &path, io::empty())?;
                    }
                    self.directory(&inner, &path, depth + 1)
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(()),
                Err(error) => Err(act("open", &path)(error)),
            },
            _ => Ok(()),
        }
    }

    fn is_wanted(&self, path: &[u8], stat: &Stat) -> bool {
        let manifest = self.options.changed_since.as_ref();
        manifest.is_none_or(|manifest| manifest.differs(path, stat))
    }

    fn file(&mut self, parent: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<(), PackError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = match open_name(parent, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::XDEV) => return Ok(()),
            Err(error) => return Err(act("open", path)(error)),
        };
        let stat = fstat(&file).map_err(act("inspect", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > BYTES_LIMIT {
            return Err(PackError::TooLarge);
        }
        let mut header = header(EntryType::Regular, stat.st_mode, modified(&stat));
        header.set_size(size);
        self.append(&mut header, path, padded(File::from(file), size))
    }

    fn symlink(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
    ) -> Result<(), PackError> {
        let target = match readlinkat(parent, name, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
            Err(error) => return Err(act("read the link", path)(error)),
        };
        let mut header = header(EntryType::Symlink, 0o777, modified(stat));
        let target = OsStr::from_bytes(target.as_bytes());
        self.builder
            .append_link(
                &mut header,
                Path::new(OsStr::from_bytes(path)),
                Path::new(target),
            )
            .map_err(|source| PackError::Write { source })
    }

    fn append(
        &mut self,
        header: &mut Header,
        path: &[u8],
        reader: impl Read,
    ) -> Result<(), PackError> {
        self.builder
            .append_data(header, Path::new(OsStr::from_bytes(path)), reader)
            .map_err(|source| PackError::Write { source })
    }

    fn finish(self) -> Result<(), PackError> {
        self.builder
            .into_inner()
            .and_then(|mut out| out.flush())
            .map_err(|source| PackError::Write { source })
    }
}
