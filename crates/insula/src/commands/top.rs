//! `insula top`: what every session and every node uses, live on a terminal.

mod picture;
mod rates;
mod screen;

use self::picture::{Picture, View};
use self::rates::{Rates, SortKey, rows};
use self::screen::{Key, Screen};
use crate::cli::Context;
use crate::daemon::{Outage, Site};
use crate::exit_codes;
use crate::failure::Failure;
use crate::signals::{Leaving, Signals};
use clap::Args;
use domain::Span;
use futures::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use public_api::SiteUsageView;
use std::pin::pin;
use std::time::Duration;

/// Shortest time between two samples, so that watching costs next to nothing.
const LEAST_INTERVAL_MS: u64 = 250;
/// Longest: the picture would be taken for one that hangs.
const MOST_INTERVAL_MS: u64 = 3_600_000;
/// Between the two samples from which a single picture is made.
const SINGLE_INTERVAL: Duration = Duration::from_millis(1_000);

/// Show what sessions and nodes use, live
///
/// CPU is in percent of one CPU. WAITS is what a session lacked most in the last 10 seconds, and for
/// what share of them: CPU, memory or disks; `-` where the kernel does not tell. READ and WRITE are bytes per second to and from disks; where the
/// kernel has cgroup v1 it does not count what it writes back later. Where stdout is no terminal,
/// one sample is printed.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct TopArguments {
    /// Print one sample, taken over a second
    #[arg(long)]
    once: bool,
    /// Time between two samples
    #[arg(short, long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// What comes first
    #[arg(short, long, value_enum, value_name = "KEY", default_value_t = SortKey::Cpu)]
    sort: SortKey,
    /// Print one sample as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula top\n  insula top --sort memory --interval 5s\n  \
         insula top --json | jq '.sessions[] | {{name, cpu_percent}}'\n\n\
         Keys: q quits; c, m, p, r, w, t, n sort by CPU, memory, processes, read, write, running \
         time or name; arrows scroll; space takes a sample now.\n\n{}",
        exit_codes::USUAL_HELP
    )
}

fn interval(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    if (LEAST_INTERVAL_MS..=MOST_INTERVAL_MS).contains(&span.0) {
        Ok(Duration::from_millis(span.0))
    } else {
        Err(format!("the interval is from {LEAST_INTERVAL_MS}ms to 1h"))
    }
}

/// Shows what is used.
pub(crate) async fn top(context: Context, arguments: TopArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    if arguments.json || arguments.once || !printer.is_terminal() {
        return single(&site, &arguments).await;
    }
    live(site, &arguments).await
}

/// One picture, from two samples: rates are differences.
async fn single(site: &Site, arguments: &TopArguments) -> Result<u8, Failure> {
    let before = site.call(async |client| client.site_usage().await).await?;
    if !before.sessions.is_empty() {
        tokio::time::sleep(SINGLE_INTERVAL.min(arguments.interval)).await;
    }
    let after = site.call(async |client| client.site_usage().await).await?;
    let rates = Rates::between(Some(&before), &after);
    if arguments.json {
        site.printer.json(&rates::json(&after, &rates))?;
        return Ok(exit_codes::SUCCESS);
    }
    let picture = Picture {
        rows: rows(&after, &rates, arguments.sort, Timestamp::now()),
        nodes: rates::node_lines(&after, &rates),
        sort: arguments.sort,
        trouble: None,
    };
    for line in picture.plain(&site.printer) {
        site.printer.line(&line)?;
    }
    Ok(exit_codes::SUCCESS)
}

/// What the sampler found: a sample, or why there is none now.
enum Sampled {
    Sample(Box<SiteUsageView>),
    Trouble(String),
    Over(Failure),
}

/// A sample now and after each interval; bridges a daemon that is away.
fn samples(site: &Site, interval: Duration) -> impl Stream<Item = Sampled> + '_ {
    let state = (Outage::default(), None, true);
    stream::unfold(
        state,
        move |(mut outage, mut pending, mut first)| async move {
            if let Some(error) = pending.take() {
                if let Err(failure) = outage.bridge(site, error).await {
                    return Some((Sampled::Over(failure), (outage, None, true)));
                }
                first = true;
            }
            if !first {
                tokio::time::sleep(interval).await;
            }
            match site.client().site_usage().await {
                Ok(sample) => {
                    outage.over();
                    Some((Sampled::Sample(Box::new(sample)), (outage, None, false)))
                }
                Err(error) => {
                    let said = error.to_string();
                    Some((Sampled::Trouble(said), (outage, Some(error), false)))
                }
            }
        },
    )
}

/// What is shown, and how.
struct Shown {
    sample: SiteUsageView,
    rates: Rates,
    sort: SortKey,
    scroll: usize,
    trouble: Option<String>,
}

impl Shown {
    fn take(&mut self, sampled: Sampled) -> Result<(), Failure> {
        match sampled {
            Sampled::Sample(sample) => {
                self.rates = Rates::between(Some(&self.sample), &sample);
                self.sample = *sample;
                self.trouble = None;
            }
            Sampled::Trouble(said) => self.trouble = Some(said),
            Sampled::Over(failure) => return Err(failure),
        }
        Ok(())
    }

    fn picture(&self) -> Picture<'_> {
        Picture {
            rows: rows(&self.sample, &self.rates, self.sort, Timestamp::now()),
            nodes: rates::node_lines(&self.sample, &self.rates),
            sort: self.sort,
            trouble: self.trouble.as_deref(),
        }
    }
}

/// Draws until somebody presses q, or the terminal or we are to go.
async fn live(mut site: Site, arguments: &TopArguments) -> Result<u8, Failure> {
    site.printer = site.printer.silenced();
    let mut signals = Signals::listen()?;
    let mut leaving = Leaving::listen()?;
    let mut screen = Screen::enter()?;
    let mut shown = Shown {
        sample: SiteUsageView::default(),
        rates: Rates::default(),
        sort: arguments.sort,
        scroll: 0,
        trouble: None,
    };
    let site = &site;
    let mut samples = pin!(samples(site, arguments.interval));
    let mut now = false;
    loop {
        let sampled = async {
            if now {
                let sample = site.client().site_usage().await;
                return sample.map_or_else(
                    |error| Sampled::Trouble(error.to_string()),
                    |sample| Sampled::Sample(Box::new(sample)),
                );
            }
            samples.next().await.expect("it goes on for ever")
        };
        tokio::select! {
            sampled = sampled => {
                now = false;
                shown.take(sampled)?;
            }
            key = screen.key() => match key {
                Key::Quit => return Ok(exit_codes::SUCCESS),
                Key::Sort(key) => shown.sort = key,
                Key::Scroll(lines) => shown.scroll = shown.scroll.saturating_add_signed(lines),
                Key::Now => now = true,
                Key::Resized => {}
            },
            _ = signals.interrupt.recv() => return Ok(exit_codes::SUCCESS),
            exit_code = leaving.asked() => return Ok(exit_code),
        }
        let (width, height) = screen.size();
        let view = View {
            width,
            height,
            scroll: shown.scroll,
        };
        let (lines, scroll) = shown.picture().drawn(&site.printer, view);
        shown.scroll = scroll;
        screen.draw(&lines).await?;
    }
}
