//! Moving things on a terminal: a spinner while something is awaited, a bar while bytes move.
//! Where nobody looks there is nothing.

use crate::printer::{Printer, printable};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// What takes less than this shows nothing.
const SHOWN_AFTER: Duration = Duration::from_millis(500);
/// Time between two pictures.
const TICK: Duration = Duration::from_millis(100);
/// How a spinner looks.
const STYLE: &str = "{spinner:.cyan} {msg}";

/// A spinner that shows itself after half a second and is wiped when it is dropped.
#[derive(Debug)]
pub(crate) struct Spinner {
    bar: ProgressBar,
}

impl Spinner {
    /// A spinner beside `message`.
    pub(crate) fn new(printer: &Printer, message: &'static str) -> Self {
        if !printer.is_watched() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(ProgressStyle::with_template(STYLE).expect("a valid template"))
            .with_message(message);
        let later = bar.clone();
        // A thread, since the picture has to move while the runtime is busy; it ends with the bar.
        std::thread::spawn(move || {
            std::thread::sleep(SHOWN_AFTER);
            if !later.is_finished() {
                later.set_draw_target(ProgressDrawTarget::stderr());
                later.enable_steady_tick(TICK);
            }
        });
        Self { bar }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line that says how many of so many are done, shown at once and wiped when it is dropped.
#[derive(Debug)]
pub(crate) struct CountBar {
    bar: ProgressBar,
}

impl CountBar {
    /// A bar for `total` things of `name`.
    pub(crate) fn new(printer: &Printer, name: &str, total: u64) -> Self {
        if !printer.is_watched() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let template = "{prefix} [{bar:20.cyan}] {pos} of {len}: {msg}";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
            .with_style(style.progress_chars("=> "))
            .with_prefix(printable(name));
        Self { bar }
    }

    /// So many are done, and so it stands with the others.
    pub(crate) fn show(&self, done: u64, words: String) {
        self.bar.set_position(done);
        self.bar.set_message(words);
    }

    /// Says something while the bar is out of the way.
    pub(crate) fn aside(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// Wipes it.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for CountBar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar for bytes that move, shown after half a second and wiped when it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct ByteBar {
    bar: ProgressBar,
    started: Instant,
    watched: bool,
}

impl ByteBar {
    /// A bar for `total` bytes; 0 if it is not known.
    pub(crate) fn new(printer: &Printer, message: &'static str, total: u64) -> Self {
        let template = if total > 0 {
            "{msg} [{bar:30.cyan}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}"
        } else {
            "{msg} {binary_bytes} {binary_bytes_per_sec}"
        };
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let length = (total > 0).then_some(total);
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden())
            .with_style(style.progress_chars("=> "))
            .with_message(message);
        Self {
            bar,
            started: Instant::now(),
            watched: printer.is_watched(),
        }
    }

    /// So many more have moved.
    pub(crate) fn add(&self, bytes: u64) {
        if self.watched && self.bar.is_hidden() && self.started.elapsed() > SHOWN_AFTER {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes);
    }

    /// Wipes it.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
