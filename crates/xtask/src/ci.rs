//! Everything that CI runs, in the order in which a mistake is cheapest to find.

use crate::{engines, licences, openapi, tidy};
use anyhow::{Context, bail};
use std::path::Path;
use std::time::Instant;

/// Runs every step; the first that fails ends it.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    step("format", || cargo(root, &["fmt", "--all", "--check"], &[]))?;
    step("structure", || nothing(tidy::findings(root)?))?;
    step("licences", || nothing(licences::findings(root)?))?;
    step("generated files", || {
        openapi::check(root)?;
        engines::check(root)
    })?;
    let lints = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    step("lints", || cargo(root, &lints, &[]))?;
    let docs = [
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    step("documentation", || {
        cargo(root, &docs, &[("RUSTDOCFLAGS", "-D warnings")])
    })?;
    step("tests", || {
        cargo(root, &["nextest", "run", "--locked", "--workspace"], &[])
    })?;
    println!("all is well after {:.0?}", began.elapsed());
    Ok(())
}

fn step(name: &str, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("── {name}");
    let began = Instant::now();
    act().with_context(|| format!("the step `{name}` failed"))?;
    println!("── {name}: done in {:.1?}", began.elapsed());
    Ok(())
}

fn nothing(findings: Vec<String>) -> anyhow::Result<()> {
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("{} findings", findings.len())
    }
}

fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let status = process::command("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot run cargo {}", arguments[0]))?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
