//! `cargo xtask simulate`: runs seeds, prints figures, makes what fails small.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal"
)]

use clap::Parser;
use simulation::{Failure, Run, Totals};
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two words about how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Simulates whole sites from seeds: real cores, fake everything else, and all that goes wrong.
#[derive(Debug, Parser)]
#[command(
    name = "simulate",
    after_help = "Examples:\n  cargo xtask simulate --seeds 100 --hours 2\n  cargo xtask simulate \
                  --seed 17 --hours 2 --trace | less\n  cargo xtask simulate --seed 17 --hours 2 \
                  --acts 3,5,80-83\n\nExit codes: 0 every promise held, 1 one was broken."
)]
struct Arguments {
    /// How many seeds, from --first on
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Simulated hours of each seed
    #[arg(long, default_value_t = 2)]
    hours: u64,
    /// Only this seed
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Only these acts of the plan: numbers and ranges, as printed for a failing seed
    #[arg(long, requires = "seed", value_name = "LIST")]
    acts: Option<String>,
    /// Print everything that happens in the one run
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Runs that may be used to make a failing one small; 0 leaves it as it is
    #[arg(long, default_value_t = 400)]
    tries: u32,
    /// Go on after a seed that fails; none is made small
    #[arg(long)]
    keep_going: bool,
    /// Seeds that run at a time; as many as there are cores if absent
    #[arg(long)]
    jobs: Option<usize>,
}

impl Arguments {
    fn run(&self, seed: u64, acts: Option<BTreeSet<u64>>) -> Run {
        Run {
            seed,
            hours: self.hours,
            acts,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Panics of cores are told with the seed that they belong to.
    std::panic::set_hook(Box::new(|_| {}));
    let acts = match arguments.acts.as_deref().map(parse_acts).transpose() {
        Ok(acts) => acts,
        Err(part) => {
            eprintln!("error: `{part}` is neither a number nor a range like 3-7");
            return ExitCode::from(2);
        }
    };
    if arguments.trace || acts.is_some() {
        let seed = arguments.seed.unwrap_or(arguments.first);
        return one(&arguments.run(seed, acts), arguments.trace);
    }
    many(&arguments)
}

fn one(run: &Run, prints: bool) -> ExitCode {
    let (result, lines) = simulation::trace(run);
    if prints {
        print!("{lines}");
    }
    match result {
        Ok(totals) => {
            print_totals(&totals, None);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            print_failure(run, &failure);
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let first = arguments.seed.unwrap_or(arguments.first);
    let end = first
        + if arguments.seed.is_some() {
            1
        } else {
            arguments.seeds
        };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.unwrap_or(cores);
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let began = Instant::now();
    let progress = Progress::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let ends = failed.load(Ordering::Relaxed) && !arguments.keep_going;
                    if seed >= end || ends {
                        return;
                    }
                    match simulation::run(&arguments.run(seed, None)) {
                        Ok(found) => {
                            let mut totals = totals.lock().expect("no thread panics with it");
                            totals.add(&found);
                            progress.tell(&totals, (end - first) * arguments.hours);
                        }
                        Err(failure) => {
                            failed.store(true, Ordering::Relaxed);
                            explain(seed, &failure, arguments);
                        }
                    }
                }
            });
        }
    });
    print_totals(
        &totals.into_inner().expect("no thread panics with it"),
        Some(began),
    );
    if failed.load(Ordering::Relaxed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Tells now and then how far it has come, on a terminal.
#[derive(Default)]
struct Progress {
    told_at: Mutex<Option<Instant>>,
}

impl Progress {
    fn tell(&self, totals: &Totals, hours: u64) {
        let mut told_at = self.told_at.lock().expect("no thread panics with it");
        let is_due = told_at.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
        if is_due && std::io::stderr().is_terminal() {
            *told_at = Some(Instant::now());
            eprintln!("{} of {hours} site-hours", totals.hours);
        }
    }
}

fn explain(seed: u64, failure: &Failure, arguments: &Arguments) {
    let run = arguments.run(seed, None);
    print_failure(&run, failure);
    if arguments.tries == 0 || arguments.keep_going {
        return;
    }
    let small = simulation::minimise(&run, arguments.tries);
    if let Err(failure) = simulation::run(&small) {
        println!("made small:");
        print_failure(&small, &failure);
    }
}

fn print_failure(run: &Run, failure: &Failure) {
    let seconds = failure.micros / 1_000_000;
    let (seed, hours, steps) = (run.seed, run.hours, failure.steps);
    println!(
        "seed {seed} after {seconds} simulated s, {steps} steps: {}",
        failure.violation
    );
    let acts = run
        .acts
        .as_ref()
        .map(|acts| format!(" --acts {}", show_acts(acts)));
    let acts = acts.unwrap_or_default();
    println!("  cargo xtask simulate --seed {seed} --hours {hours}{acts} --trace");
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn print_totals(totals: &Totals, began: Option<Instant>) {
    let Totals {
        hours,
        lives,
        faults,
        steps,
        commits,
        starts,
        answers,
        micros,
        digest,
    } = *totals;
    println!(
        "{hours} site-hours ({} with calms), {lives} sessions, {starts} containers, {answers} \
         answers, {commits} commits, {faults} faults, {steps} steps, digest {digest:016x}",
        micros / 3_600_000_000
    );
    if let Some(began) = began {
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{seconds:.1} s, {:.0} steps per second",
            steps as f64 / seconds
        );
    }
}

fn parse_acts(text: &str) -> Result<BTreeSet<u64>, String> {
    let mut acts = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        match (low.parse::<u64>(), high.parse::<u64>()) {
            (Ok(low), Ok(high)) => acts.extend(low..=high),
            _ => return Err(part.to_owned()),
        }
    }
    Ok(acts)
}

fn show_acts(acts: &BTreeSet<u64>) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for act in acts {
        match parts.last_mut() {
            Some((_, high)) if *high + 1 == *act => *high = *act,
            _ => parts.push((*act, *act)),
        }
    }
    let shown = parts.iter().map(|(low, high)| {
        if low == high {
            low.to_string()
        } else {
            format!("{low}-{high}")
        }
    });
    shown.collect::<Vec<_>>().join(",")
}
