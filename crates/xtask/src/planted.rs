//! Mistakes planted into the cores on purpose: the simulation has to find each, and the executable
//! has none.

use anyhow::{Context, bail};
use std::path::Path;

/// The feature that turns them on.
const FEATURE: &str = "planted";

/// Plants each mistake into simulated sites; fails if one is not found.
pub(crate) fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    if is_in_tree(root, &["--package", "insula"])? {
        bail!("the executable is built with planted mistakes");
    }
    // A tree that has it, so that the look above is known to see it.
    if !is_in_tree(root, &["--package", "simulation", "--features", "planted"])? {
        bail!("`cargo tree` does not show the feature of planted mistakes where it is on");
    }
    let program = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "simulation",
        "--features",
        "planted",
        "--bin",
        "planted",
        "--",
    ];
    let status = process::command("cargo")
        .current_dir(root)
        .args(program)
        .args(words)
        .status()
        .context("cannot run cargo")?;
    if status.success() {
        return Ok(());
    }
    bail!("a planted mistake was not found")
}

fn is_in_tree(root: &Path, of: &[&str]) -> anyhow::Result<bool> {
    let output = process::command("cargo")
        .args(["tree", "--locked", "--prefix", "none", "--format", "{f}"])
        .args(of)
        .current_dir(root)
        .output()
        .context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!(
            "cargo tree failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let mut features = lines.lines().flat_map(|line| line.split([',', ' ']));
    Ok(features.any(|feature| feature == FEATURE))
}
