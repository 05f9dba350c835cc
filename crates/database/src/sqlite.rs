//! The store of a site with one manager: SQLite, with a write-ahead log, synced at each commit.

mod commit;
mod connection;
mod migrate;
mod open;
mod reserve;

#[cfg(test)]
pub(crate) mod tests;

use crate::error::{CommitError, OpenError, StoreError};
use crate::mark::Mark;
use crate::sql::{arrays, history, prune, read};
use crate::store::{
    ArrayHistoryQuery, ElementCount, ElementScope, EventScope, HistoryQuery, PruneReport,
    Retention, Room, Store,
};
use connection::sqlite;
use domain::{
    ArrayId, ArrayRecord, Owner, SessionId, SessionName, SessionRecord, SiteId, Timestamp,
};
use lifecycle::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent};
use process::crash_point;
use reserve::Reserve;
use rusqlite::{Connection, TransactionBehavior};
use std::path::{Path, PathBuf};

pub use reserve::{DEFAULT_RESERVE_BYTES, RESERVE_FILE};

/// What opening a store needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// The site's id, if this makes the store.
    pub new_site: SiteId,
    /// Size of the reserve file beside the store; [`DEFAULT_RESERVE_BYTES`] is usual. Zero: none.
    pub reserve_bytes: u64,
    /// When the store is made and its migrations applied.
    pub now: Timestamp,
}

/// A site's rows in one SQLite file.
///
/// Two of them on one file are kept from harm by SQLite's own locks, but the second would decide
/// from a stale memory: that only one daemon serves a site is for the daemon's lock to see to.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    reserve: Reserve,
    mark: Mark,
    options: OpenOptions,
    /// The result of the last commit is unknown, and nothing has been loaded since.
    doubtful: bool,
}

impl SqliteStore {
    /// Opens the store at `path`, makes it if it is missing, and applies what migrations it has
    /// not seen. Refuses, and leaves as it is, what a newer build or another program has made.
    ///
    /// Opening needs some space of its own, for the log and its index; on a full disk the reserve
    /// gives it, so that a daemon that died there can come back and record ends.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self, OpenError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut reserve = Reserve::find(directory, options.reserve_bytes);
        let connection = match open::open(path, &options) {
            Err(error) if error.is_full() && reserve.spend() => {
                tracing::warn!("the disk of the store is full: its reserve is used to open it");
                open::open(path, &options)?
            }
            result => result?,
        };
        // That there is no reserve is told by `room`, not here: refusing to open would strand
        // what runs.
        if let Err(error) = reserve.refill() {
            if !error.is_full() {
                return Err(OpenError::Reserve(error));
            }
            tracing::warn!("the reserve of the store could not be made: its disk is full");
            open::set_log_pages(&connection, open::LOG_PAGES_FULL_DISK);
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
            reserve,
            mark: Mark::of_file(path),
            options,
            doubtful: false,
        })
    }

    /// Opens the file anew after a commit with an unknown result. Closing the only connection
    /// moves what SQLite knows to be committed out of the log and removes the log, so that a
    /// commit which it reported as failed cannot appear later.
    fn settle(&mut self) -> Result<(), StoreError> {
        let placeholder = Connection::open_in_memory()
            .map_err(sqlite("make room for the store's new connection"))?;
        drop(std::mem::replace(&mut self.connection, placeholder));
        self.connection =
            open::open(&self.path, &self.options).map_err(|source| StoreError::Reopen {
                source: Box::new(source),
            })?;
        self.doubtful = false;
        Ok(())
    }
}

impl Store for SqliteStore {
    fn load(
        &mut self,
        ended_since: Timestamp,
        keys_since: Timestamp,
    ) -> Result<Loaded, StoreError> {
        if self.doubtful {
            self.settle()?;
        }
        let act = "load the site";
        let moment = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(sqlite(act))?;
        let mut loaded = read::load(&*moment, ended_since, keys_since)?;
        moment.finish().map_err(sqlite(act))?;
        loaded.restored = self.mark.restored(&loaded.site);
        Ok(loaded)
    }

    fn commit(&mut self, batch: &[RowChange]) -> Result<u64, CommitError> {
        if self.doubtful {
            return Err(CommitError::Refused {
                source: StoreError::Doubtful,
            });
        }
        let result = commit::commit(&mut self.connection, &mut self.reserve, batch);
        self.doubtful = matches!(result, Err(CommitError::Unknown { .. }));
        let site = batch.iter().rev().find_map(|change| match change {
            RowChange::PutSite { site } => Some(site),
            _ => None,
        });
        if let (Ok(_), Some(site)) = (&result, site) {
            crash_point("commit.unmarked");
            self.mark.follow(site);
        }
        result
    }

    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<SessionRecord>, StoreError> {
        history::page(&self.connection, query)
    }

    fn session(&mut self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        read::session(&self.connection, id)
    }

    fn arrays(&mut self, query: &ArrayHistoryQuery) -> Result<Vec<ArrayRecord>, StoreError> {
        arrays::page(&self.connection, query)
    }

    fn array(&mut self, id: ArrayId) -> Result<Option<ArrayRecord>, StoreError> {
        arrays::one(&self.connection, id)
    }

    fn elements(
        &mut self,
        array: ArrayId,
        scope: ElementScope,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        arrays::elements(&self.connection, array, scope, limit)
    }

    fn count_elements(&mut self, array: ArrayId) -> Result<Vec<ElementCount>, StoreError> {
        arrays::counts(&self.connection, array)
    }

    fn sessions_named(
        &mut self,
        owner: &Owner,
        name: &SessionName,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        history::named(&self.connection, owner, name, limit)
    }

    fn made_by(
        &mut self,
        user: &str,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        read::made_by(&self.connection, user, key, since)
    }

    fn events(
        &mut self,
        of: EventScope,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SiteEvent>, StoreError> {
        read::events(&self.connection, of, after, limit)
    }

    fn first_event_since(&mut self, at: Timestamp) -> Result<Option<u64>, StoreError> {
        read::first_event_since(&self.connection, at)
    }

    fn prune(&mut self, limits: &Retention, now: Timestamp) -> Result<PruneReport, StoreError> {
        if self.doubtful {
            return Err(StoreError::Doubtful);
        }
        let reserve = &mut self.reserve;
        let report = commit::with_reserve(&mut self.connection, reserve, |database| {
            let report = prune::delete_old(database, limits, now)?;
            crash_point("prune.rows-chosen");
            Ok(report)
        });
        crash_point("prune.rows-deleted");
        // A prune that is not on the disk is done again by the next call, so that its result is
        // unknown matters to nobody.
        report.map_err(|error| match error {
            CommitError::Refused { source } | CommitError::Unknown { source } => source,
        })
    }

    fn last_commit(&mut self) -> Result<u64, StoreError> {
        read::last_commit(&self.connection)
    }

    fn room(&mut self) -> Result<Room, StoreError> {
        let was_there = self.reserve.is_there();
        let room = self.reserve.room()?;
        if !was_there && self.reserve.is_there() {
            tracing::info!("the reserve of the store is there again");
            open::set_log_pages(&self.connection, open::LOG_PAGES);
        }
        Ok(room)
    }
}
