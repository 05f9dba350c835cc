//! A foreground run of an array: how far it is, until every element has ended or we have to go.

use crate::daemon::Site;
use crate::elements::{counts, ended};
use crate::exit_codes;
use crate::failure::Failure;
use crate::progress::CountBar;
use crate::signals::Signals;
use public_api::{ArrayView, StopSession};
use std::time::{Duration, Instant};

/// Longest wait between two looks.
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
    let mut wait = Duration::from_millis(20);
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
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK);
    }
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
