//! Directories of a layer that is being unpacked, opened beneath its root: neither links nor
//! mounts nor `..` lead out, whatever entries before have planted.

use crate::names::split;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How a directory on the way was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// It was missing and is made.
    Made,
    /// It was there.
    There,
}

/// What is asked about every directory on the way, by its path.
pub(super) type Meeting<'a> = dyn FnMut(&[u8], Met) -> Result<(), Errno> + 'a;

/// The root of a layer, and the directory that was used last: the next entry is usually beside.
pub(super) struct Beneath {
    root: OwnedFd,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Beneath {
    pub(super) fn open(root: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Self {
            root: rustix::fs::open(root, flags, Mode::empty())?,
            last: None,
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory of a normal path, and the path's last name in it. Directories that are
    /// missing are made, closed to others; `meeting` is told of each and may object.
    pub(super) fn parent<'a>(
        &mut self,
        path: &'a [u8],
        meeting: &mut Meeting<'_>,
    ) -> Result<(BorrowedFd<'_>, &'a [u8]), Errno> {
        let (parent, name) = split(path);
        Ok((self.directory(parent, meeting)?, name))
    }

    /// The directory `path` itself; empty for the root.
    pub(super) fn directory(
        &mut self,
        path: &[u8],
        meeting: &mut Meeting<'_>,
    ) -> Result<BorrowedFd<'_>, Errno> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_last {
            let opened = self.walk(path, meeting)?;
            self.last = Some((path.to_vec(), opened));
        }
        let (_, opened) = self.last.as_ref().expect("it was just opened");
        Ok(opened.as_fd())
    }

    /// Opens one name after the other.
    fn walk(&self, path: &[u8], meeting: &mut Meeting<'_>) -> Result<OwnedFd, Errno> {
        let mut current: Option<OwnedFd> = None;
        let mut end = 0;
        for name in path.split(|byte| *byte == b'/') {
            end += name.len();
            let parent = current.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let opened = match open_directory(parent, name) {
                Err(Errno::NOENT) => {
                    mkdirat(parent, name, Mode::RWXU)?;
                    meeting(&path[..end], Met::Made)?;
                    open_directory(parent, name)?
                }
                opened => {
                    let opened = opened?;
                    meeting(&path[..end], Met::There)?;
                    opened
                }
            };
            current = Some(opened);
            end += 1;
        }
        current.ok_or(Errno::INVAL)
    }
}

/// Opens the directory `name`, one component, in `parent`.
pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    open_name(parent, name, flags, Mode::empty())
}

/// Opens `name`, one component, in `parent`. Kernels and filters without openat2 get the same by
/// `O_NOFOLLOW`: a single component can lead out only as a link.
pub(super) fn open_name(
    parent: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    loop {
        match openat2(parent, name, flags, mode, resolve) {
            Err(Errno::NOSYS | Errno::PERM) => return openat(parent, name, flags, mode),
            // The kernel could not be sure because something was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}
