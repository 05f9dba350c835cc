//! Stores in directories that go away.

use images::{BlobStore, ImportError, ImportOptions, Imported};
use std::path::{Path, PathBuf};

/// A blob store of a test.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) blobs: BlobStore,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let blobs = BlobStore::open(&directory.path().join("images")).expect("a store");
        Self { directory, blobs }
    }

    pub(crate) fn import(&self, archive: &[u8]) -> Result<Imported, ImportError> {
        self.import_with(archive, &ImportOptions::default())
    }

    pub(crate) fn import_with(
        &self,
        archive: &[u8],
        options: &ImportOptions,
    ) -> Result<Imported, ImportError> {
        self.blobs.import(archive, options, &mut |_| {})
    }

    /// All files of the store, below its directory.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        list(&self.directory.path().join("images"), &mut found);
        found
    }
}

fn list(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("its kind").is_dir() {
            list(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}
