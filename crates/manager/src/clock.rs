//! Where time and chance come in: read here, at the edge, and handed to the pure cores.

use domain::{Monotonic, Now, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// Both clocks. The monotonic one does not count time in which the machine was suspended.
pub fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = match since {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
        }
    };
    let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(monotonic.tv_sec).unwrap_or(0);
    let micros = u64::try_from(monotonic.tv_nsec).unwrap_or(0) / 1_000;
    Now {
        wall: Timestamp(wall),
        monotonic: Monotonic(seconds.saturating_mul(1_000_000).saturating_add(micros)),
    }
}

/// Bits for an id.
pub(crate) fn random() -> u64 {
    getrandom::u64().expect("the kernel gives random bits once it has booted")
}
