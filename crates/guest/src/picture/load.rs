//! Load averages of a session.
//!
//! The kernel keeps them of the whole machine only. The session's are averages of the CPUs that it
//! kept busy, with the kernel's three periods, taken over whatever time has passed since somebody
//! last asked: what waited for a CPU and did not get it is not counted.

use std::time::Duration;

/// Seconds over which each average forgets: 1, 5 and 15 minutes.
const PERIODS: [f64; 3] = [60.0, 300.0, 900.0];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Load {
    averages: [f64; 3],
    at: Duration,
    cpu_micros: u64,
}

impl Load {
    /// By `at`, counted from the session's start, it had used so much CPU time in all.
    pub(super) fn count(&mut self, at: Duration, cpu_micros: u64) {
        let passed = at.saturating_sub(self.at).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let used = Duration::from_micros(cpu_micros.saturating_sub(self.cpu_micros));
        let busy = used.as_secs_f64() / passed;
        for (average, period) in self.averages.iter_mut().zip(PERIODS) {
            let kept = (-passed / period).exp();
            *average = *average * kept + busy * (1.0 - kept);
        }
        (self.at, self.cpu_micros) = (at, cpu_micros);
    }

    pub(super) fn averages(&self) -> [f64; 3] {
        self.averages
    }
}

#[cfg(test)]
mod tests {
    use super::Load;
    use std::time::Duration;

    #[test]
    fn an_average_comes_to_what_is_used_and_forgets_it() {
        let mut load = Load::default();
        load.count(Duration::from_secs(600), 1_200_000_000);
        let [one, five, fifteen] = load.averages();
        assert!(one > 1.99 && one <= 2.0, "{one}");
        assert!(five < one && fifteen < five && fifteen > 0.9);
        // However often somebody asks, it is the same.
        let mut often = Load::default();
        for second in 1..=600 {
            often.count(Duration::from_secs(second), second * 2_000_000);
        }
        assert!((often.averages()[2] - fifteen).abs() < 0.001);
        load.count(Duration::from_secs(1_200), 1_200_000_000);
        assert!(load.averages()[0] < 0.01);
        load.count(Duration::from_secs(1_200), 0);
        assert!(load.averages()[0] >= 0.0, "no time has passed");
    }
}
