//! By what a file is known to be the same as before.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// A file's size, time of change and inode: whoever edits it changes at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Bytes.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified_s: i64,
    /// And nanoseconds.
    pub(crate) modified_ns: i64,
    /// The inode's number.
    pub(crate) inode: u64,
}

impl Stamp {
    /// Of what was asked for without following links.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }
}

/// Files as they were, by path relative to a directory.
pub(crate) type Manifest = BTreeMap<PathBuf, Stamp>;
