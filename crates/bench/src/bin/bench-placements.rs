//! Places sessions with the manager core and the store of a local site alone.
//!
//! The core runs on one thread, which may be bound to a processor, and SQLite on another. Each
//! session is a creation that the core takes, places in the same step, and lets out once its rows
//! are on the disk: the session's, its members', two events', and those of the nodes that are told.
//! Checkpoints of the log are SQLite's own, within the time that is measured. The output is one
//! JSON object on one line; of several rounds it names the medians first. With `--growth` a placement on 500 nodes is compared with one on 50,000, in turns.

use anyhow::{Context as _, Result, ensure};
use bench::placements::{Settings, Shape, Times, Work, check, drive};
use clap::Parser;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The sizes that `--growth` compares.
const GROWTH: [u64; 2] = [500, 50_000];
/// How often it does, if nobody says.
const GROWTH_ROUNDS: u32 = 3;

#[derive(Debug, Parser)]
struct Options {
    /// Nodes of the site.
    #[arg(long, default_value_t = 5_000)]
    nodes: u64,
    /// Sessions that are asked for.
    #[arg(long, default_value_t = 50_000)]
    sessions: u64,
    /// What they ask for: `plain` or `fractional-gangs`.
    #[arg(long, default_value = "plain")]
    shape: String,
    /// Arrivals in a second, evenly; 0: all are queued.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// The processor that is the core's alone; SQLite's thread has the others.
    #[arg(long)]
    core: Option<usize>,
    /// Where the store lies; a new directory in the system's place for those, if absent.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// How often, each time with a new store; once, or three times each for `--growth`.
    #[arg(long)]
    rounds: Option<u32>,
    /// The core waits for each commit, instead of stepping on meanwhile as the leader does.
    #[arg(long)]
    in_turns: bool,
    /// Compares 500 nodes with 50,000.
    #[arg(long)]
    growth: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let shape = Shape::named(&options.shape);
    let shape = shape.with_context(|| format!("no shape is called {}", options.shape))?;
    ensure!(options.rounds != Some(0), "nothing is measured in no round");
    let found = if options.growth {
        growth(&options, shape)?
    } else {
        rounds(&options, shape)?
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "{found}")?;
    Ok(())
}

fn rounds(options: &Options, shape: Shape) -> Result<Value> {
    let work = Work {
        nodes: options.nodes,
        sessions: options.sessions,
        shape,
        per_node: options.sessions.div_ceil(options.nodes.max(1)),
    };
    let mut all = Vec::new();
    for _ in 0..options.rounds.unwrap_or(1) {
        all.push(run(options, work)?);
    }
    let median =
        |of: &dyn Fn(&Times) -> f64| spread(all.iter().map(of).collect())["median"].clone();
    Ok(json!({
        "placements_per_second": median(&|times| per_second(work, times)),
        "p50_ms": median(&|times| quantile_ms(times, 50)),
        "p99_ms": median(&|times| quantile_ms(times, 99)),
        "settings": settings(options, shape), "load": load(),
        "rounds": all.iter().map(|times| figures(work, times)).collect::<Vec<_>>(),
    }))
}

/// The sites take turns, so that what else the machine does meets both.
fn growth(options: &Options, shape: Shape) -> Result<Value> {
    let mut rounds = Vec::new();
    let (mut by_clock, mut by_processor) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.unwrap_or(GROWTH_ROUNDS) {
        let [mut clock, mut processor] = [[0.0; 2]; 2];
        for (size, nodes) in GROWTH.into_iter().enumerate() {
            let work = Work {
                nodes,
                sessions: options.sessions,
                shape,
                // The same nodes in both: the few have to hold all.
                per_node: options.sessions.div_ceil(GROWTH[0]),
            };
            let times = run(options, work)?;
            clock[size] = micros_each(times.whole, work);
            processor[size] = micros_each(times.core_cpu + times.store_cpu, work);
        }
        by_clock.push(clock[1] / clock[0]);
        by_processor.push(processor[1] / processor[0]);
        rounds.push(json!({ "micros_each": clock, "processor_micros_each": processor }));
    }
    let (by_clock, by_processor) = (spread(by_clock), spread(by_processor));
    Ok(json!({
        "growth": by_clock["median"], "by_clock": by_clock, "by_processor": by_processor,
        "nodes": GROWTH, "settings": settings(options, shape), "load": load(), "rounds": rounds,
    }))
}

/// The least, the middle one and the most.
fn spread(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    json!({
        "least": values.first(), "median": values.get(values.len() / 2), "most": values.last(),
    })
}

fn run(options: &Options, work: Work) -> Result<Times> {
    let place = match &options.directory {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    };
    let place = place.context("cannot make a directory for the store")?;
    let path: &Path = &place.path().join("site.db");
    let settings = Settings {
        rate: options.rate,
        in_turns: options.in_turns,
        core: options.core,
    };
    let times = drive(path, work, settings)?;
    check(path, work)?;
    Ok(times)
}

fn settings(options: &Options, shape: Shape) -> Value {
    json!({
        "nodes": options.nodes, "sessions": options.sessions, "shape": shape.name(),
        "rate": options.rate, "core": options.core, "in_turns": options.in_turns,
    })
}

fn figures(work: Work, times: &Times) -> Value {
    json!({
        "placements_per_second": per_second(work, times),
        "p50_ms": quantile_ms(times, 50), "p99_ms": quantile_ms(times, 99),
        "most_ms": quantile_ms(times, 100),
        "micros_each": {
            "whole": micros_each(times.whole, work), "core": micros_each(times.stepped, work),
            "store": micros_each(times.committed, work), "view": micros_each(times.applied, work),
            "core_cpu": micros_each(times.core_cpu, work),
            "store_cpu": micros_each(times.store_cpu, work),
        },
        "batches": times.batches, "commits": times.commits, "rows": times.rows, "sets_told": times.desired,
    })
}

fn per_second(work: Work, times: &Times) -> f64 {
    1e6 / micros_each(times.whole, work)
}

fn micros_each(time: Duration, work: Work) -> f64 {
    let sessions = u32::try_from(work.sessions).map_or(f64::NAN, f64::from);
    time.as_secs_f64() * 1e6 / sessions
}

fn quantile_ms(times: &Times, percent: usize) -> f64 {
    let last = times.waits.len().saturating_sub(1);
    let at = (times.waits.len() * percent / 100).min(last);
    times
        .waits
        .get(at)
        .map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3)
}

/// What else the machine does, as it says itself.
fn load() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
