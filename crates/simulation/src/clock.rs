//! The clocks of one machine: they drift, jump, and stand still while it is suspended.

use domain::{Monotonic, Now, Timestamp};

/// True time of the simulation, in microseconds from its start.
pub(crate) type Micros = u64;

pub(crate) const MILLI: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;
pub(crate) const MINUTE: Micros = 60 * SECOND;
pub(crate) const HOUR: Micros = 60 * MINUTE;

/// What the wall clocks show at the start.
const START: i64 = 1_790_000_000_000_000;

/// Clocks of a machine, or of a process on it.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    /// What the wall clock is ahead of the truth.
    ahead: i64,
    /// Microseconds that the monotonic clock gains in a second of true time.
    drift: i64,
    /// Its reading at `since`.
    reading: u64,
    since: Micros,
    suspended: bool,
}

impl Clocks {
    pub(crate) fn new(ahead: i64, reading: u64, since: Micros) -> Self {
        Self {
            ahead,
            drift: 0,
            reading,
            since,
            suspended: false,
        }
    }

    pub(crate) fn now(&self, truth: Micros) -> Now {
        let wall = START + i64::try_from(truth).expect("a few years") + self.ahead;
        Now {
            wall: Timestamp(wall),
            monotonic: Monotonic(self.monotonic(truth)),
        }
    }

    fn monotonic(&self, truth: Micros) -> u64 {
        if self.suspended {
            return self.reading;
        }
        let passed = i64::try_from(truth - self.since).expect("a few years");
        let gained = i128::from(passed) * i128::from(self.drift) / 1_000_000;
        let gained = i64::try_from(gained).expect("a drift is small");
        self.reading + u64::try_from(passed + gained).expect("clocks do not run backwards")
    }

    /// What the wall clock is ahead of the truth.
    pub(crate) fn ahead(&self) -> i64 {
        self.ahead
    }

    /// The wall clock is set.
    pub(crate) fn jump(&mut self, by: i64) {
        self.ahead += by;
    }

    /// The monotonic clock runs at another rate from now on.
    pub(crate) fn drift(&mut self, parts_per_million: i64, truth: Micros) {
        self.reading = self.monotonic(truth);
        self.since = truth;
        self.drift = parts_per_million;
    }

    pub(crate) fn suspend(&mut self, truth: Micros) {
        self.reading = self.monotonic(truth);
        self.suspended = true;
    }

    pub(crate) fn resume(&mut self, truth: Micros) {
        self.since = truth;
        self.suspended = false;
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended
    }
}
