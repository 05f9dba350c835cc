//! The file systems of a container before they are attached: made here by root; described here and
//! made by the child for an ordinary user, who may do that in the container's namespaces only.

use super::{failed, text};
use crate::identity::Identity;
use crate::kernel::{MOUNT_NO_DEVICES, MOUNT_NO_SUID, MOUNT_READ_ONLY, RECURSIVE, mount_setattr};
use crate::launcher::plan::{Source, SourcePath};
use crate::message::Failure;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const HARMLESS: u64 = MOUNT_NO_SUID | MOUNT_NO_DEVICES;

/// Who makes the mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sources {
    /// The launcher, as root.
    ByLauncher,
    /// The child.
    ByChild,
}

impl Sources {
    pub(super) fn of(identity: &Identity) -> Self {
        match identity {
            Identity::Range => Self::ByLauncher,
            Identity::Lent(_) | Identity::Single => Self::ByChild,
        }
    }

    /// A layer of the image, read-only.
    pub(super) fn layer(self, path: &Path) -> Result<Source, Failure> {
        self.single(path, HARMLESS | MOUNT_READ_ONLY, false)
    }

    /// A directory of the member's; links are not followed.
    pub(super) fn own_directory(self, path: &Path) -> Result<Source, Failure> {
        self.single(path, HARMLESS, true)
    }

    /// The node's sysfs. Root shows it without what is mounted in it (control groups, debug file
    /// systems); from a user the kernel does not let that be taken away.
    pub(super) fn node_sys(self) -> Result<Source, Failure> {
        let (path, attributes) = (Path::new("/sys"), HARMLESS | MOUNT_READ_ONLY);
        match self {
            Self::ByLauncher => self.single(path, attributes, false),
            Self::ByChild => Ok(Source::Path(SourcePath {
                path: text(path.as_os_str().as_bytes())?,
                recursive: true,
                no_follow: false,
                attributes,
            })),
        }
    }

    /// What somebody shows inside, with all that is mounted below it, and what it is.
    pub(super) fn bind(self, path: &Path, read_only: bool) -> Result<(Source, FileType), Errno> {
        let mut attributes = HARMLESS;
        if read_only {
            attributes |= MOUNT_READ_ONLY;
        }
        if self == Self::ByLauncher {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let mount = open_tree(CWD, path, flags)?;
            mount_setattr(&mount, RECURSIVE, attributes)?;
            let kind = kind_of(&mount)?;
            return Ok((Source::Made(mount), kind));
        }
        let opened = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let source = Source::Path(SourcePath {
            path: text(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?,
            recursive: true,
            no_follow: false,
            attributes,
        });
        Ok((source, kind_of(&opened)?))
    }

    fn single(self, path: &Path, attributes: u64, no_follow: bool) -> Result<Source, Failure> {
        if self == Self::ByChild {
            return Ok(Source::Path(SourcePath {
                path: text(path.as_os_str().as_bytes())?,
                recursive: false,
                no_follow,
                attributes,
            }));
        }
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, no_follow);
        let mount = open_tree(CWD, path, flags).map_err(failed("open", path))?;
        mount_setattr(&mount, 0, attributes).map_err(failed("mount", path))?;
        Ok(Source::Made(mount))
    }
}

fn kind_of(opened: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(opened)?.st_mode))
}
