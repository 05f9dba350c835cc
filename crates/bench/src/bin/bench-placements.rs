//! Places sessions with the manager core and the store of a local site alone.
//!
//! The core runs on one thread, which may be bound to a processor, and SQLite on another. Each
//! session is a creation that the core takes, places in the same step, and lets out once its rows
//! are on the disk: the session's, its members', two events', and those of the nodes that are told.
//! Checkpoints of the log are SQLite's own, within the time that is measured. The output is one
//! JSON object. With `--growth` a placement on 500 nodes is compared with one on 50,000, in turns.

use anyhow::{Context as _, Result, bail, ensure};
use bench::placements::{Settings, Shape, Times, Work, check, drive};
use clap::Parser;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The sizes that `--growth` compares.
const GROWTH: [u64; 2] = [500, 50_000];

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
    /// The processor that the core's thread is bound to.
    #[arg(long)]
    core: Option<usize>,
    /// Where the store lies; a new directory in the system's place for those, if absent.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// How often; each time with a new store.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// The core waits for each commit, as it does where one thread does both.
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
    ensure!(options.rounds > 0, "nothing is measured in no round");
    if let Some(core) = options.core {
        bind(core)?;
    }
    let found = if options.growth {
        growth(&options, shape)?
    } else {
        rounds(&options, shape)?
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "{found:#}")?;
    Ok(())
}

/// Binds this thread to one processor.
fn bind(core: usize) -> Result<()> {
    let mut processors = rustix::thread::CpuSet::new();
    if core >= rustix::thread::CpuSet::MAX_CPU {
        bail!("there is no processor {core}");
    }
    processors.set(core);
    rustix::thread::sched_setaffinity(None, &processors)
        .with_context(|| format!("cannot bind the core's thread to processor {core}"))
}

fn rounds(options: &Options, shape: Shape) -> Result<Value> {
    let work = Work {
        nodes: options.nodes,
        sessions: options.sessions,
        shape,
    };
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(figures(work, &run(options, work)?));
    }
    Ok(json!({ "settings": settings(options, shape), "load": load(), "rounds": rounds }))
}

fn growth(options: &Options, shape: Shape) -> Result<Value> {
    let mut rounds = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..options.rounds {
        let mut costs = Vec::new();
        for nodes in GROWTH {
            let sessions = options.sessions;
            let work = Work {
                nodes,
                sessions,
                shape,
            };
            let times = run(options, work)?;
            costs.push((
                micros_each(times.whole, work),
                micros_each(times.stepped, work),
            ));
        }
        let [few, many] = [costs[0], costs[1]];
        ratios.push(many.0 / few.0);
        rounds.push(json!({
            "micros_at_500": few.0, "micros_at_50000": many.0, "ratio": many.0 / few.0,
            "core_micros_at_500": few.1, "core_micros_at_50000": many.1,
            "core_ratio": many.1 / few.1,
        }));
    }
    ratios.sort_by(f64::total_cmp);
    Ok(json!({
        "settings": settings(options, shape), "load": load(), "rounds": rounds,
        "ratio": { "least": ratios[0], "median": ratios[ratios.len() / 2], "most": ratios.last() },
    }))
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
        overlaps: !options.in_turns,
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
        "placements_per_s": 1e6 / micros_each(times.whole, work),
        "p50_ms": quantile_ms(times, 50), "p99_ms": quantile_ms(times, 99),
        "most_ms": quantile_ms(times, 100),
        "micros_each": {
            "whole": micros_each(times.whole, work), "core": micros_each(times.stepped, work),
            "store": micros_each(times.committed, work), "view": micros_each(times.applied, work),
        },
        "batches": times.batches, "rows": times.rows, "sets_told": times.desired,
    })
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
