//! The store of a site with several managers: PostgreSQL, written to by the one that holds the
//! lease.

mod address;
mod dialect;
mod lease;
mod open;
mod probe;
mod session;
mod tls;

#[cfg(test)]
pub(crate) mod tests;

use crate::error::{CommitError, LeaderPlace, OpenError, Place, StoreError};
use crate::mark::Mark;
use crate::sql::{Database, arrays, history, prune, read, write};
use crate::store::{
    ArrayHistoryQuery, ElementCount, ElementScope, EventScope, HistoryQuery, PruneReport,
    Retention, Room, Store,
};
use domain::{
    ArrayId, ArrayRecord, Owner, SessionId, SessionName, SessionRecord, SiteId, Timestamp,
};
use lease::{Candidate, Taken, since_boot};
use lifecycle::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent};
use open::Leading;
use session::{Failed, Session};
use std::path::PathBuf;
use std::time::Duration;

pub use address::{AddressError, PostgresAddress};
pub use lease::LeaseClock;
pub use probe::{PostgresProbe, probe};
pub use tls::TlsError;
pub(crate) use tls::hint as tls_hint;

/// How long a lease holds that is not renewed: after that another manager may lead.
pub const LEASE: Duration = Duration::from_secs(3);
/// The same for a leader that is still loading the site, during which it renews nothing.
const TAKE_OVER_LEASE: Duration = Duration::from_secs(15);
/// A lease that was renewed less than this ago is not renewed again.
const RENEW_AFTER: Duration = Duration::from_secs(1);

/// Everything as of one moment, which may take its time.
const ONE_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
     SET LOCAL idle_in_transaction_session_timeout = 60000";

/// What opening a store needs to know. Clones are the same candidate for the lease.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Where the database is.
    pub address: PostgresAddress,
    /// The site's id, if this makes the store.
    pub new_site: SiteId,
    /// When the store is made and its migrations applied.
    pub now: Timestamp,
    mark: Option<PathBuf>,
    candidate: Candidate,
}

impl PostgresOptions {
    /// For the process that people know as `place`, and that listens at `listens`.
    pub fn new(
        address: PostgresAddress,
        (new_site, now): (SiteId, Timestamp),
        (place, listens): (String, Option<String>),
    ) -> Result<Self, getrandom::Error> {
        let holder = [getrandom::u64()?, getrandom::u64()?].map(|part| format!("{part:016x}"));
        Ok(Self {
            address,
            new_site,
            now,
            mark: None,
            candidate: Candidate {
                holder: holder.concat(),
                place,
                address: listens,
            },
        })
    }

    /// For a process that is the only one of its kind wherever it is, such as the holder of a lock,
    /// under the name that the one before it had: it need not wait until that one's lease runs out.
    #[must_use]
    pub fn succeeding(mut self, holder: String) -> Self {
        self.candidate.holder = holder;
        self
    }

    /// For a process that keeps in this file how far it has seen the database come: it tells
    /// whether what it loads is an older copy.
    #[must_use]
    pub fn marked(mut self, file: PathBuf) -> Self {
        self.mark = Some(file);
        self
    }
}

/// Whether this manager leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Leads,
    /// Another one does.
    StandsBy(LeaderPlace),
}

/// A site's rows in a database of PostgreSQL.
///
/// Its calls block, and must not be made within an asynchronous runtime: it has one of its own.
#[derive(Debug)]
pub struct PostgresStore {
    options: PostgresOptions,
    place: Place,
    session: Option<Session>,
    /// The epoch under which the lease is held.
    epoch: Option<i64>,
    renewed: Duration,
    clock: LeaseClock,
    mark: Option<Mark>,
    /// What the database holds is not known to be what was loaded from it.
    doubtful: bool,
    /// The control of tests: writes without looking at the lease.
    #[cfg(test)]
    unfenced: bool,
}

