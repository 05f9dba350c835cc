//! Files that have no name yet: removed when they are dropped, and at the next start.

use crate::StoreError;
use crate::errors::failed;
use crate::fault::carry_store;
use crate::streams::length;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The directory of a store in which files are written.
#[derive(Debug)]
pub(crate) struct Temporaries {
    directory: PathBuf,
    next: AtomicU64,
}

impl Temporaries {
    /// Makes `directory`, or empties it of what a crash left.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        process::remove_tree(directory)?;
        fs::create_dir(directory).map_err(failed("create", directory))?;
        Ok(Self {
            directory: directory.into(),
            next: AtomicU64::new(1),
        })
    }

    /// A new file.
    pub(crate) fn create(&self) -> Result<Temporary, StoreError> {
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
pub(crate) struct Temporary {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    kept: bool,
}

impl Temporary {
    /// Brings the content to the disk and gives it the name `path`, also where that is there
    /// already: names are digests, but what the disk has made of an older file nobody knows, and
    /// this one was just checked.
    pub(crate) fn keep(mut self, path: &Path) -> Result<(), StoreError> {
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        process::crash_point("import.layer-written");
        fs::rename(&self.path, path).map_err(failed("rename to", path))?;
        process::crash_point("import.layer-named");
        self.kept = true;
        Ok(())
    }
}

impl Temporary {
    /// Everything in it, from the start.
    pub(crate) fn reader(&self) -> FileReader<'_> {
        self.part(0, u64::MAX)
    }

    /// `bytes` of it from `offset`.
    pub(crate) fn part(&self, offset: u64, bytes: u64) -> FileReader<'_> {
        FileReader {
            file: self,
            offset,
            left: bytes,
        }
    }
}

/// Reads a part of a file; several may do so at once.
pub(crate) struct FileReader<'a> {
    file: &'a Temporary,
    offset: u64,
    left: u64,
}

impl FileReader<'_> {
    /// Bytes of the part that were not read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.file.read_at(&mut buffer[..wanted], self.offset);
        let count = read.map_err(|error| carry_store(failed("read", &self.file.path)(error)))?;
        self.offset += length(count);
        self.left -= length(count);
        Ok(count)
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
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(failed("sync", directory))
}
