//! Snapshots: each belongs to a test that is there.

use super::files::collect;
use anyhow::Context;
use std::path::{Path, PathBuf};

pub(super) fn findings(root: &Path, folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in snapshots(folder)? {
        let path = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
        if let Some(finding) = finding(root, &path, &text) {
            findings.push(format!("{path}: {finding}"));
        }
    }
    Ok(findings)
}

/// Every snapshot below `folder`, accepted or waiting.
fn snapshots(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in ["src", "tests"] {
        for extension in ["snap", "new", "pending-snap"] {
            collect(&folder.join(part), extension, &mut files)?;
        }
    }
    files.sort();
    Ok(files)
}

/// What is wrong with the snapshot at `path`, which holds `text`.
fn finding(root: &Path, path: &str, text: &str) -> Option<&'static str> {
    let Some(name) = path.rsplit('/').next()?.strip_suffix(".snap") else {
        return Some("it waits for a review");
    };
    let source = text.lines().find_map(|line| line.strip_prefix("source: "));
    let source = source.map(|source| source.trim_matches('"'));
    if source.is_some_and(|source| source.starts_with("..") || source.starts_with('/')) {
        return Some("its source lies outside the workspace");
    }
    let source = source.and_then(|source| std::fs::read_to_string(root.join(source)).ok());
    let Some(source) = source else {
        return Some("its source is gone");
    };
    let name = name.rsplit("__").next().unwrap_or(name);
    if names(name).iter().any(|name| source.contains(name)) {
        None
    } else {
        Some("no test of its source makes it")
    }
}

/// How the source may give the name of a snapshot: as it is; with a count, which the second one
/// of a test gets; or with a part that is filled in.
fn names(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if let Some((first, last)) = name.rsplit_once('-') {
        if last.parse::<u32>().is_ok() {
            names.push(first.to_owned());
        }
        names.push(format!("\"{first}-{{"));
    }
    names
}
