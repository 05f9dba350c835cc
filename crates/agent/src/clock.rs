//! The one place where the agent reads clocks.

use domain::{Monotonic, Now, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Both clocks.
pub(crate) fn now() -> Now {
    Now {
        wall: wall(),
        monotonic: monotonic(),
    }
}

/// Wall-clock time, for records.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn monotonic() -> Monotonic {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec / 1_000).unwrap_or(0);
    Monotonic(seconds.saturating_mul(1_000_000).saturating_add(micros))
}
