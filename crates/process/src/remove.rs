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
        /// `open`, `inspect`, `list`, `leave`, `remove`.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What went wrong, before it is said where: paths are built for errors only, since building one
/// for each of ten thousand levels would cost more than the removal.
enum Fault {
    MountPoint,
    Moved,
    Act(&'static str, Errno),
}

impl Fault {
    fn at(self, path: PathBuf) -> RemoveTreeError {
        match self {
            Self::MountPoint => RemoveTreeError::MountPoint { path },
            Self::Moved => RemoveTreeError::Moved { path },
            Self::Act(act, error) => RemoveTreeError::Act {
                act,
                path,
                source: error.into(),
            },
        }
    }
}

fn fault(act: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |error| Fault::Act(act, error)
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
    let name = path
        .file_name()
        .and_then(|name| CString::new(name.as_bytes()).ok());
    let (Some(parent_path), Some(name)) = (path.parent(), name) else {
        return Err(fault("remove")(Errno::INVAL).at(path.into()));
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
        Err(error) => return Err(fault("open")(error).at(parent_path.into())),
    };
    match unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(fault("remove")(error).at(path.into())),
    }
    let place =
        place_of(&parent).map_err(|error| fault("inspect")(error).at(parent_path.into()))?;
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
        let parent = self.levels.last().expect("the top level stays").place;
        let opened = open_directory(self.current.as_fd(), &name)
            .and_then(|opened| opened.map(|found| check(found, parent)).transpose());
        let (directory, place) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(()),
            Err(fault) => return Err(fault.at(self.path(Some(&name)))),
        };
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
        let list = |error| fault("list")(error).at(self.path(None));
        let mut listing = Dir::read_from(&self.current).map_err(list)?;
        listing.rewind();
        let mut directories = Vec::new();
        while let Some(entry) = listing.read() {
            let entry = entry.map_err(list)?;
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
                Err(error) => return Err(fault("remove")(error).at(self.path(Some(name)))),
            }
        }
        let level = self.levels.last_mut().expect("the top level stays");
        level.pending = directories;
        level.rounds += 1;
        Ok(())
    }

    /// Goes back to the parent and removes the directory it came from.
    fn ascend(&mut self) -> Result<(), RemoveTreeError> {
        let parent = self
            .open_parent()
            .map_err(|fault| fault.at(self.path(None)))?;
        let level = self.levels.last().expect("two levels at least");
        match unlinkat(&parent, &level.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                self.levels.pop();
                self.current = parent;
                Ok(())
            }
            // Something appeared meanwhile: look again.
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.rounds < ROUNDS => self.sweep(),
            Err(error) => Err(fault("remove")(error).at(self.path(None))),
        }
    }

    /// Opens the directory above, after making sure that it is the one we came from.
    fn open_parent(&self) -> Result<OwnedFd, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(&self.current, c"..", flags, Mode::empty()).map_err(fault("leave"))?;
        let found = place_of(&parent).map_err(fault("inspect"))?;
        if found == self.levels[self.levels.len() - 2].place {
            Ok(parent)
        } else {
            Err(Fault::Moved)
        }
    }

    fn path(&self, name: Option<&CStr>) -> PathBuf {
        let mut path = self.top.to_path_buf();
        let names = self
            .levels
            .iter()
            .skip(1)
            .map(|level| level.name.as_c_str());
        for name in names.chain(name) {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        path
    }
}

/// Opens the directory `name`; `None` if it is gone or was a file after all, and is removed. Of a
/// directory that cannot be listed (overlayfs makes one with mode 0) the mode is changed first.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Fault::Act("remove", error)),
        },
        Err(Errno::ACCESS) => {
            let handle =
                openat(parent, name, flags | OFlags::PATH, Mode::empty()).map_err(fault("open"))?;
            let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmod(link, Mode::RWXU).map_err(fault("open"))?;
            openat(parent, name, flags, Mode::empty())
                .map(Some)
                .map_err(fault("open"))
        }
        Err(error) => Err(Fault::Act("open", error)),
    }
}

/// Where `directory` is, after making sure that it lies on its parent's mount.
fn check(directory: OwnedFd, parent: Place) -> Result<(OwnedFd, Place), Fault> {
    let facts = statx_of(&directory).map_err(fault("inspect"))?;
    let place = place(&facts);
    let root_of_mount = facts
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT)
        && facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    if root_of_mount || place.mount != parent.mount || place.device != parent.device {
        return Err(Fault::MountPoint);
    }
    Ok((directory, place))
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
