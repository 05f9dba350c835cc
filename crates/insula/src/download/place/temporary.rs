//! What came, on disk, before it has its name.

use super::Incoming;
use crate::pack::Stamp;
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, openat,
    renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Bytes compared at once.
const COMPARE_BYTES: usize = 64 << 10;
/// Bytes copied at once.
const COPY_BYTES: usize = 256 << 10;
/// So many zeros, from a multiple of it on, become a hole.
const HOLE_BYTES: usize = 64 << 10;

/// How a name looks now, without following a link; `None` if there is nothing.
pub(super) fn look(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<Stamp>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(Stamp {
            size: u64::try_from(found.st_size).unwrap_or(0),
            modified_s: found.st_mtime,
            modified_ns: i64::try_from(found.st_mtime_nsec).unwrap_or(0),
            inode: found.st_ino,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What came, under a name that nobody looks at yet; removed when dropped without another name.
pub(super) struct Temporary<'a> {
    pub(super) parent: &'a OwnedFd,
    name: OsString,
    is_file: bool,
    named: Cell<bool>,
}

impl<'a> Temporary<'a> {
    fn of(parent: &'a OwnedFd, is_file: bool) -> io::Result<Self> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!(".insula-{:016x}.new", u64::from_le_bytes(random)).into();
        Ok(Self {
            parent,
            name,
            is_file,
            named: false.into(),
        })
    }

    pub(super) fn write(parent: &'a OwnedFd, incoming: &mut Incoming<'_>) -> io::Result<Self> {
        let temporary = Self::of(parent, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(parent, &temporary.name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        copy_sparsely(incoming.body, &mut file, incoming.size)?;
        fchmod(&file, Mode::from_raw_mode(incoming.mode))?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: incoming.modified_s,
                tv_nsec: 0,
            },
        };
        futimens(&file, &times)?;
        Ok(temporary)
    }

    pub(super) fn link(parent: &'a OwnedFd, target: &Path) -> io::Result<Self> {
        let temporary = Self::of(parent, false)?;
        symlinkat(target, parent, &temporary.name)?;
        Ok(temporary)
    }

    pub(super) fn rename_over(&self, name: &OsStr) -> io::Result<()> {
        renameat(self.parent, &self.name, self.parent, name)?;
        self.named.set(true);
        Ok(())
    }

    /// False if the name is taken.
    pub(super) fn rename_new(&self, name: &OsStr) -> io::Result<bool> {
        let (parent, flags) = (self.parent, RenameFlags::NOREPLACE);
        match renameat_with(parent, &self.name, parent, name, flags) {
            Ok(()) => self.named.set(true),
            Err(Errno::EXIST) => return Ok(false),
            // A file system without this flag: a look has to do.
            Err(Errno::INVAL) if look(parent, name)?.is_none() => self.rename_over(name)?,
            Err(Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// There is a file of that name with the same bytes.
    pub(super) fn is_same_as(&self, name: &OsStr) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |name: &OsStr| openat(self.parent, name, flags, Mode::empty()).map(File::from);
        if !self.is_file {
            return Ok(false);
        }
        let (ours, theirs) = match (open(&self.name), open(name)) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            _ => return Ok(false),
        };
        let metadata = theirs.metadata()?;
        if !metadata.is_file() || metadata.len() != ours.metadata()?.len() {
            return Ok(false);
        }
        same_bytes(ours, theirs)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.named.get() {
            // Left behind at worst; its name says whose it is.
            let _ = unlinkat(self.parent, &self.name, AtFlags::empty());
        }
    }
}

/// Copies `size` bytes, no more and no less; rows of zeros become holes.
fn copy_sparsely(from: &mut dyn Read, to: &mut File, size: u64) -> io::Result<()> {
    let most = usize::try_from(size).unwrap_or(COPY_BYTES).min(COPY_BYTES);
    let mut buffer = vec![0_u8; most];
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(most).min(most);
        let part = &mut buffer[..length];
        from.read_exact(part)?;
        let is_hole =
            |piece: &[u8]| piece.len() == HOLE_BYTES && piece.iter().all(|byte| *byte == 0);
        if part.chunks(HOLE_BYTES).any(is_hole) {
            for piece in part.chunks(HOLE_BYTES) {
                if is_hole(piece) {
                    to.seek_relative(i64::try_from(HOLE_BYTES).expect("a small number"))?;
                } else {
                    to.write_all(piece)?;
                }
            }
        } else {
            to.write_all(part)?;
        }
        left -= length as u64;
    }
    // A hole at the end is not there before the length says so.
    to.set_len(size)
}

fn same_bytes(one: File, other: File) -> io::Result<bool> {
    let mut one = io::BufReader::with_capacity(COMPARE_BYTES, one);
    let mut other = io::BufReader::with_capacity(COMPARE_BYTES, other);
    loop {
        let (left, right) = (
            io::BufRead::fill_buf(&mut one)?,
            io::BufRead::fill_buf(&mut other)?,
        );
        let count = left.len().min(right.len());
        if left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        io::BufRead::consume(&mut one, count);
        io::BufRead::consume(&mut other, count);
    }
}
