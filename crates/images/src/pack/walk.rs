//! Reading a directory tree that may change meanwhile: every name is opened in its directory, and
//! no link is followed.

use super::header::{BLOCK_BYTES, Facts};
use super::{PackError, PackOwners, Packed};
use crate::archive::Attribute;
use crate::streams::{COPY_BYTES, length};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, StatxAttributes, StatxFlags, fgetxattr,
    flistxattr, flistxattr_query, openat, readlinkat, seek, statx,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Deepest nesting of directories; an import takes no more.
const DEPTH_LIMIT: usize = 256;
/// Most parts of one sparse file. One with more is packed with its holes as zeros.
const SEGMENTS_LIMIT: usize = 8_192;
/// Smallest file in which holes are looked for.
const SPARSE_FROM_BYTES: u64 = 64 << 10;
/// The kernel's largest list of names, and its largest value.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// One directory on its way into an archive.
pub(super) struct Packing<W> {
    top: PathBuf,
    owners: PackOwners,
    out: W,
    packed: Packed,
    /// First name of each file that has several, by device and inode.
    linked: HashMap<(u32, u32, u64), Vec<u8>>,
    /// Parts of a layout must lie there in one piece.
    keeps_holes: bool,
}

/// A part of a file that is not a hole.
type Segment = (u64, u64);

impl<W: Write> Packing<W> {
    pub(super) fn new(top: &Path, owners: PackOwners, out: W) -> Self {
        let is_layout = top.join("oci-layout").is_file() && top.join("index.json").is_file();
        Self {
            top: top.into(),
            owners,
            out,
            packed: Packed::default(),
            linked: HashMap::new(),
            keeps_holes: !is_layout,
        }
    }

