//! The project's own commands: `cargo xtask ci | tidy | openapi | engines | attacks | crashes |
//! fuzz | guest-v2 | simulate | planted | mutants`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal"
)]

mod attacks;
mod ci;
mod crashes;
mod engines;
mod fuzz;
mod generated;
mod guest_v2;
mod licences;
mod mutants;
mod openapi;
mod planted;
mod tidy;
mod tools;

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci                 everything CI runs: format, lints, docs, structure, licences,
                     generated files, tests
  tidy               checks the structure: levels, file sizes, first lines, licences
  openapi [--check]  writes openapi/public.json, or tells whether it is current
  engines [--check]  writes docs/engines.md, or tells whether it is current
  attacks [--check|--table]
                     tries every attack on the sandbox, here and in a virtual machine with control
                     groups of version 2, and writes the table of docs/security.md; or tells
                     whether the table is what was found last, or makes it so
  crashes [--kills N] [--point PART] [--seed S] [--json]
                     kills the daemon or the launcher after each of its effects and at random, and
                     writes the table of docs/crashes.md; with --point only rows whose
                     KIND/POINT/SCENE has PART, and no table
  crashes --check    tells whether the table is what was found last
  fuzz [TARGET] [--seconds N]
                     runs the targets of fuzz/, or one of them, guided by coverage, for a minute or
                     N seconds each
  guest-v2 [--kvm] [--cpus N] [--package NAME] [FILTER | -- COMMAND]
                     runs the tests of a package (the sandbox's; those that match FILTER, a regular
                     expression) or a command of a shell, as root in a virtual machine with
                     control groups of version 2
  simulate [--seeds N] [--hours H] [--seed N] ...
                     simulates whole sites from seeds, see `simulate --help`
  planted [--only NAME] ...
                     plants mistakes into the cores, which the simulation has to find, see
                     `planted --help`
  mutants [--package NAME] [--part K/N]
                     changes the cores in one place at a time, runs their tests, and writes the tables
                     of docs/mutants.md: of `scheduler`, `lifecycle` or both, or part K (from 0) of N
  mutants --survivors [--package NAME]
                     tries those again that survived, after tests were written for them
  mutants --check    tells whether the tables are what was found last, and each survivor has a reason
  guest-v2 --systemd [--kvm]
                     runs the executable as a user of a Debian with systemd, in such a machine

Exit codes: 0 all is well, 1 a check failed, 2 the command is not known.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root();
    let done = match words.as_slice() {
        ["ci"] => ci::run(&root),
        ["attacks"] => attacks::run(&root),
        ["attacks", "--check"] => attacks::check(&root),
        ["attacks", "--table"] => attacks::write(&root),
        ["crashes", "--check"] => crashes::check(&root),
        ["crashes", rest @ ..] => crashes::run(&root, rest),
        ["tidy"] => tidy_and_licences(&root),
        ["openapi"] => openapi::write(&root),
        ["openapi", "--check"] => openapi::check(&root),
        ["engines"] => engines::write(&root),
        ["engines", "--check"] => engines::check(&root),
        ["simulate", rest @ ..] => simulate(&root, rest),
        ["planted", rest @ ..] => planted::run(&root, rest),
        ["mutants", "--check"] => mutants::check(&root),
        ["mutants", rest @ ..] => mutants::run(&root, rest),
        ["fuzz", rest @ ..] => fuzz(&root, rest),
        ["guest-v2", "--systemd", rest @ ..] => guest_with_service_manager(&root, rest),
        ["guest-v2", rest @ ..] => guest(&root, rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace's Cargo.toml.
fn workspace_root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .ancestors()
        .nth(2)
        .expect("the crate lies in crates/ of the workspace")
        .into()
}

/// `cargo xtask simulate`: the crate's own program, with the assertions of the cores.
fn simulate(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let program = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "simulation",
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
    bail!("a promise was broken")
}

/// `cargo xtask fuzz`.
fn fuzz(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut wanted = fuzz::Wanted {
        target: None,
        seconds: fuzz::SECONDS,
    };
    let mut words = words;
    loop {
        match words {
            [] => break,
            ["--seconds", seconds, rest @ ..] => {
                let parsed = seconds.parse().ok().filter(|seconds| *seconds > 0);
                let problem = || format!("`{seconds}` is no number of seconds");
                wanted.seconds = parsed.with_context(problem)?;
                words = rest;
            }
            [target, rest @ ..] if wanted.target.is_none() && !target.starts_with('-') => {
                wanted.target = Some((*target).to_owned());
                words = rest;
            }
            [word, ..] => bail!("`{word}` is not understood; see `cargo xtask`"),
        }
    }
    tools::install_for_fuzzing()?;
    fuzz::run(root, &wanted)
}

/// `cargo xtask guest-v2`.
fn guest(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut wanted = guest_v2::Wanted::default();
    let mut words = words;
    loop {
        match words {
            ["--kvm", rest @ ..] => {
                wanted.with_kvm = true;
                words = rest;
            }
            ["--cpus", cpus, rest @ ..] => {
                wanted.cpus = cpus.parse().context("--cpus takes a number")?;
                words = rest;
            }
            ["--package", package, rest @ ..] => {
                wanted.package = (*package).to_owned();
                words = rest;
            }
            ["--", command @ ..] => {
                wanted.command = Some(command.join(" "));
                break;
            }
            filter => {
                wanted.filter = filter.join(" ");
                break;
            }
        }
    }
    let prepared = guest_v2::prepare(root).context("the guest cannot be made")?;
    guest_v2::run(root, &prepared, &wanted)
}

/// `cargo xtask guest-v2 --systemd`.
fn guest_with_service_manager(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let with_kvm = match words {
        [] => false,
        ["--kvm"] => true,
        _ => bail!("after --systemd there can only be --kvm"),
    };
    let prepared = guest_v2::prepare(root).context("the guest cannot be made")?;
    guest_v2::run_with_service_manager(root, &prepared, with_kvm)
}

/// `cargo xtask tidy`.
fn tidy_and_licences(root: &Path) -> anyhow::Result<()> {
    let mut findings = tidy::findings(root).context("cannot look at the workspace")?;
    findings.extend(licences::findings(root)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    println!("tidy: nothing to complain about");
    Ok(())
}
