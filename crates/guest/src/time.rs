//! The two clocks.

use domain::{Monotonic, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Microseconds in a millisecond.
const MICROS_PER_MILLI: u64 = 1_000;

/// The clock for deadlines.
pub(crate) fn monotonic() -> Monotonic {
    Monotonic(u64::try_from(micros(clock_gettime(ClockId::Monotonic))).unwrap_or(0))
}

/// The clock for records.
pub(crate) fn wall() -> Timestamp {
    Timestamp(micros(clock_gettime(ClockId::Realtime)))
}

/// `milliseconds` after `start`; the end of time where that is too far.
pub(crate) fn after(start: Monotonic, milliseconds: u64) -> Monotonic {
    Monotonic(
        start
            .0
            .saturating_add(milliseconds.saturating_mul(MICROS_PER_MILLI)),
    )
}

/// How long to sleep from `now` until `deadline`.
pub(crate) fn until(now: Monotonic, deadline: Monotonic) -> Timespec {
    let micros = deadline.micros_since(now);
    Timespec {
        tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(micros % 1_000_000 * 1_000).expect("less than a second"),
    }
}

fn micros(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(time.tv_nsec / 1_000)
}
