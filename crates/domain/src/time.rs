//! Instants as plain numbers: pure code is told the time, it never asks.

use serde::{Deserialize, Serialize};

/// Wall-clock time, in microseconds since 1970-01-01T00:00:00Z.
///
/// For people and records only. It may jump; deadlines use [`Monotonic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Microseconds from `earlier` to `self`; zero if the clock went backwards between them.
    pub fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// Microseconds of `CLOCK_MONOTONIC` of one process: it does not jump, and it does not count the
/// time in which the machine was suspended. Never stored: a new process starts its deadlines anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// Microseconds from `earlier` to `self`, zero if `earlier` is later.
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read at one moment; comes in with every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Wall-clock time, for records.
    pub wall: Timestamp,
    /// Monotonic time, for deadlines.
    pub monotonic: Monotonic,
}
