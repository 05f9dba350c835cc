//! How starts follow each other, and whether one is thought of before it comes.

use std::fmt;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Starts that are further apart than this come one by one.
const CALM: Duration = Duration::from_millis(50);
/// After one of these, what is made ahead has time: a short command has ended by then.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// For so long after starts kept every CPU busy it is taken that they will again.
const CROWDED: Duration = Duration::from_millis(200);
/// Fewer starts at once keep no machine busy: one alone waits for the disk, too.
const FEW: usize = 2;

/// Whether containers that are likely to be asked for next are made before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MakeAhead {
    /// Unless starts keep every CPU busy: one that is made ahead takes more from them then than it
    /// saves.
    #[default]
    Auto,
    /// Also then.
    Always,
    /// Each is made when it is asked for.
    Never,
}

impl MakeAhead {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];
}

impl fmt::Display for MakeAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// How starts follow each other.
#[derive(Debug)]
pub(super) struct Pace {
    /// As many at once keep every CPU busy.
    many: usize,
    last: Option<Instant>,
    /// The last one came long after the one before.
    calm: bool,
    /// When many were last under way at once.
    crowded: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::of(available_parallelism().map_or(1, NonZero::get))
    }
}

impl Pace {
    fn of(cpus: usize) -> Self {
        Self {
            many: cpus.max(FEW),
            last: None,
            calm: true,
            crowded: None,
        }
    }

    /// One starts; with it so many are `under_way`.
    pub(super) fn starts(&mut self, now: Instant, under_way: usize) {
        self.calm = self.last.is_none_or(|last| now.duration_since(last) > CALM);
        self.last = Some(now);
        if under_way >= self.many {
            self.crowded = Some(now);
        }
    }

    /// How long to wait before one is made ahead, if one is to be. Where starts are rare, what was
    /// just started comes first. Where they keep every CPU busy, it is waited until there is a gap:
    /// with the next start what was expected is outdated.
    pub(super) fn pause(&self, now: Instant, ahead: MakeAhead) -> Option<Duration> {
        let crowded = self
            .crowded
            .is_some_and(|at| now.duration_since(at) < CROWDED);
        match ahead {
            MakeAhead::Never => None,
            MakeAhead::Auto if self.calm || crowded => Some(PAUSE),
            MakeAhead::Always if self.calm => Some(PAUSE),
            MakeAhead::Auto | MakeAhead::Always => Some(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MakeAhead, PAUSE, Pace};
    use std::time::{Duration, Instant};

    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
    const IN_A_GAP: Option<Duration> = Some(PAUSE);

    /// The waits of `Auto`, `Always` and `Never` once such starts came, so many milliseconds after
    /// the beginning, each with as many under way.
    fn waits(cpus: usize, starts: &[(u64, usize)], at_ms: u64) -> [Option<Duration>; 3] {
        let began = Instant::now();
        let after = |ms: u64| began + Duration::from_millis(ms);
        let mut pace = Pace::of(cpus);
        for (ms, under_way) in starts {
            pace.starts(after(*ms), *under_way);
        }
        MakeAhead::ALL.map(|ahead| pace.pause(after(at_ms), ahead))
    }

    #[test]
    fn rare_starts_come_before_what_is_made_ahead() {
        for starts in [
            &[][..],
            &[(0, 1)],
            &[(0, 1), (51, 1)],
            &[(0, 1), (1, 1), (60, 1)],
        ] {
            assert_eq!(waits(2, starts, 61), [IN_A_GAP, IN_A_GAP, None]);
        }
    }

    #[test]
    fn the_next_of_starts_one_after_the_other_is_made_at_once() {
        for starts in [&[(0, 1), (50, 1)][..], &[(0, 1), (60, 1), (65, 1)]] {
            assert_eq!(waits(2, starts, 66), [AT_ONCE, AT_ONCE, None]);
        }
        // One CPU more than there are starts.
        assert_eq!(waits(3, &[(0, 1), (5, 2)], 6), [AT_ONCE, AT_ONCE, None]);
    }

    #[test]
    fn nothing_is_taken_from_starts_that_keep_every_cpu_busy() {
        for (cpus, under_way) in [(1, 2), (2, 2), (2, 3), (8, 8)] {
            let starts = [(0, 1), (5, under_way), (10, 1)];
            assert_eq!(
                waits(cpus, &starts, 11),
                [IN_A_GAP, AT_ONCE, None],
                "{cpus}"
            );
            // That is forgotten, where they go on one after the other.
            let starts = [
                (0, 1),
                (5, under_way),
                (45, 1),
                (90, 1),
                (135, 1),
                (180, 1),
                (205, 1),
            ];
            assert_eq!(
                waits(cpus, &starts, 205),
                [AT_ONCE, AT_ONCE, None],
                "{cpus}"
            );
        }
    }
}
