//! Everything that CI runs, in the order in which a mistake is cheapest to find. The tests come
//! last, and nothing is printed after their summary.

use crate::{
    attacks, crashes, engines, fuzz, guest_v2, licences, mutants, openapi, planted, tidy, tools,
};
use anyhow::{Context, bail};
use std::path::Path;
use std::time::Instant;

/// Only where it is installed; `licences` checks the most important part without it.
const DENY: &[&str] = &["deny", "--offline", "check", "bans", "licenses", "sources"];
const LINTS: &[&str] = &[
    "clippy",
    "--locked",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];
const DOCUMENTATION: &[&str] = &[
    "doc",
    "--locked",
    "--workspace",
    "--no-deps",
    "--document-private-items",
];
/// The sandbox's tests a second time: what this machine has may be version 1.
const GUEST: &str = "sandbox with control groups of version 2, in a virtual machine";
/// The same for attacks, with controls that no machine to be kept could bear.
const ATTACKS: &str = "attacks on sessions, in a virtual machine";
/// Static programs too believe in a machine that really has as many.
const MANY_CPUS: &str = "what sessions are told of a machine with 52 CPUs";
/// What unpacks layers, on a file system that few kernels can mount.
const FOLDING: &str = "layers on a file system that folds case, in a virtual machine";
/// The executable where the service manager divides the control groups.
const SERVICE_MANAGER: &str = "the executable under systemd, in a virtual machine";
const TESTS: &[&str] = &[
    "nextest",
    "run",
    "--locked",
    "--workspace",
    "--profile",
    "ci",
];

/// Runs every step; the first that fails ends it.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    step("tools", tools::install_missing)?;
    step("format", || cargo(root, &["fmt", "--all", "--check"], &[]))?;
    step("structure", || nothing(tidy::findings(root)?))?;
    step("licences", || nothing(licences::findings(root)?))?;
    if is_installed("cargo-deny") {
        step("cargo-deny", || cargo(root, DENY, &[]))?;
    } else {
        println!("── cargo-deny: not installed, passed over");
    }
    step("generated files", || {
        openapi::check(root)?;
        engines::check(root)?;
        attacks::check(root)?;
        crashes::check(root)?;
        mutants::check(root)
    })?;
    step("lints", || cargo(root, LINTS, &[]))?;
    step("documentation", || {
        cargo(root, DOCUMENTATION, &[("RUSTDOCFLAGS", "-D warnings")])
    })?;
    step("planted mistakes", || planted::run(root, &[]))?;
    step("decoders, fuzzed for a short time", || {
        tools::install_for_fuzzing()?;
        fuzz::run(root, &fuzz::Wanted::short())
    })?;
    match guest_v2::prepare(root) {
        Ok(prepared) => {
            step(GUEST, || {
                guest_v2::run(root, &prepared, &guest_v2::Wanted::default())
            })?;
            step(ATTACKS, || {
                guest_v2::run(root, &prepared, &guest_v2::Wanted::attacks())
            })?;
            step(MANY_CPUS, || {
                guest_v2::run(root, &prepared, &guest_v2::Wanted::many_cpus())
            })?;
            step(FOLDING, || {
                guest_v2::run(root, &prepared, &guest_v2::Wanted::folding())
            })?;
            step(SERVICE_MANAGER, || {
                guest_v2::run_with_service_manager(root, &prepared, false)
            })?;
        }
        Err(error) => println!("── {GUEST}: PASSED OVER, the guest cannot be made: {error:#}"),
    }
    println!("── tests, after {:.0?}", began.elapsed());
    // What the tools are for has to be tried: a test that finds nothing to try it with fails.
    let environment = [("CI", "true")];
    cargo(root, TESTS, &environment).context("the step `tests` failed")
}

/// Whether a program is in the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
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
