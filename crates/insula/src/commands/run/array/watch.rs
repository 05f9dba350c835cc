//! A foreground run of an array: how far it is, until every element has ended or we have to go.

use crate::daemon::Site;
use crate::elements::{counts, ended};
use crate::exit_codes;
use crate::failure::Failure;
use crate::progress::CountBar;
use crate::signals::Signals;
use public_api::{ArrayView, StopSession};
use std::time::{Duration, Instant};

/// Shortest and longest wait between two looks.
const SHORTEST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_LOOK: Duration = Duration::from_millis(300);
/// Time between two lines where nobody looks at a terminal.
const TOLD_AGAIN: Duration = Duration::from_secs(15);

/// How the watch came to its end.
pub(super) enum Watched {
    /// Every element has ended.
    Ended(Box<ArrayView>),
    /// It runs on without us.
    Left {
        /// What we exit with.
        exit_code: u8,
        /// Why we go, and what becomes of it.
        said: String,
    },
}

/// Stays until every element has ended, or we have to go. A daemon that dies meanwhile is brought
/// back.
pub(super) async fn watch(site: &Site, array: &ArrayView) -> Result<Watched, Failure> {
    let mut signals = Signals::listen()?;
    let bar = CountBar::new(&site.printer, &array.name, array.size.into());
    tokio::select! {
        ended = to_the_end(site, array, &bar) => Ok(Watched::Ended(Box::new(ended?))),
        left = act_on(&mut signals, site, array, &bar) => Ok(left),
    }
}

async fn to_the_end(site: &Site, array: &ArrayView, bar: &CountBar) -> Result<ArrayView, Failure> {
    let mut told = Told {
        at: Instant::now(),
        counts: String::new(),
    };
    let began = Instant::now();
    let mut changed = (began, 0);
    loop {
        let view = site
            .call(async |client| client.array(&array.id).await)
            .await?;
        bar.show(ended(&view).into(), counts(&view));
        if view.living == 0 {
            bar.clear();
            return Ok(view);
        }
        if !site.printer.is_watched() {
            told.tell(site, &view);
        }
        let now = Instant::now();
        if ended(&view) != changed.1 {
            changed = (now, ended(&view));
        }
        let since = (now.duration_since(began), now.duration_since(changed.0));
        tokio::time::sleep(look_again(since, ended(&view), view.living)).await;
    }
}

/// How long until the next look: half of what is still to come, if what lives ends as the others
/// did. So the end of many short elements is seen at once; of others it is seen an eighth later of the
/// time that they took, at most. `since`: the beginning, and the last end.
fn look_again((began, changed): (Duration, Duration), ended: u32, living: u32) -> Duration {
    let rest = match ended {
        0 => Duration::MAX,
        _ => began
            .saturating_sub(changed)
            .mul_f64(f64::from(living) / f64::from(ended))
            .saturating_sub(changed),
    };
    (rest / 2)
        .max(changed / 8)
        .min(began / 8)
        .clamp(SHORTEST_LOOK, LONGEST_LOOK)
}

/// What was said where nobody looks at a terminal.
struct Told {
    at: Instant,
    counts: String,
}

impl Told {
    /// Says how far it is, unless that was said a moment ago or is as it was.
    fn tell(&mut self, site: &Site, view: &ArrayView) {
        let counts = counts(view);
        let first = self.counts.is_empty();
        if counts == self.counts || (!first && self.at.elapsed() < TOLD_AGAIN) {
            return;
        }
        let (name, size) = (&view.name, view.size);
        site.printer
            .note(&format!("{name}: {} of {size}: {counts}", ended(view)));
        self.at = Instant::now();
        self.counts = counts;
    }
}

