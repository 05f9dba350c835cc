//! The rules of the workspace's structure that no compiler knows.
//!
//! * Arrows point down: a crate depends only on crates of a lower level.
//! * Pure crates do not depend on an async runtime, a database or the network.
//! * Only `database` depends on a database.
//! * Each file says in its first line what it is for, and stays within [`LINES_LIMIT`].
//! * No `mod.rs`: `foo.rs` stands beside `foo/`.
//! * Only the crates that touch the kernel allow unsafe code; every crate takes the workspace's
//!   lints.
//! * Mistakes are planted by the simulation only, which nothing depends on.
//! * A snapshot belongs to a test that is there, and none waits for a review.

mod files;
mod levels;
mod snapshots;

use anyhow::Context;
use std::path::{Path, PathBuf};

/// Most lines of a file, tests not counted.
pub(crate) const LINES_LIMIT: usize = 600;

/// A crate, as far as its manifest tells.
#[derive(Clone, Debug)]
struct Crate {
    name: String,
    level: Option<i64>,
    /// Ordinary and build dependencies; tests may use what they like.
    dependencies: Vec<String>,
    /// It takes the workspace's lints.
    linted: bool,
    /// Its manifest names the feature by which mistakes are planted.
    plants: bool,
    folder: PathBuf,
}

/// One line for each rule that is broken, in a stable order.
pub(crate) fn findings(root: &Path) -> anyhow::Result<Vec<String>> {
    let crates = read_crates(root)?;
    let mut findings = levels::findings(&crates);
    for one in &crates {
        findings.extend(files::findings(root, one)?);
        findings.extend(snapshots::findings(root, &one.folder)?);
    }
    findings.extend(files::stale_exceptions(root));
    Ok(findings)
}

fn read_crates(root: &Path) -> anyhow::Result<Vec<Crate>> {
    let folder = root.join("crates");
    let read =
        std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut crates = Vec::new();
    for entry in read {
        let folder = entry.context("cannot list the crates")?.path();
        if folder.join("Cargo.toml").exists() {
            crates.push(read_crate(&folder)?);
        }
    }
    crates.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(crates)
}

fn read_crate(folder: &Path) -> anyhow::Result<Crate> {
    let path = folder.join("Cargo.toml");
    let told = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(told)?;
    let manifest: toml::Table = text.parse().with_context(told)?;
    let package = manifest.get("package").and_then(toml::Value::as_table);
    let name = package
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str);
    let level = package
        .and_then(|package| package.get("metadata")?.get("tidy")?.get("level"))
        .and_then(toml::Value::as_integer);
    let mut dependencies = Vec::new();
    collect_dependencies(&manifest, &mut dependencies);
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    for target in targets.into_iter().flat_map(|targets| targets.values()) {
        if let Some(table) = target.as_table() {
            collect_dependencies(table, &mut dependencies);
        }
    }
    let linted = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool);
    let name = name
        .with_context(|| format!("{} names no package", path.display()))?
        .to_owned();
    Ok(Crate {
        name,
        level,
        dependencies,
        linted: linted.unwrap_or(false),
        plants: text.contains("planted"),
        folder: folder.to_path_buf(),
    })
}

fn collect_dependencies(table: &toml::Table, into: &mut Vec<String>) {
    for kind in ["dependencies", "build-dependencies"] {
        let Some(table) = table.get(kind).and_then(toml::Value::as_table) else {
            continue;
        };
        for (key, value) in table {
            // `package = "..."` is the real name behind a renamed one.
            let renamed = value.get("package").and_then(toml::Value::as_str);
            into.push(renamed.unwrap_or(key).to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