impl PostgresStore {
    /// Connects, makes the tables if there are none, and refuses, and leaves as they are, those
    /// of a newer build or another program. It does not lead yet.
    pub fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let place = Place::Postgres(Box::new(options.address.clone()));
        let (session, server) = open::connect(&options, &place)?;
        if !server.is_durable {
            tracing::warn!(
                "the server of {place} has `fsync` off: a crash of its machine loses commits"
            );
        }
        open::migrate(&session, &options, Leading::NotYet)
            .map_err(|source| OpenError::store("migrate", &place, source))?;
        Ok(Self {
            mark: options.mark.clone().map(Mark::of_server),
            options,
            place,
            session: Some(session),
            epoch: None,
            renewed: Duration::ZERO,
            clock: LeaseClock::default(),
            doubtful: false,
            #[cfg(test)]
            unfenced: false,
        })
    }

    /// Takes the lease if nobody else holds it; connects anew if the connection was lost.
    pub fn try_lead(&mut self) -> Result<Standing, StoreError> {
        if self.session.as_ref().is_none_or(Session::is_broken) {
            self.session = None;
            let (session, _) = open::connect(&self.options, &self.place).map_err(reopen)?;
            self.session = Some(session);
        }
        let session = self.session.as_ref().ok_or(StoreError::Disconnected)?;
        let asked = since_boot();
        match lease::take(session, &self.options.candidate, TAKE_OVER_LEASE)? {
            Taken::ByAnother(leader) => {
                if let Some(mark) = &mut self.mark {
                    mark.follow(&read::site(session)?);
                }
                Ok(Standing::StandsBy(leader))
            }
            Taken::Under(epoch) => {
                open::migrate(session, &self.options, Leading::Yes)?;
                self.epoch = Some(epoch);
                self.renewed = asked;
                self.clock.set(asked + TAKE_OVER_LEASE);
                tracing::info!(epoch, "the lease is taken");
                Ok(Standing::Leads)
            }
        }
    }

    /// Until when this process may take itself for the leader.
    pub fn lease_clock(&self) -> LeaseClock {
        self.clock.clone()
    }

    /// Connects and takes the lease anew, under another epoch: what the server still has of ours
    /// is fenced off, and what is loaded next cannot be changed by it any more.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.session = None;
        self.epoch = None;
        match self.try_lead()? {
            Standing::Leads => {
                self.doubtful = false;
                Ok(())
            }
            Standing::StandsBy(leader) => Err(StoreError::NotLeading { leader }),
        }
    }

    fn connected(&self) -> Result<&Session, StoreError> {
        self.session.as_ref().ok_or(StoreError::Disconnected)
    }

    /// Runs `work` in a transaction that only the holder of the lease can commit.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&dyn Database) -> Result<T, StoreError>,
    ) -> Result<T, CommitError> {
        let result = self.write_fenced(work);
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let broken = self.session.as_ref().is_none_or(Session::is_broken);
        if broken || matches!(error, Failed::AtEnd(_)) {
            self.doubtful = true;
        }
        Err(match error {
            Failed::Before(source) => CommitError::Refused { source },
            Failed::AtEnd(source) => CommitError::Unknown { source },
        })
    }

    fn write_fenced<T>(
        &mut self,
        work: impl FnOnce(&dyn Database) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        if self.doubtful {
            return Err(Failed::Before(StoreError::Doubtful));
        }
        let session = self.connected().map_err(Failed::Before)?;
        let asked = since_boot();
        let value = session.transaction("BEGIN", |database| {
            self.fence(database)?;
            work(database)
        })?;
        self.renewed = asked;
        self.clock.set(asked + LEASE);
        Ok(value)
    }

    /// Renews the lease on the condition that it is still held, and keeps its row from others
    /// until the transaction ends.
    fn fence(&self, database: &dyn Database) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.unfenced {
            return Ok(());
        }
        let holder = &self.options.candidate.holder;
        let held = match self.epoch {
            Some(epoch) => lease::renew(database, holder, epoch, LEASE)?,
            None => false,
        };
        if held {
            return Ok(());
        }
        let leader = lease::look(database)?.unwrap_or_default();
        Err(StoreError::NotLeading { leader })
    }
}

fn reopen(source: OpenError) -> StoreError {
    StoreError::Reopen {
        source: Box::new(source),
    }
}

