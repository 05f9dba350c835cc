//! Files that have no name yet: removed when they are dropped, and at the next start.

use crate::StoreError;
use crate::errors::failed;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The directory of a store in which files are written.
#[derive(Debug)]
pub(super) struct Temporaries {
    directory: PathBuf,
    next: AtomicU64,
}

impl Temporaries {
    /// Makes `directory`, or empties it of what a crash left.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        process::remove_tree(directory)?;
        fs::create_dir(directory).map_err(failed("create", directory))?;
        Ok(Self {
            directory: directory.into(),
            next: AtomicU64::new(1),
        })
    }

    /// A new file.
    pub(super) fn create(&self) -> Result<Temporary, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(number.to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        Ok(Temporary {
            path,
            file,
            kept: false,
        })
    }
}

/// One file, removed unless it is kept.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    pub(super) file: File,
    kept: bool,
}

impl Temporary {
    /// Brings the content to the disk and gives it the name `path`, unless that is there already:
    /// names are digests, so it would be the same.
    pub(super) fn keep(mut self, path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            return Ok(());
        }
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        fs::rename(&self.path, path).map_err(failed("rename to", path))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed when the store is opened next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Brings the names in `directory` to the disk.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(failed("sync", directory))
}
