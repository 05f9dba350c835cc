//! The reserve file: disk space kept back, so that on a full disk stops and ends can still be
//! recorded and old rows be pruned.

use crate::error::StoreError;
use crate::store::Room;
use rustix::fs::{FallocateFlags, Mode, OFlags, StatVfs};
use rustix::io::Errno;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Usual size of the reserve.
pub const DEFAULT_RESERVE_BYTES: u64 = 16 << 20;
/// Name of the reserve file, beside the store.
pub const RESERVE_FILE: &str = "reserve";

/// New work needs this many times the reserve's size free beside the reserve: what runs goes on
/// writing after the last creation was taken.
const FREE_FOR_WORK: u64 = 2;

/// Real blocks in a file that is deleted when they are needed.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    directory: PathBuf,
    bytes: u64,
    /// The file is there, whole.
    there: bool,
}

impl Reserve {
    /// The reserve of `bytes` in `directory`, as an earlier process left it; nothing is made yet.
    pub(super) fn find(directory: &Path, bytes: u64) -> Self {
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        let path = directory.join(RESERVE_FILE);
        let whole = |facts: std::fs::Metadata| {
            // Blocks of 512 bytes, whatever the file system's own are.
            facts.is_file() && facts.len() == bytes && facts.blocks() * 512 >= bytes
        };
        let there = bytes > 0 && path.symlink_metadata().is_ok_and(whole);
        Self {
            path,
            directory: directory.to_owned(),
            bytes,
            there,
        }
    }

    /// Makes the file, if it is wanted and not there. On a full disk it leaves none.
    pub(super) fn refill(&mut self) -> Result<(), StoreError> {
        if self.bytes == 0 || self.there {
            return Ok(());
        }
        match self.allocate() {
            Ok(()) => {
                self.there = true;
                Ok(())
            }
            Err(error) => {
                self.remove();
                Err(self.error("allocate", error))
            }
        }
    }

    /// The file is there, whole.
    pub(super) fn is_there(&self) -> bool {
        self.there
    }

    /// Gives the space up. False if there was none to give.
    pub(super) fn spend(&mut self) -> bool {
        let gave = self.there;
        if gave {
            self.remove();
        }
        gave
    }

    /// How much room there is; makes the file again once there is enough.
    pub(super) fn room(&mut self) -> Result<Room, StoreError> {
        let missing = if self.there { 0 } else { self.bytes };
        let needed_bytes = self
            .bytes
            .saturating_mul(FREE_FOR_WORK)
            .saturating_add(missing);
        let free_bytes = self.free()?;
        if free_bytes < needed_bytes {
            return Ok(Room::Full {
                free_bytes,
                needed_bytes,
            });
        }
        match self.refill() {
            Ok(()) => Ok(Room::Enough {
                free_bytes: free_bytes - missing,
            }),
            Err(error) if error.is_full() => Ok(Room::Full {
                free_bytes,
                needed_bytes,
            }),
            Err(error) => Err(error),
        }
    }

    fn free(&self) -> Result<u64, StoreError> {
        let StatVfs {
            f_bavail, f_frsize, ..
        } = rustix::fs::statvfs(&self.directory).map_err(|error| StoreError::Reserve {
            act: "inspect the file system of",
            path: self.directory.clone(),
            source: error.into(),
        })?;
        Ok(f_bavail.saturating_mul(f_frsize))
    }

    fn allocate(&self) -> Result<(), Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&self.path, flags, Mode::from_raw_mode(0o600))?;
        // A reserve of another size, from an earlier setting, becomes one of this size.
        rustix::fs::ftruncate(&file, self.bytes)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Err(Errno::OPNOTSUPP) => write_zeros(&file, self.bytes),
            result => result,
        }
    }

    fn remove(&mut self) {
        self.there = false;
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "the reserve stays");
        }
    }

    fn error(&self, act: &'static str, error: Errno) -> StoreError {
        StoreError::Reserve {
            act,
            path: self.path.clone(),
            source: error.into(),
        }
    }
}

/// For file systems without preallocation.
fn write_zeros(file: &impl std::os::fd::AsFd, bytes: u64) -> Result<(), Errno> {
    const BLOCK: usize = 1 << 16;
    let zeros = [0_u8; BLOCK];
    let mut offset = 0;
    while offset < bytes {
        let length = usize::try_from(bytes - offset).map_or(BLOCK, |rest| rest.min(BLOCK));
        let written = rustix::io::pwrite(file, &zeros[..length], offset)?;
        offset += u64::try_from(written).expect("a length fits 64 bits");
    }
    Ok(())
}
