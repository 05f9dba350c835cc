//! `cargo xtask mutants`: changes the cores in one place at a time, and runs their tests. What no
//! test notices is listed in `docs/mutants.md`, each with the reason why it may stay.
//!
//! `cargo-mutants` makes them. A crate may be done in parts: the results of each part are kept in
//! `docs/mutants/results.json` until all are there or the number of parts is another one. Mutants
//! are known by their file and what is changed, not by their line, which moves.

use crate::generated;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZero;
use std::path::Path;

const PAGE: &str = "docs/mutants.md";
const RESULTS: &str = "docs/mutants/results.json";
/// Written by hand: what survives, and why it may.
const REASONS: &str = "docs/mutants/reasons.json";
const BEGIN: &str = "<!-- tables: written by `cargo xtask mutants` -->\n";
const END: &str = "<!-- end of the tables -->\n";
/// The crates whose decisions are pure.
const PACKAGES: &[&str] = &["scheduler", "lifecycle"];
/// Mistakes that are made on purpose, and only in builds for that.
const PLANTED: &str = "**/planted.rs";
/// Where `cargo mutants` writes, below the root.
const OUTPUT: &str = "target/mutants";
/// All mutants of a crate were caught; some survived; some ran for too long.
const FINISHED: &[i32] = &[0, 2, 3];

/// What was found of a crate.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    /// In how many parts it is done.
    of: u32,
    /// Those that are there, by number from 0.
    parts: BTreeMap<u32, Part>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// A test failed.
    caught: u32,
    /// The tests ran for too long, as one would notice.
    timeouts: u32,
    /// They do not compile.
    unviable: u32,
    /// No test failed; how many are called so.
    survived: BTreeMap<String, u32>,
}

/// What `cargo mutants` says.
#[derive(Debug, Deserialize)]
struct Outcomes {
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: String,
}

#[derive(Debug, Deserialize)]
enum Scenario {
    Baseline,
    Mutant { name: String },
}

/// What is to be done of which crates.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    packages: Vec<&'a str>,
    which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// A part, by its number from 0, of so many.
    Part(u32, u32),
    /// Those that survived, after tests were written for them.
    Survivors,
}

/// Runs the mutants of a crate, or of all, or some of them, and writes the page.
pub(crate) fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let wanted = wanted(words)?;
    let mut results = results(root)?;
    for package in wanted.packages {
        let found: &mut Found = results.entry(package.to_owned()).or_default();
        match wanted.which {
            Which::Part(part, of) => {
                let shard = ["--no-shuffle", "--shard", &format!("{part}/{of}")];
                let seen = counted(&mutate(root, package, &shard)?);
                if found.of != of {
                    *found = Found {
                        of,
                        parts: BTreeMap::new(),
                    };
                }
                found.parts.insert(part, seen);
            }
            Which::Survivors => {
                let patterns: Vec<String> = found.survivors().map(|name| pattern(name)).collect();
                if !patterns.is_empty() {
                    let named = patterns.iter().flat_map(|one| ["--re", one]);
                    let outcomes = mutate(root, package, &named.collect::<Vec<_>>())?;
                    found.take_again(&outcomes);
                }
            }
        }
    }
    let mut text = serde_json::to_string_pretty(&results)?;
    text.push('\n');
    generated::write(root, RESULTS, &text)?;
    generated::write(root, PAGE, &page(root, &results)?)?;
    explained(&results, &reasons(root)?)
}

/// Has `cargo mutants` do those of a crate that `which` names.
fn mutate(root: &Path, package: &str, which: &[&str]) -> anyhow::Result<Outcomes> {
    let folder = root.join(OUTPUT).join(package);
    std::fs::create_dir_all(&folder).context("cannot make a folder for what is found")?;
    let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
    let status = process::command("cargo")
        .args(["mutants", "--package", package, "--profile", "mutants"])
        // It ends at the first test that fails, as most mutants have one.
        .args(["--test-tool", "nextest", "--jobs", &jobs.to_string()])
        .env("NEXTEST_TEST_THREADS", "1")
        .args(["--exclude", PLANTED])
        .args(which)
        .arg("--output")
        .arg(&folder)
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    if !status.code().is_some_and(|code| FINISHED.contains(&code)) {
        bail!("`cargo mutants` failed; `cargo install --locked cargo-mutants` installs it");
    }
    let text = std::fs::read_to_string(folder.join("mutants.out/outcomes.json"));
    let outcomes = serde_json::from_str(&text.context("it has left no outcomes")?);
    outcomes.context("its outcomes are not understood")
}

