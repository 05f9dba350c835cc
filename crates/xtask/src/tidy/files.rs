//! How a source file begins, and how long it may be.

use super::LINES_LIMIT;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Files that may be longer, each with its reason. The list only shrinks.
const LONGER: &[(&str, &str)] = &[];

pub(super) fn findings(root: &Path, folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for part in ["src", "tests", "benches", "build.rs"] {
        collect(&folder.join(part), &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        findings.extend(findings_of(&name, &text));
    }
    Ok(findings)
}

fn findings_of(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!(
            "{name}: its first line does not say (`//!`) what it is for"
        ));
    }
    if name.ends_with("/mod.rs") {
        findings.push(format!(
            "{name}: foo.rs stands beside foo/, there is no mod.rs"
        ));
    }
    let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
    let lines = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    let excepted = LONGER.iter().any(|(file, _)| *file == name);
    if lines > LINES_LIMIT && !is_test && !excepted {
        findings.push(format!("{name}: {lines} lines, more than {LINES_LIMIT}"));
    }
    findings
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
        files.push(path.to_path_buf());
    }
    if !path.is_dir() {
        return Ok(());
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    for entry in entries {
        collect(
            &entry
                .with_context(|| format!("cannot list {}", path.display()))?
                .path(),
            files,
        )?;
    }
    Ok(())
}
