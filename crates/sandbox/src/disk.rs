//! A file system of its own for a container whose disk is limited: ext4 in a sparse image beside
//! the container's other files.
//!
//! It is never attached to a tree of mounts but a container's: whoever needs it gets a mount that is
//! attached nowhere, as a descriptor of its root, and it is mounted for as long as anybody holds
//! one. The loop device goes with the last of them (autoclear), also when its holder is killed, so
//! there is nothing to find and clean after a crash. All who open it at once get the same loop
//! device, and so the same file system: two over one image would destroy it.

mod loop_device;
mod programs;

use crate::chain::chain;
use domain::Capability;
use engine_api::layout;
use programs::{check_image, make_file_system};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdirat, open as open_file};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of a block; the size is a whole number of them.
const BLOCK_BYTES: u64 = 4_096;
/// Size of the file system that is made to see whether one can be.
const TRIAL_BYTES: u64 = 1 << 20;

/// A file system could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// An act failed.
    #[error("cannot {act} {}", path.display())]
    Act {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A program is missing.
    #[error("the program `{name}` is missing; the package e2fsprogs has it")]
    Missing { name: &'static str },
    /// A program failed.
    #[error("`{name}` failed: {told}")]
    Program { name: &'static str, told: String },
    /// Somebody has it in another way than we would.
    #[error(
        "{} has it read-only, or a part of it; detach it with `losetup -d {}`",
        device.display(),
        device.display()
    )]
    InUse { device: PathBuf },
    /// All loop devices were taken by others, each time.
    #[error("no loop device could be had")]
    NoLoopDevice,
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(Errno) -> DiskError {
    let path = path.to_path_buf();
    move |error| DiskError::Act {
        act,
        path,
        source: error.into(),
    }
}

/// Makes a file system of `bytes` for the container with this directory, with the entries of
/// [`layout::ON_DISK`]. Blocks; some 30 ms.
pub(crate) fn make(directory: &Path, bytes: u64) -> Result<(), DiskError> {
    let path = directory.join(layout::DISK);
    let act = |act| {
        let path = path.clone();
        move |source| DiskError::Act { act, path, source }
    };
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let image = options.open(&path).map_err(act("create"))?;
    let bytes = bytes / BLOCK_BYTES * BLOCK_BYTES;
    image.set_len(bytes).map_err(act("extend"))?;
    drop(image);
    make_file_system(&path, bytes)?;
    let Some(root) = open(directory)? else {
        return Ok(());
    };
    for name in layout::ON_DISK {
        mkdirat(&root, *name, Mode::from_raw_mode(0o755)).map_err(failed("make", &path))?;
    }
    Ok(())
}

/// The root of the file system of the container with this directory; `None` if it has none. It is
/// mounted until this and everything opened by it is dropped, and nobody else holds it. Blocks, as
/// dropping the last does.
pub(crate) fn open(directory: &Path) -> Result<Option<OwnedFd>, DiskError> {
    let path = directory.join(layout::DISK);
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let image = match open_file(&path, flags, Mode::empty()) {
        Ok(image) => image,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed("open", &path)(error)),
    };
    // A descriptor of its own: a loop device keeps the other one, and a lock on it, for ever.
    let lock = open_file(&path, flags, Mode::empty()).map_err(failed("open", &path))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock", &path))?;
    let device = match loop_device::find(&image)? {
        Some(device) => device,
        None => {
            check_image(&path, &image)?;
            loop_device::attach(&image)?
        }
    };
    let mounted = mount(&device.path).map_err(failed("mount", &path))?;
    Ok(Some(mounted))
}

/// A path to `name` on an opened file system, for this process.
pub(crate) fn path_on(root: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))
}

/// Tables of inodes are not written before they are used, and what is removed goes back to the node.
fn mount(device: &Path) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", device)?;
    fsconfig_set_flag(&context, c"noinit_itable")?;
    fsconfig_set_flag(&context, c"discard")?;
    // Where the node's disk fails, programs are told, and nothing is written over what is broken.
    fsconfig_set_string(&context, c"errors", c"remount-ro")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Whether such file systems can be made here: tried until it went well once, for what is in the way
/// (a full disk, a missing program) may go.
#[derive(Debug, Default)]
pub(crate) struct DiskTrial {
    went_well: Mutex<bool>,
}

impl DiskTrial {
    /// Tried in a directory of its own below `place`, which is removed. It has to be where the
    /// containers' own will lie: not every file system can be behind a loop device. Blocks.
    pub(crate) fn capability(&self, place: &Path) -> Capability {
        let mut went_well = self
            .went_well
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *went_well {
            return Capability::Yes;
        }
        let number = std::process::id();
        let directory = place.join(format!("disk-trial-{number}"));
        let made = std::fs::create_dir_all(&directory).map_err(|source| DiskError::Act {
            act: "create",
            path: directory.clone(),
            source,
        });
        let tried = made.and_then(|()| make(&directory, TRIAL_BYTES));
        // Nothing is in it but what was made here.
        let _ = std::fs::remove_file(directory.join(layout::DISK));
        let _ = std::fs::remove_dir(&directory);
        match tried {
            Ok(()) => {
                *went_well = true;
                Capability::Yes
            }
            Err(error) => Capability::No {
                reason: chain(&error),
            },
        }
    }
}

#[cfg(test)]
mod tests;
