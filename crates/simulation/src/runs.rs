//! One run and its figures, and making a failing one small.

use crate::plan::Plan;
use crate::violation::Violation;
use crate::world::World;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Which run: the same always happens in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// From what everything is drawn.
    pub seed: u64,
    /// Simulated hours with faults; a calm follows.
    pub hours: u64,
    /// The acts of the plan that are done, by number; all if absent.
    pub acts: Option<BTreeSet<u64>>,
}

/// What came of runs, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Simulated time, in microseconds, calms included.
    pub micros: u64,
    /// Simulated hours in which things went wrong.
    pub hours: u64,
    /// Sessions that were made.
    pub lives: u64,
    /// Things that went wrong.
    pub faults: u64,
    /// Steps.
    pub steps: u64,
    /// Commits of the store.
    pub commits: u64,
    /// Containers that were started.
    pub starts: u64,
    /// Requests of users that were answered.
    pub answers: u64,
    /// A digest of all that happened.
    pub digest: u64,
}

/// A promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub violation: Violation,
    /// After how many steps.
    pub steps: u64,
    /// After how many simulated microseconds.
    pub micros: u64,
}

impl Totals {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.micros += other.micros;
        self.hours += other.hours;
        self.lives += other.lives;
        self.faults += other.faults;
        self.steps += other.steps;
        self.commits += other.commits;
        self.starts += other.starts;
        self.answers += other.answers;
        // In whatever order seeds come to their end.
        self.digest ^= other.digest;
    }
}

/// One run.
pub fn run(run: &Run) -> Result<Totals, Failure> {
    perform(run, false).0
}

/// The same, with what happened, line by line.
pub fn trace(run: &Run) -> (Result<Totals, Failure>, String) {
    perform(run, true)
}

fn perform(run: &Run, keeps_lines: bool) -> (Result<Totals, Failure>, String) {
    let plan = Plan::draw(run.seed, run.hours);
    let plan = match &run.acts {
        Some(acts) => plan.keeping(|number| acts.contains(&number)),
        None => plan,
    };
    let mut world = World::new(plan, keeps_lines);
    // A core that finds itself in a state that it holds impossible panics: a failure like others.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        world.broken(format!(
            "a core panics: {}",
            said.unwrap_or("without a word")
        ));
    }
    let result = match world.violation.take() {
        Some(violation) => Err(Failure {
            violation,
            steps: world.steps,
            micros: world.now,
        }),
        None => Ok(Totals {
            micros: world.now,
            hours: run.hours,
            lives: world.store.lives,
            faults: world.faults,
            steps: world.steps,
            commits: world.store.commits,
            starts: world.starts.values().map(|starts| u64::from(*starts)).sum(),
            answers: world.users.answered,
            digest: world.trace.digest(),
        }),
    };
    (result, world.trace.into_lines())
}

/// Leaves out as many acts of a failing run as can be left out with the run still failing in the same
/// way, in at most `tries` runs. Delta debugging (Zeller, Hildebrandt: Simplifying and isolating
/// failure-inducing input, 2002).
pub fn minimise(failing: &Run, tries: u32) -> Run {
    let mut best = failing.clone();
    let Err(failure) = run(&best) else {
        return best;
    };
    let plan = Plan::draw(best.seed, best.hours);
    let all = plan
        .acts
        .iter()
        .filter(|planned| planned.at <= failure.micros);
    let mut acts: Vec<u64> = match &best.acts {
        Some(acts) => acts.iter().copied().collect(),
        None => all.map(|planned| planned.number).collect(),
    };
    let kind = kind_of(&failure.violation);
    let mut left = tries;
    let mut part = acts.len().div_ceil(2);
    while part > 0 && left > 0 {
        let mut begin = 0;
        while begin < acts.len() && left > 0 {
            let end = (begin + part).min(acts.len());
            let fewer: Vec<u64> = [&acts[..begin], &acts[end..]].concat();
            let smaller = Run {
                acts: Some(fewer.iter().copied().collect()),
                ..best.clone()
            };
            left -= 1;
            match run(&smaller) {
                Err(found) if kind_of(&found.violation) == kind => {
                    acts = fewer;
                    best = smaller;
                }
                _ => begin = end,
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    best
}

/// A violation without its numbers: ids change as acts are left out.
fn kind_of(violation: &Violation) -> String {
    let text = violation.to_string();
    let words = text
        .split(' ')
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}
