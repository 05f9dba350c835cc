//! What can go wrong with a store.

use crate::postgres::{self, PostgresAddress, TlsError};
use crate::rows::RowError;
use domain::Timestamp;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL.
    Postgres(Box<PostgresAddress>),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(out),
            Self::Postgres(address) => address.fmt(out),
        }
    }
}

/// What a database said.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite did.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// PostgreSQL, or the way to it, did.
    #[error(transparent)]
    Postgres(tokio_postgres::Error),
    /// PostgreSQL does not answer in time.
    #[error("the server does not answer in time")]
    Late,
    /// There is nobody to say who the server is.
    #[error(transparent)]
    Tls(Box<TlsError>),
    /// What moves the bytes of a connection cannot be made.
    #[error("cannot start what drives a connection")]
    Runtime(#[source] io::Error),
}

impl DatabaseError {
    fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => is_full(error),
            Self::Postgres(error) => error.code() == Some(&SqlState::DISK_FULL),
            Self::Late | Self::Tls(_) | Self::Runtime(_) => false,
        }
    }
}

/// A manager that leads, as others on the same store see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderPlace {
    /// What people know it as: its machine and home.
    pub place: String,
    /// Where it listens, if it does.
    pub address: Option<String>,
    /// How often the lease was taken.
    pub epoch: u64,
    /// How long its lease still holds; none if it has run out.
    pub left: Duration,
}

impl fmt::Display for LeaderPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() {
            "another manager"
        } else {
            &self.place
        };
        out.write_str(place)?;
        match &self.address {
            Some(address) => write!(out, " ({address})"),
            None => Ok(()),
        }
    }
}

/// A store could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An act on the database failed.
    #[error("cannot {act}")]
    Database {
        /// What was tried, as an infinitive.
        act: &'static str,
        /// What the database said.
        source: DatabaseError,
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
    /// Another manager leads: nothing of this one is written any more.
    #[error("{leader} leads this site")]
    NotLeading {
        /// Which.
        leader: LeaderPlace,
    },
    /// There is no connection to the store.
    #[error("the connection to the store is lost")]
    Disconnected,
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
            Self::Database { source, .. } => source.is_full(),
            Self::Reserve { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Row { .. }
            | Self::Change { .. }
            | Self::NoSite
            | Self::Doubtful
            | Self::NotLeading { .. }
            | Self::Disconnected
            | Self::Reopen { .. } => false,
        }
    }

    /// Another manager leads: this one ends.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::NotLeading { .. })
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
    /// Another manager leads: this one ends.
    pub fn is_overtaken(&self) -> bool {
        match self {
            Self::Refused { source } | Self::Unknown { source } => source.is_overtaken(),
        }
    }

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
    #[error("cannot {act} {place}")]
    Database {
        /// What was tried, as an infinitive.
        act: &'static str,
        /// Where the store is.
        place: Place,
        /// What the database said.
        source: DatabaseError,
    },
    /// The store could not be read or changed.
    #[error("cannot {act} {place}")]
    Store {
        /// What was tried, as an infinitive.
        act: &'static str,
        /// Where the store is.
        place: Place,
        /// Why.
        source: Box<StoreError>,
    },
    /// It is a database of something else.
    #[error("{place} is a database, but not a store of Insula")]
    Foreign {
        /// Where it is.
        place: Place,
    },
    /// The server or its database lacks what is needed.
    #[error("{place} is {found}, and {needed} is needed")]
    Unfit {
        /// Where it is.
        place: Place,
        /// What it is.
        found: String,
        /// What would do.
        needed: String,
    },
    /// A newer build has changed the store's tables.
    #[error(
        "{place} was written by a newer build: it has migration {found}, this build knows {known}"
    )]
    Newer {
        /// Where the store is.
        place: Place,
        /// The newest migration in the store.
        found: u32,
        /// The newest migration of this build.
        known: u32,
    },
    /// A migration that was applied is not the one that this build knows by its number.
    #[error("migration {number} (`{name}`) of {place} is not the one this build knows")]
    Changed {
        /// Where the store is.
        place: Place,
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
    pub(crate) fn store(act: &'static str, place: &Place, source: StoreError) -> Self {
        let (place, source) = (place.clone(), Box::new(source));
        Self::Store { act, place, source }
    }

    /// The disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => source.is_full(),
            Self::Store { source, .. } => source.is_full(),
            Self::Reserve(error) => error.is_full(),
            Self::Foreign { .. }
            | Self::Unfit { .. }
            | Self::Newer { .. }
            | Self::Changed { .. } => false,
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
            Self::Foreign {
                place: Place::File(_),
            } => Some("set INSULA_HOME to a directory of its own"),
            Self::Foreign {
                place: Place::Postgres(_),
            } => Some("give the site a database of its own, and name it in `site.store`"),
            Self::Unfit { .. } => Some("name another database in `site.store`"),
            Self::Database { .. } | Self::Store { .. } | Self::Reserve(_) if self.is_full() => {
                Some("free some space on the file system of the store")
            }
            Self::Database {
                source: DatabaseError::Tls(_),
                ..
            } => Some("name a file of certificates in PEM with `site.store-ca-file`, or system"),
            Self::Database {
                source: DatabaseError::Postgres(error),
                ..
            } if postgres::tls_hint(error).is_some() => postgres::tls_hint(error),
            Self::Database {
                place: Place::Postgres(_),
                ..
            } => Some(
                "start the server, and let the user in (pg_hba.conf, `site.store-password-file`); \
                 psql with the same address tells whether it can be reached",
            ),
            Self::Store {
                place: Place::Postgres(_),
                ..
            } => Some("the user must be allowed to make tables in the database"),
            Self::Database { .. } | Self::Store { .. } | Self::Reserve(_) => None,
        }
    }
}
