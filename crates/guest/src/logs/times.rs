//! The index from time to offset beside a stream's segments, for `logs --since`.

use crate::time::{monotonic, wall};
use domain::Monotonic;
use guest_api::Stream;
use guest_api::files::{
    FILE_MODE, TIME_AGE_FRACTION, TIME_ENTRY_BYTES, TIME_PAUSE_MICROS, times_name,
};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::{retry_on_intr, write},
};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// See the module. An entry that cannot be written is left out: `--since` then starts earlier.
#[derive(Debug)]
pub(crate) struct TimeIndex {
    stream: Stream,
    directory: Rc<OwnedFd>,
    file: Option<OwnedFd>,
    began: Monotonic,
    due: Monotonic,
}

impl TimeIndex {
    /// An index without entries.
    pub(crate) fn new(stream: Stream, directory: Rc<OwnedFd>) -> Self {
        let began = monotonic();
        Self {
            stream,
            directory,
            file: None,
            began,
            due: began,
        }
    }

    /// Bytes from `offset` on are written now.
    pub(crate) fn note(&mut self, offset: u64) {
        let now = monotonic();
        if now < self.due {
            return;
        }
        self.due = next_due(self.began, now);
        let mut entry = [0_u8; TIME_ENTRY_BYTES];
        let (time, place) = entry.split_at_mut(8);
        time.copy_from_slice(&wall().0.to_le_bytes());
        place.copy_from_slice(&offset.to_le_bytes());
        if self.file.is_none() {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
            let mode = Mode::from_bits_retain(FILE_MODE);
            let name = times_name(self.stream);
            self.file = openat(&*self.directory, name, flags | OFlags::NOFOLLOW, mode).ok();
        }
        if let Some(file) = &self.file {
            // Sixteen bytes in one call: a full disk takes all or, at worst, a part that readers
            // cut off.
            let _ = retry_on_intr(|| write(file, &entry));
        }
    }
}

fn next_due(began: Monotonic, now: Monotonic) -> Monotonic {
    let age = now.micros_since(began);
    let pause = TIME_PAUSE_MICROS
        .unsigned_abs()
        .max(age / TIME_AGE_FRACTION.unsigned_abs());
    Monotonic(now.0.saturating_add(pause))
}

#[cfg(test)]
mod tests {
    use super::next_due;
    use domain::Monotonic;

    #[test]
    fn a_month_of_output_has_a_bounded_index() {
        let month = Monotonic(30 * 86_400 * 1_000_000);
        let (mut now, mut entries) = (Monotonic(0), 0);
        while now < month {
            now = next_due(Monotonic(0), now);
            entries += 1;
        }
        assert!((16_384..120_000).contains(&entries), "{entries}");
    }
}