impl Found {
    fn survivors(&self) -> impl Iterator<Item = &String> {
        let names = self.parts.values().flat_map(|part| part.survived.keys());
        names.collect::<BTreeSet<_>>().into_iter()
    }

    /// Takes in what became of all mutants that are called like a survivor. Those whose code is there
    /// no more count no more.
    fn take_again(&mut self, outcomes: &Outcomes) {
        let mut seen: BTreeMap<String, Part> = BTreeMap::new();
        for (name, summary) in outcomes.mutants() {
            seen.entry(name.clone()).or_default().count(name, summary);
        }
        let mut left = counted(outcomes).survived;
        for part in self.parts.values_mut() {
            for (name, count) in std::mem::take(&mut part.survived) {
                let Some(now) = seen.get(&name) else {
                    continue;
                };
                let survive = left.get(&name).map_or(0, |left| count.min(*left));
                left.entry(name.clone()).and_modify(|left| *left -= survive);
                let timeouts = now.timeouts.min(count - survive);
                let unviable = now.unviable.min(count - survive - timeouts);
                part.timeouts += timeouts;
                part.unviable += unviable;
                part.caught += count - survive - timeouts - unviable;
                if survive > 0 {
                    part.survived.insert(name, survive);
                }
            }
        }
        // Of several places that are called alike, another one may survive than before.
        left.retain(|_, more| *more > 0);
        if let Some(part) = self.parts.values_mut().next() {
            for (name, more) in left {
                part.caught = part.caught.saturating_sub(more);
                *part.survived.entry(name).or_default() += more;
            }
        }
    }
}

/// A regular expression for all mutants of this name, wherever in its file.
fn pattern(name: &str) -> String {
    let escaped = |text: &str| {
        let mut pattern = String::new();
        for character in text.chars() {
            if r"\.+*?()|[]{}^$#&-~".contains(character) {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern
    };
    let (file, what) = name.split_once(':').unwrap_or((name, ""));
    format!(r"^{}:\d+:\d+:{}$", escaped(file), escaped(what))
}

/// Fails if the page is not that of the results, or a survivor has no reason.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let results = results(root)?;
    generated::check(root, PAGE, &page(root, &results)?, "cargo xtask mutants")?;
    explained(&results, &reasons(root)?)
}

fn wanted<'a>(words: &[&'a str]) -> anyhow::Result<Wanted<'a>> {
    let mut wanted = Wanted {
        packages: PACKAGES.to_vec(),
        which: Which::Part(0, 1),
    };
    let mut words = words;
    loop {
        words = match words {
            [] => return Ok(wanted),
            ["--package", name, rest @ ..] if PACKAGES.contains(name) => {
                wanted.packages = vec![*name];
                rest
            }
            ["--part", text, rest @ ..] => {
                let numbers = text.split_once('/');
                let numbers = numbers.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
                let right = numbers.filter(|(number, of): &(u32, u32)| number < of);
                let (number, of) =
                    right.with_context(|| format!("`{text}` is no part like 0/8"))?;
                wanted.which = Which::Part(number, of);
                rest
            }
            ["--survivors", rest @ ..] => {
                wanted.which = Which::Survivors;
                rest
            }
            [word, ..] => bail!("`{word}` is not understood; see `cargo xtask`"),
        };
    }
}

impl Outcomes {
    /// What mutants are called, and what became of each.
    fn mutants(&self) -> impl Iterator<Item = (String, &str)> {
        self.outcomes.iter().filter_map(|one| match &one.scenario {
            Scenario::Baseline => None,
            Scenario::Mutant { name } => Some((without_place(name), one.summary.as_str())),
        })
    }
}

fn counted(outcomes: &Outcomes) -> Part {
    let mut part = Part::default();
    for (name, summary) in outcomes.mutants() {
        part.count(name, summary);
    }
    part
}

