//! How a source file begins, how long it may be, and what it must not hold.

use super::{Crate, LINES_LIMIT};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Files that may be longer, each with its reason. The list only shrinks.
const LONGER: &[(&str, &str)] = &[];
/// Crates that touch the kernel or a foreign ABI.
const UNSAFE_CRATES: &[&str] = &["guest", "process", "sandbox"];
/// Written in two parts, so that this file does not hold it.
const ALLOW_UNSAFE: &str = concat!("allow(", "unsafe_code");
/// What begins a statement of SQL in a text, each in two parts for the same reason.
const SQL: &[&str] = &[
    concat!("\"SELECT", " "),
    concat!("INSERT", " INTO "),
    concat!("DELETE", " FROM "),
    concat!("CREATE", " TABLE "),
];
const SQL_CRATE: &str = "database";

pub(super) fn findings(root: &Path, one: &Crate) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for part in ["src", "tests", "benches", "build.rs"] {
        collect(&one.folder.join(part), "rs", &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let path = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        let found = shape(&path, &text)
            .into_iter()
            .chain(contents(&one.name, &text));
        findings.extend(found.map(|finding| format!("{path}: {finding}")));
    }
    Ok(findings)
}

fn shape(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push("its first line does not say (`//!`) what it is for".to_owned());
    }
    if path.ends_with("/mod.rs") {
        findings.push("foo.rs stands beside foo/, there is no mod.rs".to_owned());
    }
    let lines = lines_without_tests(text);
    let excepted = LONGER.iter().any(|(file, _)| *file == path);
    if lines > LINES_LIMIT && !is_test(path) && !excepted {
        findings.push(format!("{lines} lines, more than {LINES_LIMIT}"));
    }
    findings
}

fn contents(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if text.contains(ALLOW_UNSAFE) && !UNSAFE_CRATES.contains(&name) {
        findings.push(format!("{name} is not a crate that may hold unsafe code"));
    }
    if name != SQL_CRATE && SQL.iter().any(|sql| text.contains(sql)) {
        findings.push(format!("it holds SQL: only {SQL_CRATE} does"));
    }
    findings
}

/// Lines up to the tests, if there are any: those in the file stand at its end.
fn lines_without_tests(text: &str) -> usize {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Exceptions that nothing needs any more: the list only shrinks, and by itself.
pub(super) fn stale_exceptions(root: &Path) -> Vec<String> {
    stale(root, LONGER)
}

fn stale(root: &Path, exceptions: &[(&str, &str)]) -> Vec<String> {
    let needed = |path: &str| {
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        lines_without_tests(&text) > LINES_LIMIT
    };
    exceptions
        .iter()
        .filter(|(path, _)| !needed(path))
        .map(|(path, _)| format!("{path}: it needs no exception from the length any more"))
        .collect()
}

/// Adds the files below `path` whose names end in `.` and `extension`.
pub(super) fn collect(
    path: &Path,
    extension: &str,
    files: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    if path.extension().is_some_and(|found| found == extension) && path.is_file() {
        files.push(path.to_path_buf());
    }
    if !path.is_dir() {
        return Ok(());
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
        collect(&entry.path(), extension, files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::stale;

    #[test]
    fn an_exception_that_is_not_needed_fails() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::write(root.path().join("short.rs"), "//! Short.\n").expect("written");
        std::fs::write(root.path().join("long.rs"), "// line\n".repeat(700)).expect("written");
        let exceptions = [
            ("short.rs", "it was long"),
            ("long.rs", "a table"),
            ("gone.rs", ""),
        ];
        let found = stale(root.path(), &exceptions);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
