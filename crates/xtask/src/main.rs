//! The project's own commands: `cargo xtask ci | tidy | openapi | engines`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal"
)]

mod ci;
mod engines;
mod generated;
mod licences;
mod openapi;
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

Exit codes: 0 all is well, 1 a check failed, 2 the command is not known.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root();
    let done = match words.as_slice() {
        ["ci"] => ci::run(&root),
        ["tidy"] => tidy_and_licences(&root),
        ["openapi"] => openapi::write(&root),
        ["openapi", "--check"] => openapi::check(&root),
        ["engines"] => engines::write(&root),
        ["engines", "--check"] => engines::check(&root),
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
