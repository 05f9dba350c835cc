//! Where a member's entries lie: in its directory, or on a file system of its own.

use super::{Marker, MemberDirectory};
use engine_api::{Engine, EngineError, layout};
use lifecycle::agent::OwnDisk;
use rustix::fs::{Mode, OFlags, fstatvfs, openat, syncfs};
use rustix::io::Errno;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of the blocks that `stat` counts in.
const BLOCK_BYTES: u64 = 512;

/// A member's directory with its file system, which is mounted while this is held.
#[derive(Clone, Debug)]
pub(crate) struct MemberFiles {
    directory: MemberDirectory,
    disk: Option<Arc<Disk>>,
}

/// A mounted file system.
#[derive(Debug)]
struct Disk {
    root: OwnedFd,
    /// The root, opened: the kernel tells what could not be written later to those that had
    /// something open before, and once to each.
    opened: OwnedFd,
    /// Something was lost, and the kernel has told it.
    incomplete: AtomicBool,
}

impl MemberFiles {
    /// Opens it. Blocks, as dropping the last of it does.
    pub(crate) fn open(
        engine: &dyn Engine,
        directory: MemberDirectory,
    ) -> Result<Self, EngineError> {
        let root = engine.open_disk(directory.path())?;
        if root.is_none() && directory.is_marked(Marker::OwnDisk) {
            // What lies in the directory itself is empty: rather no answer than that one.
            return Err(EngineError::Act {
                act: "open the container's file system".to_owned(),
                reason: format!("its image `{}` is missing", layout::DISK),
            });
        }
        let disk = root.map(Disk::open).transpose();
        let disk = disk.map_err(|error| EngineError::Act {
            act: "open the root of the container's file system".to_owned(),
            reason: error.to_string(),
        })?;
        let disk = disk.map(Arc::new);
        Ok(Self { directory, disk })
    }

    /// How full its file system is; `None` if it has none, or that cannot be told. Some
    /// microseconds.
    pub(crate) fn own_disk(&self) -> Option<OwnDisk> {
        let disk = self.disk.as_ref()?;
        let inside = fstatvfs(&disk.opened).ok()?;
        let used = inside.f_blocks.saturating_sub(inside.f_bfree);
        let image = std::fs::symlink_metadata(self.directory.entry(layout::DISK)).ok()?;
        Some(OwnDisk {
            used_bytes: used.saturating_mul(inside.f_frsize),
            image_bytes: image.blocks().saturating_mul(BLOCK_BYTES),
        })
    }

    /// Writes to the node's disk what is in memory of its file system. An error says that some of
    /// what programs wrote since this was opened is lost; it is said again each time. Blocks, for
    /// many seconds where there is much.
    pub(crate) fn write_out(&self) -> Result<(), Errno> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let written = syncfs(&disk.opened);
        if written.is_err() {
            disk.incomplete.store(true, Ordering::SeqCst);
        }
        match disk.incomplete.load(Ordering::SeqCst) {
            true => Err(written.err().unwrap_or(Errno::IO)),
            false => Ok(()),
        }
    }

    /// What lies in the directory in any case.
    pub(crate) fn directory(&self) -> &MemberDirectory {
        &self.directory
    }

    /// There is a file system to hold.
    pub(crate) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The path of an entry, for this process and as long as this is held.
    pub(crate) fn entry(&self, name: &str) -> PathBuf {
        match &self.disk {
            Some(disk) if layout::ON_DISK.contains(&name) => {
                PathBuf::from(format!("/proc/self/fd/{}/{name}", disk.root.as_raw_fd()))
            }
            _ => self.directory.entry(name),
        }
    }
}

impl Disk {
    fn open(root: OwnedFd) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(&root, ".", flags, Mode::empty())?;
        Ok(Self {
            root,
            opened,
            incomplete: AtomicBool::new(false),
        })
    }
}
