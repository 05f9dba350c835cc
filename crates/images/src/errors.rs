//! What can go wrong with the two stores.

use crate::Refused;
use domain::image::{Digest, ImageId};
use std::io;
use std::path::{Path, PathBuf};

/// A store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An act on a file of the store failed.
    #[error("cannot {act} {path}")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store does not have this image.
    #[error("there is no image {id}")]
    NoImage {
        /// Which.
        id: ImageId,
    },
    /// The store does not have this blob.
    #[error("there is no blob {digest}")]
    NoBlob {
        /// Which.
        digest: Digest,
    },
    /// A manifest of the store is not what its name says.
    #[error("{path} is damaged")]
    Damaged {
        /// Its file.
        path: PathBuf,
    },
    /// A tree was not wholly removed.
    #[error(transparent)]
    Remove(#[from] process::RemoveTreeError),
}

impl StoreError {
    /// The file system is full, or the owner's quota of it.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Act { source, .. } if is_full(source))
    }
}

/// An archive was not imported. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It has no image for the wanted kind of machine.
    #[error("the archive has no image for {wanted}; it has {}", there.join(", "))]
    Platform {
        /// For which machine.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// It has several images, and none or no single one was chosen.
    #[error("the archive has several images: {}", there.join(", "))]
    Several {
        /// By their names.
        there: Vec<String>,
    },
    /// It has no image of the chosen name.
    #[error("the archive has no image `{wanted}`; it has {}", there.join(", "))]
    Reference {
        /// The chosen name.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// The input itself could not be read: not the archive's fault.
    #[error("cannot read the archive")]
    Input {
        /// Why.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A layer was not unpacked. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The blob is not what the manifest says, or is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The blob could not be read.
    #[error("cannot read the layer")]
    Input {
        /// Why.
        source: io::Error,
    },
    /// An entry could not be made.
    #[error("cannot {act} `{entry}`")]
    Entry {
        /// What was tried.
        act: &'static str,
        /// The entry, as people can read it.
        entry: String,
        /// Why.
        source: io::Error,
    },
    /// The file system has room, but not for so many attributes of one file: ext4, for one, keeps
    /// them in a single block.
    #[error("the extended attributes of `{entry}` do not fit on this file system")]
    Attributes {
        /// The entry, as people can read it.
        entry: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LayerError {
    /// The file system is full, or the owner's quota of it.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Entry { source, .. } => is_full(source),
            Self::Store(error) => error.is_full(),
            Self::Refused(_) | Self::Input { .. } | Self::Attributes { .. } => false,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl From<process::WriteFileError> for StoreError {
    fn from(error: process::WriteFileError) -> Self {
        match error {
            process::WriteFileError::Act { act, path, source } => Self::Act { act, path, source },
            process::WriteFileError::NoName { path } => Self::Act {
                act: "write",
                path,
                source: io::ErrorKind::InvalidInput.into(),
            },
        }
    }
}

impl From<process::WriteFileError> for LayerError {
    fn from(error: process::WriteFileError) -> Self {
        Self::Store(error.into())
    }
}

pub(crate) fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Act { act, path, source }
}