impl Part {
    fn count(&mut self, name: String, summary: &str) {
        match summary {
            "CaughtMutant" => self.caught += 1,
            "Timeout" => self.timeouts += 1,
            "Unviable" => self.unviable += 1,
            _ => *self.survived.entry(name).or_default() += 1,
        }
    }
}

/// `crates/a/src/b.rs:26:40: replace * with +` without its line and column.
fn without_place(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    match (parts.next(), parts.nth(2)) {
        (Some(file), Some(what)) => format!("{file}:{what}"),
        _ => name.to_owned(),
    }
}

fn read<T: for<'a> Deserialize<'a> + Default>(root: &Path, path: &str) -> anyhow::Result<T> {
    match std::fs::read_to_string(root.join(path)) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{path} is no JSON")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

fn results(root: &Path) -> anyhow::Result<BTreeMap<String, Found>> {
    read(root, RESULTS)
}

fn reasons(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    read(root, REASONS)
}

/// Fails if a survivor has no reason, or a reason no survivor.
fn explained(
    results: &BTreeMap<String, Found>,
    reasons: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let parts = results.values().flat_map(|found| found.parts.values());
    let survived: BTreeSet<&String> = parts.flat_map(|part| part.survived.keys()).collect();
    let unexplained: Vec<&&String> = survived
        .iter()
        .filter(|name| !reasons.contains_key(**name))
        .collect();
    if !unexplained.is_empty() {
        bail!("these need a test, or a reason in {REASONS}: {unexplained:#?}");
    }
    let is_whole = results
        .values()
        .all(|found| usize::try_from(found.of) == Ok(found.parts.len()));
    let needless = reasons.keys().find(|name| !survived.contains(name));
    match needless.filter(|_| is_whole) {
        Some(name) => bail!("{REASONS} has a reason for `{name}`, which does not survive"),
        None => Ok(()),
    }
}

fn page(root: &Path, results: &BTreeMap<String, Found>) -> anyhow::Result<String> {
    let page = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("no {PAGE}"))?;
    let parts = page.split_once(BEGIN).zip(page.split_once(END));
    let Some(((before, _), (_, after))) = parts else {
        bail!("{PAGE} has no place for the tables");
    };
    let tables = tables(results, &reasons(root)?);
    Ok(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

fn tables(results: &BTreeMap<String, Found>, reasons: &BTreeMap<String, String>) -> String {
    let mut text = String::from("| crate | parts | mutants | caught | too long | do not compile |");
    text.push_str(" survive |\n|---|---|---|---|---|---|---|\n");
    let sum = |found: &Found, of: fn(&Part) -> u32| found.parts.values().map(of).sum::<u32>();
    for package in PACKAGES {
        let Some(found) = results.get(*package) else {
            let _ = writeln!(text, "| {package} | none | | | | | |");
            continue;
        };
        let (caught, timeouts) = (sum(found, |p| p.caught), sum(found, |p| p.timeouts));
        let unviable = sum(found, |p| p.unviable);
        let survived = sum(found, |p| p.survived.values().sum());
        let all = caught + timeouts + unviable + survived;
        let (done, of) = (found.parts.len(), found.of);
        let _ = writeln!(
            text,
            "| {package} | {done} of {of} | {all} | {caught} | {timeouts} | {unviable} | \
             {survived} |"
        );
    }
    text.push_str("\n| survives | why it may |\n|---|---|\n");
    let mut all: BTreeMap<&String, u32> = BTreeMap::new();
    let parts = results.values().flat_map(|found| found.parts.values());
    for (name, count) in parts.flat_map(|part| &part.survived) {
        *all.entry(name).or_default() += count;
    }
    for (name, count) in all {
        let reason = reasons.get(name).map_or("", String::as_str);
        let times = if count > 1 {
            format!(" ({count} places)")
        } else {
            String::new()
        };
        let name = name.replace('|', "\\|");
        let _ = writeln!(text, "| `{name}`{times} | {reason} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        Found, Part, Wanted, Which, counted, explained, pattern, tables, wanted, without_place,
    };
    use std::collections::BTreeMap;

    const NAME: &str = "crates/scheduler/src/lib.rs: replace * with +";

    fn found(survived: &[(&str, u32)]) -> BTreeMap<String, Found> {
        let survived = survived.iter().map(|(name, n)| ((*name).to_owned(), *n));
        let part = Part {
            caught: 5,
            survived: survived.collect(),
            ..Part::default()
        };
        let parts = BTreeMap::from([(0, part)]);
        BTreeMap::from([("scheduler".to_owned(), Found { of: 1, parts })])
    }

    #[test]
    fn outcomes_are_counted_without_their_places() {
        let text = r#"{"outcomes": [
            {"scenario": "Baseline", "summary": "Success"},
            {"scenario": {"Mutant": {"name": "a.rs:1:2: replace x with y"}}, "summary": "CaughtMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:3:4: replace x with y"}}, "summary": "MissedMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:5:6: replace x with y"}}, "summary": "MissedMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:7:8: delete !"}}, "summary": "Unviable"}]}"#;
        let part = counted(&serde_json::from_str(text).expect("outcomes"));
        let survived = BTreeMap::from([("a.rs: replace x with y".to_owned(), 2)]);
        let expected = Part {
            caught: 1,
            timeouts: 0,
            unviable: 1,
            survived,
        };
        assert_eq!(part, expected);
        assert_eq!(
            without_place("a.rs:1:2: replace A::b -> C with D::e()"),
            "a.rs: replace A::b -> C with D::e()"
        );
    }

    #[test]
    fn each_survivor_has_a_reason_and_each_reason_a_survivor() {
        let reasons = BTreeMap::from([(NAME.to_owned(), "the same number".to_owned())]);
        let survivor = found(&[(NAME, 2)]);
        assert!(explained(&survivor, &reasons).is_ok());
        assert!(explained(&survivor, &BTreeMap::new()).is_err());
        assert!(explained(&found(&[]), &reasons).is_err());
        let text = tables(&survivor, &reasons);
        assert!(
            text.contains("| scheduler | 1 of 1 | 7 | 5 | 0 | 0 | 2 |"),
            "{text}"
        );
        assert!(text.contains("(2 places) | the same number |"), "{text}");
        assert!(text.contains("| lifecycle | none |"), "{text}");
    }

    #[test]
    fn survivors_that_are_tried_again_are_caught_or_stay() {
        let (caught, stays) = ("a.rs: replace x with y", "a.rs: delete !");
        let (endless, was) = ("a.rs: replace + with *", "a.rs: was here");
        let mut found = found(&[(caught, 2), (stays, 1), (endless, 1), (was, 1)])
            .remove("scheduler")
            .expect("made");
        assert_eq!(found.survivors().count(), 4);
        let text = r#"{"outcomes": [
            {"scenario": {"Mutant": {"name": "a.rs:1:2: replace x with y"}}, "summary": "CaughtMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:3:4: replace x with y"}}, "summary": "CaughtMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:4:5: replace + with *"}}, "summary": "Timeout"},
            {"scenario": {"Mutant": {"name": "a.rs:5:6: delete !"}}, "summary": "MissedMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:7:8: delete !"}}, "summary": "MissedMutant"}]}"#;
        found.take_again(&serde_json::from_str(text).expect("outcomes"));
        let part = &found.parts[&0];
        let survived = BTreeMap::from([(stays.to_owned(), 2)]);
        assert_eq!(part.survived, survived, "another of that name, too");
        assert_eq!((part.caught, part.timeouts), (5 + 2 - 1, 1));
        assert_eq!(
            pattern("a-b.rs: replace < with <= in x -> Vec<(A, B)>"),
            r"^a\-b\.rs:\d+:\d+: replace < with <= in x \-> Vec<\(A, B\)>$"
        );
    }

    #[test]
    fn parts_are_understood() {
        let Wanted { packages, which } =
            wanted(&["--package", "scheduler", "--part", "3/8"]).expect("good");
        assert_eq!((packages, which), (vec!["scheduler"], Which::Part(3, 8)));
        let which = wanted(&["--survivors"]).expect("good").which;
        assert_eq!(which, Which::Survivors);
        for bad in [
            &["--part", "8/8"][..],
            &["--part", "x"],
            &["--package", "manager"],
        ] {
            assert!(wanted(bad).is_err(), "{bad:?}");
        }
    }
}
