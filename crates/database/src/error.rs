//! What can go wrong with a store.

use crate::rows::RowError;
use domain::Timestamp;
use std::io;
use std::path::PathBuf;

/// A store could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An act on the database failed.
    #[error("cannot {act}")]
    Database {
        /// What was tried, as an infinitive.
        act: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A row does not have the form that this build writes.
    #[error("row `{key}` of table {table} cannot be read")]
    Row {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong with it.
        source: RowError,
    },
    /// A change cannot be written as a row.
    #[error("row `{key}` of table {table} cannot be written")]
    Change {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong with it.
        source: RowError,
    },
    /// The site's own row is missing.
    #[error("the store has no site row")]
    NoSite,
    /// The last commit's result is unknown, and nothing has been loaded since.
    #[error("the result of the last commit is unknown; load before committing again")]
    Doubtful,
    /// The store could not be opened again after a commit with an unknown result.
    #[error("cannot open the store again")]
    Reopen {
        /// Why.
        source: Box<OpenError>,
    },
    /// An act on the reserve file, or on its file system, failed.
    #[error("cannot {act} {path}")]
    Reserve {
        /// What was tried, as an infinitive.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    /// The disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => is_full(source),
            Self::Reserve { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Row { .. }
            | Self::Change { .. }
            | Self::NoSite
            | Self::Doubtful
            | Self::Reopen { .. } => false,
        }
    }
}

/// Whether SQLite says that the disk is full. Growing the shared-memory file of the write-ahead
/// log reports that as an I/O error of its own.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == rusqlite::ErrorCode::DiskFull
            || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}

/// A batch was not committed, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing of the batch was written.
    #[error("the batch was refused, nothing was written")]
    Refused {
        /// Why.
        source: StoreError,
    },
    /// The batch may or may not be on the disk. Nothing that follows from it may be shown; the
    /// truth is what the next [`crate::Store::load`] says.
    #[error("whether the batch was written is unknown")]
    Unknown {
        /// Why.
        source: StoreError,
    },
}

impl CommitError {
    /// The disk is full, and so is the reserve.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Refused { source } | Self::Unknown { source } => source.is_full(),
        }
    }
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An act on the database failed.
    #[error("cannot {act} {path}")]
    Database {
        /// What was tried, as an infinitive.
        act: &'static str,
        /// The store's file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file is a database of something else.
    #[error("{path} is a database, but not a store of Insula")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer build has changed the store's tables.
    #[error(
        "{path} was written by a newer build: it has migration {found}, this build knows {known}"
    )]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The newest migration in the store.
        found: u32,
        /// The newest migration of this build.
        known: u32,
    },
    /// A migration that was applied is not the one that this build knows by its number.
    #[error("migration {number} (`{name}`) of {path} is not the one this build knows")]
    Changed {
        /// The store's file.
        path: PathBuf,
        /// The migration's number.
        number: u32,
        /// The name it was applied under.
        name: String,
        /// When it was applied.
        applied_at: Timestamp,
    },
    /// The reserve file could not be made.
    #[error(transparent)]
    Reserve(StoreError),
}

impl OpenError {
    /// The disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => is_full(source),
            Self::Reserve(error) => error.is_full(),
            Self::Foreign { .. } | Self::Newer { .. } | Self::Changed { .. } => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some(
                "run the newer build of insula again, or set INSULA_HOME to another directory to \
                 start a new site; a store is never changed back",
            ),
            Self::Changed { .. } => Some(
                "this store was made by another build than it says, most likely one between \
                 releases; run that build, or set INSULA_HOME to another directory",
            ),
            Self::Foreign { .. } => Some("set INSULA_HOME to a directory of its own"),
            Self::Database { .. } | Self::Reserve(_) if self.is_full() => {
                Some("free some space on the file system of INSULA_HOME")
            }
            Self::Database { .. } | Self::Reserve(_) => None,
        }
    }
}