/// The first interrupt asks, the second stops what has not ended, the third kills it; returns when
/// we have to go.
async fn act_on(signals: &mut Signals, site: &Site, array: &ArrayView, bar: &CountBar) -> Watched {
    let name = &array.name;
    let left = |exit_code, because: &str| Watched::Left {
        exit_code,
        said: format!(
            "{because}: {name} runs on; `insula show {name}` tells how far it is, \
             `insula stop {name}` stops it"
        ),
    };
    let mut interrupts = 0_u32;
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => {
                interrupts += 1;
                if interrupts > 3 {
                    return left(exit_codes::INTERRUPTED, "interrupted again");
                }
                interrupt(site, array, interrupts, bar).await;
            }
            _ = signals.terminate.recv() => return left(exit_codes::TERMINATED, "asked to end"),
            _ = signals.hangup.recv() => return left(exit_codes::HANGUP, "the terminal is gone"),
        }
    }
}

async fn interrupt(site: &Site, array: &ArrayView, number: u32, bar: &CountBar) {
    let (grace, said) = match number {
        1 => {
            let said = format!(
                "\rctrl-C again stops all elements of {} that have not ended, a third time kills \
                 them",
                array.name
            );
            bar.aside(|| site.printer.note(&said));
            return;
        }
        2 => (None, "\rstopping all elements; ctrl-C again kills them"),
        _ => (Some("0s".to_owned()), "\rkilling all elements"),
    };
    bar.aside(|| site.printer.note(said));
    let order = StopSession {
        signal: None,
        grace,
    };
    if let Err(error) = site.client().stop_array(&array.id, &order).await {
        let said = format!("the array could not be stopped: {error}");
        bar.aside(|| site.printer.warning(&said));
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_LOOK, SHORTEST_LOOK, look_again};
    use std::time::Duration;

    /// When, in seconds, an array is seen as ended whose elements end at these times, and after how
    /// many looks.
    fn seen(ends: &[f64]) -> (f64, u32) {
        let (mut now, mut looks, mut changed) = (0.0, 0, (0.0, 0));
        loop {
            looks += 1;
            let ended = ends.iter().filter(|end| **end <= now).count();
            let living = ends.len() - ended;
            if living == 0 {
                return (now, looks);
            }
            if ended != changed.1 {
                changed = (now, ended);
            }
            let since = (now, now - changed.0);
            let since = (
                Duration::from_secs_f64(since.0),
                Duration::from_secs_f64(since.1),
            );
            let count = |many: usize| u32::try_from(many).expect("few");
            now += look_again(since, count(ended), count(living)).as_secs_f64();
        }
    }

    /// As many at a time end together.
    fn waves(many: u32, at_a_time: u32, each: f64) -> Vec<f64> {
        let wave = |number: u32| f64::from(number / at_a_time + 1) * each;
        (0..many).map(wave).collect()
    }

    #[test]
    fn an_end_is_seen_soon_and_with_few_looks() {
        let mut straggler = waves(2_999, 1, 0.005);
        straggler.push(75.0);
        let spread = (0..16).map(|number| f64::from(number).mul_add(0.0066, 0.03));
        for (what, ends, late, most) in [
            ("one", waves(1, 1, 0.013), 0.004, 12),
            ("few short ones", waves(10, 1, 0.007), 0.012, 30),
            ("many short ones", waves(3_000, 1, 0.005), 0.004, 130),
            ("few long ones", waves(4, 1, 1.0), 0.2, 100),
            ("all at once", waves(64, 64, 0.5), 0.07, 60),
            ("four at a time", waves(100, 4, 0.4), 0.15, 120),
            ("as they come", spread.collect(), 0.02, 40),
            ("a straggler", straggler, 0.3, 400),
        ] {
            let last = ends.iter().copied().fold(0.0, f64::max);
            let (at, looks) = seen(&ends);
            assert!(at - last <= late, "{what}: {at} s, {last} s");
            assert!(looks <= most, "{what}: {looks} looks in {last} s");
        }
    }

    #[test]
    fn a_look_is_neither_at_once_nor_late() {
        let (none, day) = (Duration::ZERO, Duration::from_secs(86_400));
        assert_eq!(look_again((none, none), 0, u32::MAX), SHORTEST_LOOK);
        assert_eq!(look_again((day, none), 1, u32::MAX), LONGEST_LOOK);
        assert_eq!(look_again((day, day), 9_999, 1), LONGEST_LOOK);
    }
}
