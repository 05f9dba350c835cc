//! The programs that run in the guest: cargo builds them, and tells where they are.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where tests are in the guest.
pub(super) const INSTALLED: &str = "/guest/tests";

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

/// Whether `filter` takes a test whose name begins with `module`, as the guest's script asks it; an
/// empty one leaves those out.
pub(super) fn are_wanted(built: &Built, filter: &str, module: &str) -> anyhow::Result<bool> {
    if filter.is_empty() {
        return Ok(false);
    }
    let mut lines = String::new();
    for (program, path) in &built.tests {
        let output = process::command(path)
            .args(["--list", "--format", "terse"])
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let listed = String::from_utf8_lossy(&output.stdout);
        let listed = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"));
        for test in listed.filter(|test| test.starts_with(module)) {
            lines.push_str(&format!("{INSTALLED}/{program} {test}\n"));
        }
    }
    matches(filter, &lines)
}

/// An extended regular expression matches one of `lines`.
fn matches(filter: &str, lines: &str) -> anyhow::Result<bool> {
    let mut grep = process::command("grep");
    let grep = grep.args(["-qE", "-e", filter]);
    let mut grep = grep
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run grep")?;
    let mut input = grep.stdin.take().context("grep has no input")?;
    match input.write_all(lines.as_bytes()) {
        // It has found one.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to grep")?,
    }
    drop(input);
    match grep.wait().context("cannot wait for grep")?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("grep does not take the filter `{filter}`"),
    }
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

#[cfg(test)]
mod unit {
    use super::matches;

    #[test]
    fn a_filter_is_taken_as_the_guest_takes_it() {
        let line = "/guest/tests/sandbox-test truth_of_languages::c_is_told_the_share\n";
        let many = super::super::Wanted::many_cpus().filter;
        for (filter, is_match) in [
            ("truth", true),
            ("truth_of_languages::c", true),
            ("told_the_share", true),
            (&many, true),
            ("", true),
            ("limits::", false),
            (" truth::", false),
            ("-e", false),
        ] {
            let found = matches(filter, line).expect("grep");
            assert_eq!(found, is_match, "{filter}");
        }
        assert!(matches("(", line).is_err(), "it is no expression");
        assert!(!matches("", "").expect("grep"));
    }
}
