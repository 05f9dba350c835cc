//! Where a member's entries lie: in its directory, or on a file system of its own.

use super::MemberDirectory;
use engine_api::{Engine, EngineError, layout};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// A member's directory with its file system, which is mounted while this is held.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    directory: MemberDirectory,
    disk: Option<Arc<OwnedFd>>,
}

impl Place {
    /// Opens it. Blocks, as dropping the last of it does.
    pub(crate) fn open(
        engine: &dyn Engine,
        directory: MemberDirectory,
    ) -> Result<Self, EngineError> {
        let disk = engine.open_disk(directory.path())?.map(Arc::new);
        Ok(Self { directory, disk })
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
                PathBuf::from(format!("/proc/self/fd/{}/{name}", disk.as_raw_fd()))
            }
            _ => self.directory.entry(name),
        }
    }
}
