//! Removes a directory tree and refuses to cross a mount point.
//!
//! A removal that walks through a bind mount destroys what is on the other side, so every
//! directory is checked before anything in it is touched: it must not be the root of a mount, and
//! must lie on the same mount as its parent. Names may be nested deeper than there are
//! descriptors or stack: the walk holds two descriptors and goes back by `..`, checking that it
//! came to where it was.

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How often a directory is read again because something appeared in it meanwhile.
const ROUNDS: u32 = 8;

/// A tree was not (wholly) removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveTreeError {
    /// Something is mounted there; nothing below was touched.
    #[error("{path} is a mount point; it is not removed")]
    MountPoint {
        /// Where.
        path: PathBuf,
    },
    /// A directory was moved while it was removed.
    #[error("{path} was moved while it was removed")]
    Moved {
        /// Which.
        path: PathBuf,
    },
    /// An act failed.
    #[error("cannot {act} {path}")]
    Act {
        /// `open`, `inspect`, `list`, `remove`.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where a directory is: enough to know it again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    device: (u32, u32),
    inode: u64,
    mount: u64,
}

/// A directory on the way down.
struct Level {
    name: CString,
    place: Place,
    /// Subdirectories that still have to be removed.
    pending: Vec<CString>,
    rounds: u32,
}

/// Removes `path` and everything below it. An absent path is success; a symbolic link is removed
/// and not followed. Stops at the first thing that cannot be removed; calling it again goes on.
pub fn remove_tree(path: &Path) -> Result<(), RemoveTreeError> {
    let name = path.file_name().and_then(|name| CString::new(name.as_bytes()).ok());
    let (Some(parent_path), Some(name)) = (path.parent(), name) else {
        return Err(act("remove", path)(Errno::INVAL));
    };
    let parent_path = if parent_path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent_path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent_path, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(act("open", parent_path)(error)),
    };
    match unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(act("remove", path)(error)),
    }
    let place = place_of(&parent).map_err(act("inspect", parent_path))?;
    Walk {
        top: parent_path,
        levels: vec![Level {
            name: CString::default(),
            place,
            pending: vec![name],
            rounds: 0,
        }],
        current: parent,
    }
    .run()
}

fn act(act: &'static str, path: &Path) -> impl FnOnce(Errno) -> RemoveTreeError {
    move |error| RemoveTreeError::Act {
        act,
        path: path.into(),
        source: error.into(),
    }
}

/// The state of one removal: `current` is the directory of the last level.
struct Walk<'a> {
    top: &'a Path,
    levels: Vec<Level>,
    current: OwnedFd,
}

impl Walk<'_> {
    fn run(mut self) -> Result<(), RemoveTreeError> {
        loop {
            let level = self.levels.last_mut().expect("the top level stays");
            if let Some(name) = level.pending.pop() {
                self.descend(name)?;
            } else if self.levels.len() == 1 {
                return Ok(());
            } else {
                self.ascend()?;
            }
        }
    }

    /// Enters `name`, removes its files, and notes its directories.
    fn descend(&mut self, name: CString) -> Result<(), RemoveTreeError> {
        let path = self.path(Some(&name));
        let parent = self.levels.last().expect("the top level stays").place;
        let Some(directory) = open_directory(self.current.as_fd(), &name, &path)? else {
            return Ok(());
        };
        let place = check(&directory, parent, &path)?;
        self.current = directory;
        self.levels.push(Level {
            name,
            place,
            pending: Vec::new(),
            rounds: 0,
        });
        self.sweep()
    }

    /// Removes the files of the current directory and notes its directories.
    fn sweep(&mut self) -> Result<(), RemoveTreeError> {
        let listing = Dir::read_from(&self.current);
        let mut listing = listing.map_err(|error| act("list", &self.path(None))(error))?;
        listing.rewind();
        let mut directories = Vec::new();
        while let Some(entry) = listing.read() {
            let entry = entry.map_err(|error| act("list", &self.path(None))(error))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                directories.push(name.to_owned());
                continue;
            }
            match unlinkat(&self.current, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => directories.push(name.to_owned()),
                Err(error) => return Err(act("remove", &self.path(Some(name)))(error)),
            }
        }
        let level = self.levels.last_mut().expect("the top level stays");
        level.pending = directories;
        level.rounds += 1;
        Ok(())
    }

    /// Goes back to the parent and removes the directory it came from.
    fn ascend(&mut self) -> Result<(), RemoveTreeError> {
        let path = self.path(None);
        let parent = openat(
            &self.current,
            c"..",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(act("open", &path.join("..")))?;
        let found = place_of(&parent).map_err(act("inspect", &path))?;
        if found != self.levels[self.levels.len() - 2].place {
            return Err(RemoveTreeError::Moved { path });
        }
        let level = self.levels.last().expect("two levels at least");
        match unlinkat(&parent, &level.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                self.levels.pop();
                self.current = parent;
                Ok(())
            }
            // Something appeared meanwhile: look again.
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.rounds < ROUNDS => self.sweep(),
            Err(error) => Err(act("remove", &path)(error)),
        }
    }

    fn path(&self, name: Option<&CStr>) -> PathBuf {
        let mut path = self.top.to_path_buf();
        let names = self.levels.iter().skip(1).map(|level| level.name.as_c_str());
        for name in names.chain(name) {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        path
    }
}

/// Opens the directory `name`; `None` if it is gone or was a file after all, and is removed. Of a
/// directory that cannot be listed (overlayfs makes one with mode 0) the mode is changed first.
fn open_directory(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
) -> Result<Option<OwnedFd>, RemoveTreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            match unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(act("remove", path)(error)),
            }
        }
        Err(Errno::ACCESS) => {
            let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())
                .map_err(act("open", path))?;
            let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmod(link, Mode::RWXU).map_err(act("open", path))?;
            openat(parent, name, flags, Mode::empty())
                .map(Some)
                .map_err(act("open", path))
        }
        Err(error) => Err(act("open", path)(error)),
    }
}

/// Where `directory` is, after making sure that it lies on its parent's mount.
fn check(directory: &OwnedFd, parent: Place, path: &Path) -> Result<Place, RemoveTreeError> {
    let facts = statx_of(directory).map_err(act("inspect", path))?;
    let place = place(&facts);
    let root_of_mount = facts.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    if root_of_mount || place.mount != parent.mount || place.device != parent.device {
        return Err(RemoveTreeError::MountPoint { path: path.into() });
    }
    Ok(place)
}

fn place_of(directory: &OwnedFd) -> Result<Place, Errno> {
    statx_of(directory).map(|facts| place(&facts))
}

fn statx_of(directory: &OwnedFd) -> Result<rustix::fs::Statx, Errno> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let facts = statx(directory, c"", AtFlags::EMPTY_PATH, wanted)?;
    // Without the mount's id (before Linux 5.8) nothing can be promised.
    if facts.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(facts)
}

fn place(facts: &rustix::fs::Statx) -> Place {
    Place {
        device: (facts.stx_dev_major, facts.stx_dev_minor),
        inode: facts.stx_ino,
        mount: facts.stx_mnt_id,
    }
}
