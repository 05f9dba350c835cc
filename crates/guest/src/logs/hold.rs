//! How long a ring waits for a lossless follower that is not there.

use crate::time::after;
use domain::Monotonic;

/// ```text
///  Awaited(until, from 0) --a follower comes--> Followed(from) --the last leaves--> Awaited(until, from)
///         \---until passes---> Over --a follower comes--/^
/// ```
#[derive(Debug)]
pub(crate) struct Hold {
    patience_ms: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody is there, and somebody may come.
    Awaited { until: Monotonic, from: u64 },
    /// At least one is there.
    Followed { from: u64 },
    /// Nobody is there, and nobody is waited for.
    Over,
}

impl Hold {
    /// Waits `patience_ms` for a first follower, from `now`.
    pub(crate) fn new(now: Monotonic, patience_ms: u64) -> Self {
        Self {
            patience_ms,
            state: State::Awaited {
                until: after(now, patience_ms),
                from: 0,
            },
        }
    }

    /// The first offset that must be kept, given the lowest that a lossless follower still needs;
    /// `None` if nothing must.
    pub(crate) fn held_from(&mut self, now: Monotonic, lowest: Option<u64>) -> Option<u64> {
        self.state = match (lowest, &self.state) {
            (Some(from), _) => State::Followed { from },
            (None, State::Followed { from }) => State::Awaited {
                until: after(now, self.patience_ms),
                from: *from,
            },
            (None, State::Awaited { until, from }) if now < *until => State::Awaited {
                until: *until,
                from: *from,
            },
            (None, State::Awaited { .. } | State::Over) => State::Over,
        };
        if self.patience_ms == 0 && lowest.is_none() {
            self.state = State::Over;
        }
        match self.state {
            State::Awaited { from, .. } | State::Followed { from } => Some(from),
            State::Over => None,
        }
    }

    /// When patience runs out.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        match self.state {
            State::Awaited { until, .. } => Some(until),
            State::Followed { .. } | State::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Hold;
    use crate::time::after;
    use domain::Monotonic;

    const START: Monotonic = Monotonic(5);

    #[test]
    fn a_first_follower_is_awaited_and_then_not() {
        let mut hold = Hold::new(START, 100);
        assert_eq!(hold.held_from(START, None), Some(0));
        assert_eq!(hold.next(), Some(after(START, 100)));
        assert_eq!(hold.held_from(after(START, 100), None), None);
        assert_eq!(hold.held_from(after(START, 101), None), None);
        assert_eq!(hold.next(), None);
    }

    #[test]
    fn a_follower_that_left_is_awaited_at_its_place() {
        let mut hold = Hold::new(START, 100);
        assert_eq!(hold.held_from(after(START, 500), Some(70)), Some(70));
        assert_eq!(hold.held_from(after(START, 600), None), Some(70));
        assert_eq!(hold.held_from(after(START, 699), None), Some(70));
        assert_eq!(hold.held_from(after(START, 699), Some(90)), Some(90));
        assert_eq!(hold.held_from(after(START, 800), None), Some(90));
        assert_eq!(hold.held_from(after(START, 900), None), None);
        assert_eq!(hold.held_from(after(START, 901), Some(95)), Some(95));
    }

    #[test]
    fn without_patience_nobody_is_waited_for() {
        let mut hold = Hold::new(START, 0);
        assert_eq!(hold.held_from(START, None), None);
        assert_eq!(hold.held_from(START, Some(3)), Some(3));
        assert_eq!(hold.held_from(START, None), None);
    }
}