    pub(super) fn run(mut self) -> Result<Packed, PackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(&self.top, flags, Mode::empty());
        let top = top.map_err(|error| self.failed("open", b"")(error))?;
        let facts = self.facts(&self.stat(top.as_fd(), b"", b"")?, b"./", b'5');
        let attributes = self.attributes(top.as_fd(), b"")?;
        self.head(&Facts {
            attributes,
            ..facts
        })?;
        self.directory(top, b"", 0)?;
        self.write(&[0; 2 * BLOCK_BYTES])?;
        let flushed = self.out.flush();
        flushed.map_err(|source| PackError::Write { source })?;
        Ok(self.packed)
    }

    /// Everything in the directory `path`, in the order of its names.
    fn directory(&mut self, opened: OwnedFd, path: &[u8], depth: usize) -> Result<(), PackError> {
        if depth == DEPTH_LIMIT {
            return Err(self.failed("pack", path)(Errno::NAMETOOLONG));
        }
        let list = Dir::read_from(&opened).map_err(self.failed("list", path))?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        for entry in list {
            let entry = entry.map_err(self.failed("list", path))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        for name in names {
            let mut inner = path.to_vec();
            if !inner.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(&name);
            self.entry(opened.as_fd(), &name, &inner, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        depth: usize,
    ) -> Result<(), PackError> {
        let stat = self.stat(parent, name, path)?;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        if kind != FileType::Directory && stat.stx_nlink > 1 {
            let file = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            if let Some(first) = self.linked.get(&file) {
                let link = first.clone();
                let facts = self.facts(&stat, path, b'1');
                return self.head(&Facts { link, ..facts });
            }
            self.linked.insert(file, path.to_vec());
        }
        match kind {
            FileType::Directory => {
                let facts = self.facts(&stat, &[path, b"/"].concat(), b'5');
                let is_mount = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
                self.subdirectory((parent, name), path, facts, is_mount, depth)
            }
            FileType::RegularFile => {
                let facts = self.facts(&stat, path, b'0');
                let holes = stat.stx_blocks.saturating_mul(512) < stat.stx_size;
                self.file((parent, name), path, facts, holes && self.keeps_holes)
            }
            FileType::Symlink => {
                let link = readlinkat(parent, name, Vec::new());
                let link = link.map_err(self.failed("read the link", path))?;
                let facts = self.facts(&stat, path, b'2');
                self.head(&Facts {
                    link: link.into_bytes(),
                    mode: 0o777,
                    ..facts
                })
            }
            FileType::CharacterDevice => self.head(&self.facts(&stat, path, b'3')),
            FileType::BlockDevice => self.head(&self.facts(&stat, path, b'4')),
            FileType::Fifo => self.head(&self.facts(&stat, path, b'6')),
            FileType::Socket | FileType::Unknown => {
                self.packed.sockets += 1;
                Ok(())
            }
        }
    }

    fn subdirectory(
        &mut self,
        (parent, name): (BorrowedFd<'_>, &[u8]),
        path: &[u8],
        facts: Facts,
        is_mount: bool,
        depth: usize,
    ) -> Result<(), PackError> {
        if is_mount {
            self.packed.mounts.push(OsStr::from_bytes(path).into());
            return self.head(&facts);
        }
        let opened = self.open(parent, name, path, OFlags::DIRECTORY)?;
        let attributes = self.attributes(opened.as_fd(), path)?;
        self.head(&Facts {
            attributes,
            ..facts
        })?;
        self.directory(opened, path, depth + 1)
    }

    fn file(
        &mut self,
        (parent, name): (BorrowedFd<'_>, &[u8]),
        path: &[u8],
        facts: Facts,
        has_holes: bool,
    ) -> Result<(), PackError> {
        let opened = self.open(parent, name, path, OFlags::NONBLOCK)?;
        // It may have been replaced since it was looked at.
        let stat = self.stat(opened.as_fd(), b"", path)?;
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Err(self.changed(path));
        }
        let size = stat.stx_size;
        let attributes = self.attributes(opened.as_fd(), path)?;
        let segments = if has_holes && size >= SPARSE_FROM_BYTES {
            segments(opened.as_fd(), size).map_err(self.failed("look for holes in", path))?
        } else {
            None
        };
        let file = File::from(opened);
        let Some(segments) = segments else {
            self.head(&Facts {
                size,
                attributes,
                ..facts
            })?;
            self.content(&file, path, &[(0, size)])?;
            self.check_unchanged(&file, path, &stat)?;
            return self.fill(size);
        };
        let map = map(&segments);
        let content = segments.iter().fold(0, |sum, (_, bytes)| sum + bytes);
        let content = content + length(map.len());
        self.head(&Facts {
            size: content,
            real_size: Some(size),
            attributes,
            ..facts
        })?;
        self.write(&map)?;
        self.content(&file, path, &segments)?;
        self.check_unchanged(&file, path, &stat)?;
        self.fill(content)
    }

    /// What grew would be cut, and what was written to would be of two times.
    fn check_unchanged(
        &self,
        file: &File,
        path: &[u8],
        before: &rustix::fs::Statx,
    ) -> Result<(), PackError> {
        let after = self.stat(file.as_fd(), b"", path)?;
        let of = |stat: &rustix::fs::Statx| {
            let time = stat.stx_mtime;
            (stat.stx_size, time.tv_sec, time.tv_nsec)
        };
        if of(&after) == of(before) {
            Ok(())
        } else {
            Err(self.changed(path))
        }
    }

    fn content(&mut self, file: &File, path: &[u8], segments: &[Segment]) -> Result<(), PackError> {
        let mut buffer = vec![0; COPY_BYTES];
        for (offset, bytes) in segments {
            let (mut at, end) = (*offset, offset + bytes);
            while at < end {
                let left = usize::try_from(end - at).unwrap_or(usize::MAX);
                let wanted = left.min(buffer.len());
                let read = file.read_at(&mut buffer[..wanted], at);
                let count = match read {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(source) => {
                        let path = self.full(path);
                        let act = "read";
                        return Err(PackError::Act { act, path, source });
                    }
                    Ok(0) => return Err(self.changed(path)),
                    Ok(count) => count,
                };
                self.write(&buffer[..count])?;
                at += length(count);
            }
        }
        Ok(())
    }

    /// Fills up the block in which `size` bytes of content end.
    fn fill(&mut self, size: u64) -> Result<(), PackError> {
        let zeros = [0; BLOCK_BYTES];
        let over = size % length(BLOCK_BYTES);
        let used = usize::try_from(over).expect("less than a block");
        if used == 0 {
            return Ok(());
        }
        self.write(&zeros[used..])
    }

    fn head(&mut self, facts: &Facts) -> Result<(), PackError> {
        self.packed.entries += 1;
        self.write(&facts.blocks())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        let written = self.out.write_all(bytes);
        written.map_err(|source| PackError::Write { source })?;
        self.packed.bytes += length(bytes.len());
        Ok(())
    }

    fn facts(&self, stat: &rustix::fs::Statx, path: &[u8], flag: u8) -> Facts {
        let (uid, gid) = match self.owners {
            PackOwners::Keep => (stat.stx_uid, stat.stx_gid),
            PackOwners::Root => (0, 0),
        };
        Facts {
            path: path.to_vec(),
            flag,
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid,
            gid,
            // An import takes no time before 1970.
            modified: u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0),
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            ..Facts::default()
        }
    }

    fn stat(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<rustix::fs::Statx, PackError> {
        let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        if name.is_empty() {
            flags |= AtFlags::EMPTY_PATH;
        }
        statx(parent, name, flags, StatxFlags::BASIC_STATS).map_err(self.failed("inspect", path))
    }

    fn open(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        flags: OFlags,
    ) -> Result<OwnedFd, PackError> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
        openat(parent, name, flags, Mode::empty()).map_err(self.failed("open", path))
    }

    /// All attributes that can be read, sorted by name.
    fn attributes(&self, file: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Attribute>, PackError> {
        // Most files have none, and then no buffer is needed.
        let listed = match flistxattr_query(file) {
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            listed => listed,
        };
        let mut list = vec![0; ATTRIBUTE_BYTES];
        let count = listed.and_then(|_| flistxattr(file, list.as_mut_slice()));
        let count = count.map_err(self.failed("list the attributes of", path))?;
        let mut attributes = Vec::new();
        for name in list[..count].split(|byte| *byte == 0) {
            if name.is_empty() {
                continue;
            }
            let mut value = vec![0; ATTRIBUTE_BYTES];
            match fgetxattr(file, name, value.as_mut_slice()) {
                Ok(count) => value.truncate(count),
                // It went meanwhile, or is for others to read.
                Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => continue,
                Err(error) => return Err(self.failed("read an attribute of", path)(error)),
            }
            attributes.push((name.to_vec(), value));
        }
        attributes.sort_unstable();
        Ok(attributes)
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.top.join(OsStr::from_bytes(path))
    }

    fn changed(&self, path: &[u8]) -> PackError {
        let path = self.full(path);
        PackError::Changed { path }
    }

    fn failed(&self, act: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> PackError + use<W> {
        let path = self.full(path);
        move |error| PackError::Act {
            act,
            path,
            source: error.into(),
        }
    }
}

/// The parts of a file that are not holes; `None` if they are too many to be worth it.
fn segments(file: BorrowedFd<'_>, size: u64) -> Result<Option<Vec<Segment>>, Errno> {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        segments.push((start, end - start));
        if segments.len() > SEGMENTS_LIMIT {
            return Ok(None);
        }
        at = end;
    }
    // A map says where the file ends if it ends with a hole.
    if segments
        .last()
        .is_none_or(|(start, bytes)| start + bytes < size)
    {
        segments.push((size, 0));
    }
    Ok(Some(segments))
}

/// The map of format 1.0, filled up to a block.
fn map(segments: &[Segment]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for (offset, bytes) in segments {
        text.push_str(&format!("{offset}\n{bytes}\n"));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
    map
}
