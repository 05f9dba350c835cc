//! A directory as a tar archive that [`crate::BlobStore::import`] takes.
//!
//! The same directory gives the same bytes: entries come in the order of their names, and times
//! are whole seconds. The format is pax, with what an entry's header cannot hold beside it.

mod header;
mod walk;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use walk::Packing;

/// To whom the entries of a packed directory belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackOwners {
    /// To those to whom the files belong.
    Keep,
    /// All to root: a user without privileges unpacked or made the directory.
    Root,
}

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries.
    pub entries: u64,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Sockets, which an archive cannot hold.
    pub sockets: u64,
    /// Directories on which something else is mounted: they are packed empty.
    pub mounts: Vec<PathBuf>,
}

/// A directory could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An act on a file failed.
    #[error("cannot {act} {path}")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file changed while it was read.
    #[error("{path} changed while it was packed")]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// The archive could not be written.
    #[error("cannot write the archive")]
    Write {
        /// Why.
        source: io::Error,
    },
}

/// Packs the directory `path`: a root file system, or an OCI image layout. Owners, modes, times,
/// attributes, hard links, links and holes are kept; mounts below it are not entered.
pub fn pack_directory(
    path: &Path,
    owners: PackOwners,
    writer: impl Write,
) -> Result<Packed, PackError> {
    Packing::new(path, owners, writer).run()
}
