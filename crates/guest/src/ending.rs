//! When to send which signal to end the command: orders to stop, and the time limit.

use crate::time::after;
use domain::{ExitCause, Monotonic};

/// The first signal of the time limit.
const TIME_LIMIT_SIGNAL: i32 = libc::SIGTERM;

/// ```text
///  (no order) --stop--> first signal, grace runs --grace over--> SIGKILL sent
///      \-----time limit-----/^      \--stop: grace may only shrink--/
/// ```
#[derive(Debug)]
pub(crate) struct Ending {
    limit: Option<TimeLimit>,
    order: Option<Order>,
    /// Since when the command stands still: its time does not run.
    paused_at: Option<Monotonic>,
}

#[derive(Debug)]
struct TimeLimit {
    at: Monotonic,
    grace_ms: u64,
}

#[derive(Debug)]
struct Order {
    cause: ExitCause,
    kill_at: Monotonic,
    killed: bool,
}

impl Ending {
    /// For a command that started at `started`.
    pub(crate) fn new(started: Monotonic, limit_ms: Option<u64>, grace_ms: u64) -> Self {
        let limit = limit_ms.map(|limit| TimeLimit {
            at: after(started, limit),
            grace_ms,
        });
        Self {
            limit,
            order: None,
            paused_at: None,
        }
    }

    /// The command stands still from `now` on.
    pub(crate) fn pause(&mut self, now: Monotonic) {
        self.paused_at.get_or_insert(now);
    }

    /// It goes on: the time it stood still is not its running time.
    pub(crate) fn resume(&mut self, now: Monotonic) {
        let Some(paused_at) = self.paused_at.take() else {
            return;
        };
        if let Some(limit) = &mut self.limit {
            let stood = now.micros_since(paused_at);
            limit.at = Monotonic(limit.at.0.saturating_add(stood));
        }
    }

    /// It stands still.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// The time limit, while it runs.
    fn running_limit(&self) -> Option<&TimeLimit> {
        self.limit.as_ref().filter(|_| !self.is_paused())
    }

    /// An order to stop. Returns the signal to send to every process, if it is the first order.
    pub(crate) fn stop(&mut self, now: Monotonic, signal: i32, grace_ms: u64) -> Option<i32> {
        let kill_at = after(now, grace_ms);
        match &mut self.order {
            Some(order) => {
                order.kill_at = order.kill_at.min(kill_at);
                None
            }
            None => {
                self.order = Some(Order {
                    cause: ExitCause::Stopped,
                    kill_at,
                    killed: false,
                });
                Some(signal)
            }
        }
    }

    /// The signal that has become due, if any, to be sent to every process.
    pub(crate) fn due(&mut self, now: Monotonic) -> Option<i32> {
        if let Some(order) = &mut self.order {
            if order.killed || now < order.kill_at {
                return None;
            }
            order.killed = true;
            return Some(libc::SIGKILL);
        }
        let limit = self.running_limit().filter(|limit| now >= limit.at)?;
        let kill_at = after(now, limit.grace_ms);
        self.order = Some(Order {
            cause: ExitCause::TimeLimit,
            kill_at,
            killed: false,
        });
        Some(TIME_LIMIT_SIGNAL)
    }

    /// When [`Self::due`] should be asked again.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        match &self.order {
            Some(order) if order.killed => None,
            Some(order) => Some(order.kill_at),
            None => self.running_limit().map(|limit| limit.at),
        }
    }

    /// It was asked to end, or its time is over.
    pub(crate) fn is_stopping(&self) -> bool {
        self.order.is_some()
    }

    /// What makes it end, if it ends now.
    pub(crate) fn cause(&self) -> ExitCause {
        self.order
            .as_ref()
            .map_or(ExitCause::Own, |order| order.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::Ending;
    use domain::{ExitCause, Monotonic};

    const START: Monotonic = Monotonic(1_000_000);

    fn at(milliseconds: u64) -> Monotonic {
        crate::time::after(START, milliseconds)
    }

    #[test]
    fn a_stop_signals_once_and_kills_after_the_grace() {
        let mut ending = Ending::new(START, None, 0);
        assert_eq!((ending.next(), ending.cause()), (None, ExitCause::Own));
        assert_eq!(ending.stop(at(0), 15, 500), Some(15));
        assert_eq!(ending.due(at(499)), None);
        assert_eq!(ending.next(), Some(at(500)));
        assert_eq!(ending.due(at(500)), Some(9));
        assert_eq!((ending.due(at(900)), ending.next()), (None, None));
        assert_eq!(ending.cause(), ExitCause::Stopped);
    }

    #[test]
    fn a_second_stop_only_shortens() {
        let mut ending = Ending::new(START, None, 0);
        ending.stop(at(0), 15, 500);
        assert_eq!(ending.stop(at(100), 2, 10_000), None);
        assert_eq!(ending.next(), Some(at(500)));
        assert_eq!(ending.stop(at(100), 2, 50), None);
        assert_eq!(ending.next(), Some(at(150)));
    }

    #[test]
    fn the_time_limit_signals_then_kills() {
        let mut ending = Ending::new(START, Some(1_000), 200);
        assert_eq!(ending.due(at(999)), None);
        assert_eq!(ending.due(at(1_005)), Some(15));
        assert_eq!(ending.cause(), ExitCause::TimeLimit);
        assert_eq!(ending.due(at(1_100)), None);
        assert_eq!(ending.stop(at(1_100), 2, 0), None);
        assert_eq!(ending.due(at(1_100)), Some(9));
        assert_eq!(ending.cause(), ExitCause::TimeLimit);
    }

    #[test]
    fn a_time_limit_during_a_stop_changes_nothing() {
        let mut ending = Ending::new(START, Some(1_000), 0);
        ending.stop(at(900), 15, 5_000);
        assert_eq!(ending.due(at(1_000)), None);
        assert_eq!(ending.cause(), ExitCause::Stopped);
    }

    #[test]
    fn time_does_not_run_while_it_stands_still() {
        let mut ending = Ending::new(START, Some(1_000), 0);
        ending.pause(at(400));
        ending.pause(at(600));
        assert_eq!((ending.due(at(5_000)), ending.next()), (None, None));
        ending.resume(at(10_400));
        ending.resume(at(10_500));
        assert_eq!(ending.next(), Some(at(11_000)));
        assert_eq!(ending.due(at(10_999)), None);
        // Twice.
        ending.pause(at(10_999));
        ending.resume(at(20_999));
        assert_eq!(ending.due(at(20_999)), None);
        assert_eq!(ending.due(at(21_000)), Some(15));
        assert_eq!(ending.cause(), ExitCause::TimeLimit);
    }

    #[test]
    fn a_stop_is_obeyed_while_it_stands_still() {
        let mut ending = Ending::new(START, Some(1_000), 0);
        ending.pause(at(0));
        assert_eq!(ending.stop(at(10), 15, 100), Some(15));
        assert_eq!(ending.due(at(110)), Some(9));
    }

    #[test]
    fn limits_beyond_the_end_of_time_are_never_reached() {
        let mut ending = Ending::new(START, Some(u64::MAX), u64::MAX);
        assert_eq!(ending.due(Monotonic(u64::MAX - 1)), None);
        assert_eq!(ending.stop(START, 15, u64::MAX), Some(15));
        assert_eq!(ending.due(Monotonic(u64::MAX - 1)), None);
    }
}