impl Store for PostgresStore {
    fn load(
        &mut self,
        ended_since: Timestamp,
        keys_since: Timestamp,
    ) -> Result<Loaded, StoreError> {
        let broken = self.session.as_ref().is_none_or(Session::is_broken);
        if self.doubtful || broken || self.epoch.is_none() {
            self.settle()?;
        }
        let loaded = self.connected()?.transaction(ONE_MOMENT, |database| {
            read::load(database, ended_since, keys_since)
        });
        let mut loaded: Loaded = loaded.map_err(Failed::into_error)?;
        let mark = self.mark.as_ref();
        loaded.restored = mark.and_then(|mark| mark.restored(&loaded.site));
        Ok(loaded)
    }

    fn commit(&mut self, batch: &[RowChange]) -> Result<u64, CommitError> {
        if batch.is_empty() {
            let source = |source| CommitError::Refused { source };
            return self.last_commit().map_err(source);
        }
        let number = self.write(|database| write::batch(database, batch))?;
        let site = batch.iter().rev().find_map(|change| match change {
            RowChange::PutSite { site } => Some(site),
            _ => None,
        });
        if let (Some(mark), Some(site)) = (&mut self.mark, site) {
            mark.follow(site);
        }
        Ok(number)
    }

    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<SessionRecord>, StoreError> {
        history::page(self.connected()?, query)
    }

    fn session(&mut self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        read::session(self.connected()?, id)
    }

    fn arrays(&mut self, query: &ArrayHistoryQuery) -> Result<Vec<ArrayRecord>, StoreError> {
        arrays::page(self.connected()?, query)
    }

    fn array(&mut self, id: ArrayId) -> Result<Option<ArrayRecord>, StoreError> {
        arrays::one(self.connected()?, id)
    }

    fn elements(
        &mut self,
        array: ArrayId,
        scope: ElementScope,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        arrays::elements(self.connected()?, array, scope, limit)
    }

    fn count_elements(&mut self, array: ArrayId) -> Result<Vec<ElementCount>, StoreError> {
        arrays::counts(self.connected()?, array)
    }

    fn sessions_named(
        &mut self,
        owner: &Owner,
        name: &SessionName,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        history::named(self.connected()?, owner, name, limit)
    }

    fn made_by(
        &mut self,
        user: &str,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        read::made_by(self.connected()?, user, key, since)
    }

    fn events(
        &mut self,
        of: EventScope,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SiteEvent>, StoreError> {
        read::events(self.connected()?, of, after, limit)
    }

    fn first_event_since(&mut self, at: Timestamp) -> Result<Option<u64>, StoreError> {
        read::first_event_since(self.connected()?, at)
    }

    fn prune(&mut self, limits: &Retention, now: Timestamp) -> Result<PruneReport, StoreError> {
        let report = self.write(|database| prune::delete_old(database, limits, now));
        report.map_err(|error| match error {
            CommitError::Refused { source } | CommitError::Unknown { source } => source,
        })
    }

    fn last_commit(&mut self) -> Result<u64, StoreError> {
        read::last_commit(self.connected()?)
    }

    fn room(&mut self) -> Result<Room, StoreError> {
        Ok(Room::Elsewhere)
    }

    fn lease(&self) -> Option<LeaseClock> {
        Some(self.lease_clock())
    }

    fn keep_lease(&mut self) -> Result<(), StoreError> {
        let asked = since_boot();
        if !self.doubtful && asked < self.renewed + RENEW_AFTER {
            return Ok(());
        }
        // A transaction of nothing but the fence.
        self.write(|_| Ok(())).map_err(|error| match error {
            CommitError::Refused { source } | CommitError::Unknown { source } => source,
        })
    }

    fn give_up(&mut self) {
        let holder = &self.options.candidate.holder;
        if let (Some(epoch), Some(session)) = (self.epoch, &self.session)
            && !session.is_broken()
            && let Err(error) = lease::give_up(session, holder, epoch)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease is not given up, it runs out"
            );
        }
        self.epoch = None;
        self.clock.set(Duration::ZERO);
    }
}
