//! `docs/crashes.md`: the table of the crash sweep, from what was found when it was run.
//!
//! The test `crashes` of the executable kills and looks, and with `INSULA_UPDATE` set writes
//! `docs/crashes/results.json`. This module runs it and lays the results out between two marks of
//! the page.

use crate::generated;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const PATH: &str = "docs/crashes.md";
const RESULTS: &str = "docs/crashes/results.json";
const BEGIN: &str = "<!-- table: written by `cargo xtask crashes` -->\n";
const END: &str = "<!-- end of the table -->\n";
/// Kills of a sweep, if nobody says another number.
const KILLS: u32 = 330;
const TEST: &[&str] = &[
    "test",
    "--locked",
    "--package",
    "insula",
    "--test",
    "crashes",
    "--",
    "--exact",
    "--nocapture",
    "the_whole_sweep_if_it_is_asked_for",
];

/// What was asked for.
#[derive(Debug)]
struct Wanted {
    kills: u32,
    seed: u64,
    point: Option<String>,
    json: bool,
}

#[derive(Debug, Deserialize)]
struct Report {
    kills: u32,
    seed: u64,
    rows: Vec<Row>,
    recovery: Option<Recovery>,
    without_containers: Option<Recovery>,
}

#[derive(Debug, Deserialize)]
struct Row {
    kind: String,
    point: String,
    scene: String,
    who: String,
    kills: u32,
    outcomes: BTreeMap<String, u32>,
}

#[derive(Debug, Deserialize)]
struct Recovery {
    sessions: u32,
    milliseconds: u64,
}

/// Runs the sweep. Without `--point` the page is written, too.
pub(crate) fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let wanted = wanted(words)?;
    let mut command = process::command("cargo");
    command
        .args(TEST)
        .env("INSULA_CRASHES", wanted.kills.to_string())
        .env("INSULA_CRASHES_SEED", wanted.seed.to_string())
        .current_dir(root);
    match &wanted.point {
        Some(point) => command.env("INSULA_CRASHES_POINT", point),
        None => command.env("INSULA_UPDATE", "1"),
    };
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("a kill left something, or lost something, or a point was not come to");
    }
    if wanted.point.is_some() {
        return Ok(());
    }
    if wanted.json {
        print!("{}", results(root)?);
    }
    generated::write(root, PATH, &page(root)?)
}

/// Fails if the page's table is not that of the results.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    generated::check(root, PATH, &page(root)?, "cargo xtask crashes")
}

fn wanted(words: &[&str]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted {
        kills: KILLS,
        seed: 1,
        point: None,
        json: false,
    };
    let mut words = words;
    loop {
        words = match words {
            [] => return Ok(wanted),
            ["--kills", number, rest @ ..] => {
                wanted.kills = number.parse().context("--kills wants a number")?;
                rest
            }
            ["--seed", number, rest @ ..] => {
                wanted.seed = number.parse().context("--seed wants a number")?;
                rest
            }
            ["--point", point, rest @ ..] => {
                wanted.point = Some((*point).to_owned());
                rest
            }
            ["--json", rest @ ..] => {
                wanted.json = true;
                rest
            }
            [word, ..] => bail!("`{word}` is not understood; see `cargo xtask`"),
        };
    }
}

fn results(root: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(root.join(RESULTS)).with_context(|| format!("no {RESULTS}"))
}

/// The page with the table of the results.
fn page(root: &Path) -> anyhow::Result<String> {
    let page = std::fs::read_to_string(root.join(PATH)).with_context(|| format!("no {PATH}"))?;
    let parts = page.split_once(BEGIN).zip(page.split_once(END));
    let Some(((before, _), (_, after))) = parts else {
        bail!("{PATH} has no place for the table");
    };
    let report = serde_json::from_str(&results(root)?).context("the results are no JSON")?;
    let table = table(&report);
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn table(report: &Report) -> String {
    let mut text = String::from("| kind | killed at | who | while | kills | then |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for row in &report.rows {
        let outcomes = row.outcomes.iter();
        let outcomes = outcomes.map(|(outcome, count)| format!("{count} x {outcome}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            row.kind,
            row.point,
            row.who,
            words(&row.scene),
            row.kills,
            outcomes.collect::<Vec<_>>().join("; "),
        );
    }
    let _ = writeln!(text, "\n{} kills, seed {}.", report.kills, report.seed);
    if let Some(recovery) = &report.recovery {
        let _ = writeln!(
            text,
            "{} real running sessions: all told to run again, on a node that is connected, {} ms \
             after the next daemon was started (a figure of the machine that it was run on, not a \
             promise).",
            recovery.sessions, recovery.milliseconds
        );
    }
    if let Some(recovery) = &report.without_containers {
        let _ = writeln!(
            text,
            "{} running sessions over an engine that runs nothing, with store, manager and agent \
             as the daemon has them: all told to run again, on a node that is connected, in {} ms.",
            recovery.sessions, recovery.milliseconds
        );
    }
    text
}

/// A scene in words.
fn words(scene: &str) -> &str {
    match scene {
        "Begin" => "a session is begun",
        "BeginOnImage" => "a session is begun on an image",
        "End" => "its command ends",
        "Stop" => "it is stopped",
        "Remove" => "it is removed",
        "Import" => "an image is imported",
        "RemoveImage" => "an image is removed",
        "FirstStart" => "a daemon starts on an empty home",
        "NextStart" => "a daemon starts on a home with a session",
        "Retention" => "it is older than sessions are kept",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, check, table, wanted};

    #[test]
    fn outcomes_are_counted() {
        let text = r#"{"kills": 3, "seed": 7, "rows": [{"kind": "go", "point": "go.told", "scene":
            "Begin", "who": "launcher", "kills": 3, "outcomes": {"b": 2, "a": 1}}], "recovery":
            {"sessions": 100, "milliseconds": 12}, "without_containers":
            {"sessions": 1000, "milliseconds": 34}}"#;
        let report: Report = serde_json::from_str(text).expect("a report");
        let text = table(&report);
        let row = "| go | go.told | launcher | a session is begun | 3 | 1 x a; 2 x b |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("3 kills, seed 7.")
                && text.contains(" 12 ms ")
                && text.contains("1000 running sessions over an engine that runs nothing"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let some = wanted(&["--kills", "5", "--point", "go", "--seed", "2"]).expect("understood");
        assert_eq!((some.kills, some.seed, some.json), (5, 2, false));
        assert!(wanted(&["--kills"]).is_err() && wanted(&["--kills", "x"]).is_err());
    }

    #[test]
    fn the_checked_in_table_is_current() {
        check(&crate::workspace_root()).expect("current");
    }
}
