//! `cargo xtask planted`: plants each mistake into a site, and fails if the simulation misses one.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal"
)]

use clap::Parser;
use lifecycle::planted::{Planted, plant, reached};
use simulation::{Failure, Run};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Seeds without any mistake, in which every promise has to hold: one of each weather.
const CONTROLS: u64 = 4;
/// Longest text of a broken promise in the table, in characters.
const SHOWN_LIMIT: usize = 90;

/// Plants each mistake of `Planted` into simulated sites, and fails if none of them breaks a promise.
#[derive(Debug, Parser)]
#[command(
    name = "planted",
    after_help = "Examples:\n  cargo xtask planted\n  cargo xtask planted --only DeadlineStartsAnew \
                  --first 3 --seeds 1 --trace | less\n\nExit codes: 0 every mistake was found, 1 one \
                  was not."
)]
struct Arguments {
    /// Only this mistake, by its name
    #[arg(long, value_name = "NAME", value_parser = named)]
    only: Option<Planted>,
    /// Most seeds that a mistake is looked for in
    #[arg(long, default_value_t = 80)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Simulated hours of each seed
    #[arg(long, default_value_t = 1)]
    hours: u64,
    /// Print everything that happens until the mistake is found
    #[arg(long, requires = "only")]
    trace: bool,
}

/// What came of one mistake.
struct Found {
    mistake: Planted,
    /// In which seed, and how.
    failure: Option<(u64, Failure)>,
    /// Steps of all its seeds.
    steps: u64,
    /// How often its place was reached, in all its seeds.
    reached: u64,
    took: Duration,
}

fn named(name: &str) -> Result<Planted, String> {
    let mut all = Planted::ALL.iter().copied();
    let found = all.find(|mistake| mistake.name() == name);
    found.ok_or_else(|| format!("there is no mistake `{name}`"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Panics of cores are broken promises, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    if let Err(failure) = controls(&arguments) {
        eprintln!("error: without any mistake: {}", failure.violation);
        return ExitCode::FAILURE;
    }
    let wanted: Vec<Planted> = match arguments.only {
        Some(mistake) => vec![mistake],
        None => Planted::ALL.to_vec(),
    };
    let found = look_for_all(&wanted, &arguments);
    let missed = found.iter().filter(|one| one.failure.is_none()).count();
    println!(
        "{} of {} planted mistakes found, {:.1} s",
        found.len() - missed,
        found.len(),
        began.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(missed > 0))
}

/// The same seeds without any mistake.
fn controls(arguments: &Arguments) -> Result<(), Failure> {
    plant(None);
    for seed in arguments.first..arguments.first + CONTROLS.min(arguments.seeds) {
        simulation::run(&run_of(seed, arguments))?;
    }
    Ok(())
}

fn run_of(seed: u64, arguments: &Arguments) -> Run {
    Run {
        seed,
        hours: arguments.hours,
        acts: None,
    }
}

/// As many mistakes at a time as there are cores.
fn look_for_all(wanted: &[Planted], arguments: &Arguments) -> Vec<Found> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(mistake) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = look_for(*mistake, arguments);
                    let mut found = found.lock().expect("no thread panics with it");
                    print_found(&one);
                    found.push(one);
                }
            });
        }
    });
    found.into_inner().expect("no thread panics with it")
}

fn look_for(mistake: Planted, arguments: &Arguments) -> Found {
    let began = Instant::now();
    let mut found = Found {
        mistake,
        failure: None,
        steps: 0,
        reached: 0,
        took: Duration::ZERO,
    };
    for seed in arguments.first..arguments.first + arguments.seeds {
        let run = run_of(seed, arguments);
        plant(Some(mistake));
        let result = if arguments.trace {
            let (result, lines) = simulation::trace(&run);
            print!("{lines}");
            result
        } else {
            simulation::run(&run)
        };
        found.reached += reached();
        plant(None);
        match result {
            Ok(totals) => found.steps += totals.steps,
            Err(failure) => {
                found.steps += failure.steps;
                found.failure = Some((seed, failure));
                break;
            }
        }
    }
    found.took = began.elapsed();
    found
}

fn print_found(one: &Found) {
    let name = one.mistake.name();
    let (steps, seconds) = (one.steps, one.took.as_secs_f64());
    match &one.failure {
        Some((seed, failure)) => {
            let simulated = failure.micros / 1_000_000;
            let promise: String = failure.violation.to_string();
            let promise: String = promise.chars().take(SHOWN_LIMIT).collect();
            println!(
                "{name:28} seed {seed:<3} {simulated:>5} simulated s {steps:>8} steps \
                 {seconds:>5.1} s  {promise}"
            );
        }
        None => {
            let (reached, mistake) = (one.reached, one.mistake.mistake());
            println!(
                "{name:28} NOT FOUND in {steps} steps, its place reached {reached} times: {mistake}"
            );
        }
    }
}
