//! The programs that run in the guest: cargo builds them, and tells where they are.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What was built.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// Programs with tests, each with a name of its own.
    pub(super) tests: Vec<(String, PathBuf)>,
    /// Programs that the tests start, by their path on this machine.
    pub(super) programs: Vec<PathBuf>,
}

/// A line of cargo's messages, as far as it matters here: see "External tools" in cargo's book.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// Cargo's directory for everything it makes.
pub(super) fn target_directory(root: &Path) -> anyhow::Result<PathBuf> {
    let options = ["--locked", "--no-deps", "--format-version", "1"];
    let metadata = cargo(root, &[&["metadata"], &options[..]].concat())?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("cannot read what cargo metadata says")?;
    Ok(metadata.target_directory)
}

/// Builds the tests of `package` as `cargo test` does.
pub(super) fn build(root: &Path, package: &str) -> anyhow::Result<Built> {
    let messages = cargo(
        root,
        &[
            "test",
            "--locked",
            "--no-run",
            "--package",
            package,
            "--message-format",
            "json-render-diagnostics",
        ],
    )?;
    let mut built = Built::default();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).context("cannot read cargo's message")?;
        built.take(message);
    }
    if built.tests.is_empty() {
        bail!("cargo built no tests of {package}");
    }
    Ok(built)
}

/// Builds the program of `package`, and tells where it is.
pub(super) fn build_program(root: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let format = "json-render-diagnostics";
    let wanted = ["--package", package, "--message-format", format];
    let messages = cargo(root, &[&["build", "--locked"], &wanted[..]].concat())?;
    let mut built = Built::default();
    for line in messages.lines() {
        built.take(serde_json::from_str(line).context("cannot read cargo's message")?);
    }
    built.programs.pop().context("cargo built no program")
}

/// Runs one of the tests of `program` on this machine, as CI does: it makes what the guest cannot.
pub(super) fn run_here(built: &Built, program: &str, test: &str) -> anyhow::Result<()> {
    let found = built.tests.iter().find(|(name, _)| name == program);
    let (_, path) = found.with_context(|| format!("cargo built no {program}"))?;
    let status = process::command(path)
        .args(["--exact", test, "--nocapture"])
        .env("CI", "true")
        .status()
        .with_context(|| format!("cannot run {}", path.display()))?;
    if !status.success() {
        bail!("{test} ended with {status}");
    }
    Ok(())
}

impl Built {
    fn take(&mut self, message: Message) {
        let (Some(target), Some(executable)) = (message.target, message.executable) else {
            return;
        };
        if message.reason != "compiler-artifact" {
            return;
        }
        let is_test = message.profile.is_some_and(|profile| profile.test);
        let kind = target.kind.first().map_or("", String::as_str);
        match (is_test, kind) {
            (true, _) => self
                .tests
                .push((format!("{}-{kind}", target.name), executable)),
            (false, "bin") => self.programs.push(executable),
            (false, _) => {}
        }
    }
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = process::command("cargo")
        .args(arguments)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} ended with {}", arguments[0], output.status);
    }
    String::from_utf8(output.stdout).context("cargo says what is not text")
}
