//! `docs/security.md`: the table of attacks, from what was found when they were tried.
//!
//! The test `attacks` of the executable tries them and, with `INSULA_UPDATE` set, writes
//! `docs/security/VERSION.json`, one file for each version of control groups. This module runs it,
//! here and in the virtual machine with version 2, and lays the results out between two marks of the
//! page.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::{generated, guest_v2};

const PATH: &str = "docs/security.md";
const REPORTS: &str = "docs/security";
const BEGIN: &str = "<!-- table: written by `cargo xtask attacks` -->\n";
/// It is there where control groups are those of version 2 already.
const VERSION_TWO: &str = "/sys/fs/cgroup/cgroup.controllers";
const END: &str = "<!-- end of the table -->\n";
const TEST: &[&str] = &[
    "test",
    "--locked",
    "--package",
    "insula",
    "--test",
    "attacks",
    "--",
    "--nocapture",
];
/// Where attacks are tried, as the test names it, and its words.
const COLUMNS: &[(&str, &str)] = &[
    ("control", "control: a plain container"),
    ("user", "session"),
    ("root", "`--root`"),
    ("host_network", "`--network host`"),
    ("rootless", "site without root"),
    ("rootless_root", "site without root, `--root`"),
];

#[derive(Debug, Deserialize)]
struct Row {
    group: String,
    name: String,
    words: String,
    results: BTreeMap<String, Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Outcome {
    result: String,
    how: String,
}

/// The rows of one version of control groups.
type Report = (String, Vec<Row>);

/// Tries all attacks and writes the page; fails if one gets through, or a control does not.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let status = process::command("cargo")
        .args(TEST)
        .env("INSULA_UPDATE", "1")
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("an attack got through, or a control did not");
    }
    if !Path::new(VERSION_TWO).exists() {
        let prepared = guest_v2::prepare(root).context("the virtual machine cannot be made")?;
        let wanted = guest_v2::Wanted {
            update: true,
            ..guest_v2::Wanted::attacks()
        };
        guest_v2::run(root, &prepared, &wanted)?;
    }
    write(root)
}

/// Makes the page's table that of the reports.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    generated::write(root, PATH, &page(root)?)
}

/// Fails if the page's table is not that of the reports.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    generated::check(root, PATH, &page(root)?, "cargo xtask attacks")
}

/// The page with the table of the reports.
fn page(root: &Path) -> anyhow::Result<String> {
    let page = std::fs::read_to_string(root.join(PATH)).with_context(|| format!("no {PATH}"))?;
    let parts = page.split_once(BEGIN).zip(page.split_once(END));
    let Some(((before, _), (_, after))) = parts else {
        bail!("{PATH} has no place for the table");
    };
    let table = table(&reports(&root.join(REPORTS))?);
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn reports(folder: &Path) -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {REPORTS}"))?;
    for entry in entries {
        let path = entry.context("cannot list the reports")?.path();
        let told = || format!("cannot read {}", path.display());
        let text = std::fs::read_to_string(&path).with_context(told)?;
        let version = path.file_stem().unwrap_or_default().to_string_lossy();
        let rows = serde_json::from_str(&text).with_context(told)?;
        reports.push((version.into_owned(), rows));
    }
    reports.sort_by(|one: &Report, other| one.0.cmp(&other.0));
    Ok(reports)
}

fn table(reports: &[Report]) -> String {
    let mut groups: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in reports.iter().flat_map(|(_, rows)| rows) {
        let place = groups.iter().position(|(group, _)| *group == row.group);
        let place = place.unwrap_or_else(|| {
            groups.push((&row.group, Vec::new()));
            groups.len() - 1
        });
        let rows = &mut groups[place].1;
        if !rows.iter().any(|known| known.name == row.name) {
            rows.push(row);
        }
    }
    let mut text = counts(reports);
    for (group, rows) in groups {
        let shown: Vec<_> = COLUMNS
            .iter()
            .filter(|(column, _)| rows.iter().any(|row| row.results.contains_key(*column)))
            .collect();
        let heads: Vec<_> = shown.iter().map(|(_, words)| *words).collect();
        let _ = write!(text, "\n### {group}\n\n| it | {} |\n", heads.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(shown.len()));
        for row in rows {
            let cells = shown
                .iter()
                .map(|(column, _)| cell(reports, &row.name, column));
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(text, "| {} | {} |", row.words, cells.join(" | "));
        }
    }
    text
}

/// How many rows count, on each version.
fn counts(reports: &[Report]) -> String {
    let lines = reports.iter().map(|(version, rows)| {
        let count = |column: &str, result: &str| {
            let results = rows.iter().filter_map(|row| row.results.get(column));
            results.filter(|found| found.result == result).count()
        };
        format!(
            "* Control groups of {version}: {} attacks; {} get through in a plain container and \
             count, {} cannot be tried there.\n",
            rows.len(),
            count("control", "through"),
            count("control", "impossible"),
        )
    });
    lines.collect()
}

/// What became of an attack in one place, on each version that differs.
fn cell(reports: &[Report], name: &str, column: &str) -> String {
    let found = reports.iter().filter_map(|(version, rows)| {
        let row = rows.iter().find(|row| row.name == name)?;
        Some((version, row.results.get(column)?))
    });
    let found: Vec<_> = found.collect();
    // A column that is tried on one version only is told as such.
    let has_row = |rows: &Vec<Row>| rows.iter().any(|row| row.name == name);
    let tried = reports.iter().filter(|(_, rows)| has_row(rows)).count();
    let words = |outcome: &Outcome| match outcome.result.as_str() {
        "through" => format!("gets through: {}", outcome.how),
        "impossible" => format!("not possible here: {}", outcome.how),
        "given up" => format!("**given up**: {}", outcome.how),
        result => format!("{result}: {}", outcome.how),
    };
    match found.as_slice() {
        [] => String::new(),
        [(_, first), rest @ ..]
            if found.len() == tried && rest.iter().all(|(_, other)| other == first) =>
        {
            words(first)
        }
        all => {
            let each = all
                .iter()
                .map(|(version, outcome)| format!("{version}: {}", words(outcome)));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Row, check, table};

    fn row(control: &str, how: &str) -> Row {
        let outcome = |result: &str, how: &str| Outcome {
            result: result.to_owned(),
            how: how.to_owned(),
        };
        Row {
            group: "Files".to_owned(),
            name: "open".to_owned(),
            words: "opens a file".to_owned(),
            results: [
                ("control".to_owned(), outcome(control, how)),
                ("user".to_owned(), outcome("refused", "EPERM")),
            ]
            .into(),
        }
    }

    #[test]
    fn versions_that_differ_are_told_apart() {
        let one = ("v1".to_owned(), vec![row("impossible", "no file")]);
        let two = ("v2".to_owned(), vec![row("through", "done")]);
        let text = table(&[one, two]);
        let line = "| opens a file | v1: not possible here: no file; v2: gets through: done | \
                    refused: EPERM |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("v2: 1 attacks; 1 get through"), "{text}");
    }

    #[test]
    fn the_checked_in_table_is_current() {
        check(&crate::workspace_root()).expect("current");
    }
}
