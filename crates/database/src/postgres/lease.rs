//! The lease: which of several managers leads.
//!
//! It is one row, held until a time of the database's clock. Who takes it raises its epoch, and
//! every write of a leader changes this row on the condition that holder and epoch are still its
//! own, in the same transaction: a write of a leader that was overtaken finds that they are not. A
//! leader takes the lease anew, under a new epoch, whenever it connects anew; a transaction of its
//! own that the server still has from an earlier connection is fenced in the same way.

use crate::error::{LeaderPlace, StoreError};
use crate::sql::read::Rows;
use crate::sql::{Database, values};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The database's clock, in microseconds.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

const TAKE: &str = concat!(
    "UPDATE lease SET holder = ?1, place = ?2, address = ?3, epoch = epoch + 1, taken_at = ",
    now!(),
    ", until_at = ",
    now!(),
    " + ?4 WHERE holder = ?1 OR until_at <= ",
    now!(),
    " RETURNING epoch"
);

const RENEW: &str = concat!(
    "UPDATE lease SET until_at = ",
    now!(),
    " + ?3 WHERE holder = ?1 AND epoch = ?2"
);

const GIVE_UP: &str = "UPDATE lease SET holder = '', until_at = 0 WHERE holder = ?1 AND epoch = ?2";

const LOOK: &str = concat!(
    "SELECT place, address, epoch, until_at - ",
    now!(),
    " FROM lease WHERE holder <> ''"
);

/// Until when this process may tell what it knows as the truth, by its own clock.
#[derive(Clone, Debug, Default)]
pub struct LeaseClock(Arc<AtomicU64>);

impl LeaseClock {
    /// Whether the lease has not run out.
    pub fn holds(&self) -> bool {
        since_boot() < Duration::from_micros(self.0.load(Ordering::Acquire))
    }

    pub(super) fn set(&self, until: Duration) {
        let until = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        self.0.store(until, Ordering::Release);
    }
}

/// The time since the machine was started, with the time for which it slept.
pub(super) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Who asks for the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) holder: String,
    pub(super) place: String,
    pub(super) address: Option<String>,
}

/// A lease was taken under this epoch, or another holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Under(i64),
    ByAnother(LeaderPlace),
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// Takes the lease if it is free, has run out, or is the candidate's already.
pub(super) fn take(
    database: &dyn Database,
    candidate: &Candidate,
    length: Duration,
) -> Result<Taken, StoreError> {
    let rows = Rows {
        database,
        table: "lease",
        act: "take the lease",
    };
    let Candidate {
        holder,
        place,
        address,
    } = candidate;
    let length = micros(length);
    let values = values![holder, place, address, length];
    let epochs: Vec<i64> = rows.all(TAKE, values, |row| row.get(0))?;
    if let Some(epoch) = epochs.first() {
        return Ok(Taken::Under(*epoch));
    }
    Ok(Taken::ByAnother(look(database)?.unwrap_or_default()))
}

/// Renews the lease that is held under `epoch`; false if it is held no more.
pub(super) fn renew(
    database: &dyn Database,
    holder: &str,
    epoch: i64,
    length: Duration,
) -> Result<bool, StoreError> {
    let length = micros(length);
    let values = values![holder, epoch, length];
    Ok(database.count("renew the lease", RENEW, values)? == 1)
}

/// Lets another have the lease at once.
pub(super) fn give_up(database: &dyn Database, holder: &str, epoch: i64) -> Result<(), StoreError> {
    database
        .count("give up the lease", GIVE_UP, values![holder, epoch])
        .map(|_| ())
}

/// Who holds the lease, or held it last.
pub(super) fn look(database: &dyn Database) -> Result<Option<LeaderPlace>, StoreError> {
    let rows = Rows {
        database,
        table: "lease",
        act: "look who leads",
    };
    let found = rows.all(LOOK, values![], |row| {
        Ok(LeaderPlace {
            place: row.get(0)?,
            address: row.get(1)?,
            epoch: u64::try_from(row.get::<i64>(2)?).unwrap_or(0),
            left: Duration::from_micros(u64::try_from(row.get::<i64>(3)?).unwrap_or(0)),
        })
    })?;
    Ok(found.into_iter().next())
}
