//! Puts one file after the other beneath a directory, by descriptors: no link is ever followed.

use super::unpack::link_stays_within;
use crate::pack::{Manifest, Stamp};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens,
    mkdirat, openat, renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Most names tried for a file that cannot have its own.
const NAMES_LIMIT: u32 = 100;
/// Bytes compared at once.
const COMPARE_BYTES: usize = 64 << 10;

/// What became of the files that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Returned {
    /// Files that are new or replace an older one.
    pub(crate) written: Vec<PathBuf>,
    /// Files whose own name is taken by one that changed meanwhile, and the name they got.
    pub(crate) beside: Vec<(PathBuf, PathBuf)>,
    /// What was not taken, and why.
    pub(crate) skipped: Vec<(PathBuf, &'static str)>,
}

impl Returned {
    /// After several tries each file is still told once.
    pub(super) fn once_each(mut self) -> Self {
        self.written.sort();
        self.written.dedup();
        self.skipped.sort();
        self.skipped.dedup();
        self
    }
}

/// A file that comes.
pub(super) struct Incoming<'a> {
    pub(super) body: &'a mut dyn Read,
    pub(super) mode: u32,
    pub(super) modified_s: i64,
}

/// A directory that files are put into.
pub(super) struct Place {
    root: OwnedFd,
    session: String,
    /// Files that may be replaced, as they looked when we last knew them.
    known: Manifest,
    /// Files that came, as they look now.
    pub(super) came: Manifest,
    pub(super) returned: Returned,
}

impl Place {
    /// `root` exists; `session` names files that cannot have their own name.
    pub(super) fn open(root: &Path, session: &str, known: Manifest) -> io::Result<Self> {
        Ok(Self {
            root: openat(CWD, root, DIRECTORY, Mode::empty())?,
            session: session.to_owned(),
            known,
            came: Manifest::new(),
            returned: Returned::default(),
        })
    }

    /// A directory is there.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        if self.descend(path)?.is_none() {
            self.refuse(path);
        }
        Ok(())
    }

    /// A file comes.
    pub(super) fn file(&mut self, path: &Path, mut incoming: Incoming<'_>) -> io::Result<()> {
        let Some((parent, name)) = self.parent_of(path)? else {
            return Ok(());
        };
        let temporary = Temporary::write(&parent, &mut incoming)?;
        self.settle(path, &name, temporary)
    }

    /// A symbolic link comes.
    pub(super) fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        if !link_stays_within(path, target) {
            self.returned
                .skipped
                .push((path.to_path_buf(), "the link leads out of the directory"));
            return Ok(());
        }
        let Some((parent, name)) = self.parent_of(path)? else {
            return Ok(());
        };
        if rustix::fs::readlinkat(&parent, &name, Vec::new()).is_ok_and(|old| {
            use std::os::unix::ffi::OsStrExt as _;
            old.as_bytes() == target.as_os_str().as_bytes()
        }) {
            return Ok(());
        }
        let temporary = Temporary::link(&parent, target)?;
        self.settle(path, &name, temporary)
    }

    /// Gives what came its name, or another one if that is not ours to take.
    fn settle(&mut self, path: &Path, name: &OsStr, temporary: Temporary<'_>) -> io::Result<()> {
        let parent = temporary.parent;
        let current = look(parent, name)?;
        let replaceable = current.is_some() && current == self.known.get(path).copied();
        if replaceable {
            temporary.rename_over(name)?;
        } else if current.is_some() || !temporary.rename_new(name)? {
            if temporary.is_same_as(name)? {
                return Ok(());
            }
            return self.settle_beside(path, name, temporary);
        }
        if let Some(stamp) = look(parent, name)? {
            self.known.insert(path.to_path_buf(), stamp);
            self.came.insert(path.to_path_buf(), stamp);
        }
        self.returned.written.push(path.to_path_buf());
        Ok(())
    }

    fn settle_beside(
        &mut self,
        path: &Path,
        name: &OsStr,
        temporary: Temporary<'_>,
    ) -> io::Result<()> {
        for number in 1..=NAMES_LIMIT {
            let mut other = name.to_owned();
            other.push(format!(".insula-{}", self.session));
            if number > 1 {
                other.push(format!("-{number}"));
            }
            if temporary.rename_new(&other)? {
                self.returned
                    .beside
                    .push((path.to_path_buf(), path.with_file_name(&other)));
                return Ok(());
            }
            if temporary.is_same_as(&other)? {
                return Ok(());
            }
        }
        self.returned
            .skipped
            .push((path.to_path_buf(), "too many files stand beside it already"));
        Ok(())
    }

    fn parent_of(&mut self, path: &Path) -> io::Result<Option<(OwnedFd, OsString)>> {
        let name = path.file_name().expect("checked to be a name").to_owned();
        let parent = self.descend(path.parent().unwrap_or(Path::new("")))?;
        if parent.is_none() {
            self.refuse(path);
        }
        Ok(parent.map(|parent| (parent, name)))
    }

    fn refuse(&mut self, path: &Path) {
        let reason = "there is a link or a file where its directory should be";
        self.returned.skipped.push((path.to_path_buf(), reason));
    }

    /// Opens a directory step by step, making what is missing; `None` where a link or a file is
    /// in the way.
    fn descend(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let mut current = self.root.try_clone()?;
        for name in path {
            let mode = Mode::from_raw_mode(0o777);
            let opened = match openat(&current, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::NOENT) => {
                    match mkdirat(&current, name, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    openat(&current, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                }
                other => other,
            };
            match opened {
                Ok(next) => current = next,
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(current))
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// How a name looks now, without following a link; `None` if there is nothing.
fn look(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<Stamp>> {
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
struct Temporary<'a> {
    parent: &'a OwnedFd,
    name: OsString,
    is_file: bool,
    named: std::cell::Cell<bool>,
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

    fn write(parent: &'a OwnedFd, incoming: &mut Incoming<'_>) -> io::Result<Self> {
        let temporary = Self::of(parent, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(parent, &temporary.name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        io::copy(incoming.body, &mut file)?;
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

    fn link(parent: &'a OwnedFd, target: &Path) -> io::Result<Self> {
        let temporary = Self::of(parent, false)?;
        symlinkat(target, parent, &temporary.name)?;
        Ok(temporary)
    }

    fn rename_over(&self, name: &OsStr) -> io::Result<()> {
        renameat(self.parent, &self.name, self.parent, name)?;
        self.named.set(true);
        Ok(())
    }

    /// False if the name is taken.
    fn rename_new(&self, name: &OsStr) -> io::Result<bool> {
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
    fn is_same_as(&self, name: &OsStr) -> io::Result<bool> {
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

#[cfg(test)]
mod tests;
