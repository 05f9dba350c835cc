//! How starts follow each other, and whether one is thought of before it comes.

use std::fmt;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Starts that are further apart than this come one by one.
const CALM: Duration = Duration::from_millis(50);
/// After one of these, what is made ahead has time: a short command has ended by then.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// If so many of the last 32 starts were under way while as many were as there are CPUs, it
/// is taken that starts keep every CPU busy. Two that now and then begin together do not.
const CROWDED: u32 = 6;
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
    /// A bit for each of the last starts that did not come one by one, the last one lowest: that many
    /// were under way with it.
    crowded: u32,
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
            crowded: 0,
        }
    }

    /// One starts; with it so many are `under_way`.
    pub(super) fn starts(&mut self, now: Instant, under_way: usize) {
        self.calm = self.last.is_none_or(|last| now.duration_since(last) > CALM);
        self.last = Some(now);
        let before = if self.calm { 0 } else { self.crowded };
        // It and the one before it.
        let many = if under_way >= self.many { 0b11 } else { 0 };
        self.crowded = before << 1 | many;
    }

    /// How long to wait before one is made ahead, if one is to be. Where starts are rare, what was
    /// just started comes first. Where they keep every CPU busy, it is waited until there is a gap:
    /// with the next start what was expected is outdated.
    pub(super) fn pause(&self, ahead: MakeAhead) -> Option<Duration> {
        let crowded = self.crowded.count_ones() >= CROWDED;
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
    fn waits(cpus: usize, starts: &[(u64, usize)]) -> [Option<Duration>; 3] {
        let began = Instant::now();
        let mut pace = Pace::of(cpus);
        for (ms, under_way) in starts {
            pace.starts(began + Duration::from_millis(*ms), *under_way);
        }
        MakeAhead::ALL.map(|ahead| pace.pause(ahead))
    }

    /// One start every 5 ms, with these under way.
    fn every_5_ms(under_way: &[usize]) -> Vec<(u64, usize)> {
        let times = (0..).map(|number| number * 5);
        times.zip(under_way.iter().copied()).collect()
    }

    #[test]
    fn rare_starts_come_before_what_is_made_ahead() {
        for starts in [
            &[][..],
            &[(0, 1)],
            &[(0, 1), (51, 1)],
            &[(0, 1), (1, 1), (60, 1)],
        ] {
            assert_eq!(waits(2, starts), [IN_A_GAP, IN_A_GAP, None]);
        }
    }

    #[test]
    fn the_next_of_starts_one_after_the_other_is_made_at_once() {
        for starts in [&[(0, 1), (50, 1)][..], &[(0, 1), (60, 1), (65, 1)]] {
            assert_eq!(waits(2, starts), [AT_ONCE, AT_ONCE, None]);
        }
        // One CPU more than there are starts.
        let starts = every_5_ms(&[2; 40]);
        assert_eq!(waits(3, &starts), [AT_ONCE, AT_ONCE, None]);
        // Two that follow their own pace begin together now and then.
        let mut starts = [1; 15].to_vec();
        starts.push(2);
        let starts = every_5_ms(&starts.repeat(10));
        assert_eq!(waits(2, &starts), [AT_ONCE, AT_ONCE, None]);
    }

    #[test]
    fn nothing_is_taken_from_starts_that_keep_every_cpu_busy() {
        for (cpus, under_way) in [(1, 2), (2, 2), (2, 3), (8, 8)] {
            let mut starts = every_5_ms(&[1, under_way, 1, 1].repeat(10));
            let all = waits(cpus, &starts);
            assert_eq!(all, [IN_A_GAP, AT_ONCE, None], "{cpus}");
            // That is forgotten, where they go on one after the other,
            let quiet = starts.len();
            starts.extend((0..32).map(|number| (200 + number * 5, 1)));
            let all = waits(cpus, &starts);
            assert_eq!(all, [AT_ONCE, AT_ONCE, None], "{cpus}");
            // and after a pause.
            starts.truncate(quiet);
            starts.extend([(1_000, 1), (1_005, 1)]);
            let all = waits(cpus, &starts);
            assert_eq!(all, [AT_ONCE, AT_ONCE, None], "{cpus}");
        }
    }
}
