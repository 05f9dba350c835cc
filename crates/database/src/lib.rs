//! The store of a site: the only crate with SQL.
//!
//! [`Store`] is the contract: load everything once, then commit batches of row changes, one
//! transaction each. [`SqliteStore`] is the store of a site with one manager, [`PostgresStore`]
//! that of a site with several, of which one leads. Calls block, so the manager's leader keeps the
//! store on a thread of its own. Statements are shared (`sql`); each store says how they are run.
//!
//! What a row holds is written by hand in `rows`, apart from the types of the core and of the
//! wire, so that a change of those cannot change what is on disk unnoticed. The tables are made
//! by the numbered files of `migrations/`.

mod error;
mod line;
mod mark;
mod postgres;
mod rows;
mod sql;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;

pub use error::{CommitError, DatabaseError, LeaderPlace, OpenError, Place, StoreError};
pub use line::{BATCH_LIMIT, Batch, Line, LineError, Outcome};
pub use mark::MARK_FILE;
pub use postgres::{
    AddressError, LEASE, LeaseClock, PostgresAddress, PostgresOptions, PostgresProbe,
    PostgresStore, Standing, TlsError, probe,
};
pub use rows::{ROW_VERSION, RowError};
pub use sqlite::{DEFAULT_RESERVE_BYTES, OpenOptions, RESERVE_FILE, SqliteStore};
pub use store::{
    ArrayHistoryQuery, ElementCount, ElementScope, EventScope, HistoryCursor, HistoryElements,
    HistoryOwner, HistoryQuery, PAGE_LIMIT, PruneReport, Retention, Room, Store,
};
