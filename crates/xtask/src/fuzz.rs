//! Fuzzing guided by coverage, on the stable toolchain: the targets of `fuzz/` with libFuzzer.
//!
//! ```text
//!  target/fuzz/                  what is built
//!  target/fuzz/artifacts/TARGET  inputs that broke a promise
//! ```
//! cargo-fuzz does the same and needs a nightly toolchain, for the address sanitizer. What the
//! decoders promise are assertions, which need none; the counters that guide the fuzzer are a pass
//! of the compiler that every toolchain has.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Instant;

/// Where the targets are.
const FOLDER: &str = "fuzz";
/// The toolchain's own triple is named, so that build scripts and macros are not instrumented.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Counters of edges and tables of them, as libFuzzer reads them, and comparisons, by which it
/// finds numbers and words that the program looks for. One unit of code generation for each crate:
/// a table is lost where another unit has the function.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// What the build is to find as it was, whatever runs this.
const CLEARED: &[&str] = &["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET"];
/// Seconds for each target if nobody says.
pub(crate) const SECONDS: u32 = 60;
/// Seconds for each target in CI.
const SHORT_SECONDS: u32 = 10;
/// Most seconds for one input: decoders take milliseconds.
const INPUT_SECONDS: u32 = 20;
/// Most memory of a target, in MiB. Their limits keep them far below.
const MEMORY_MIB: u32 = 2_048;
/// Lines of a failure that are shown.
const LINES_SHOWN: usize = 40;

/// What to run.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Only this target.
    pub(crate) target: Option<String>,
    /// Seconds for each.
    pub(crate) seconds: u32,
}

impl Wanted {
    /// Every target, for as long as each run of CI can wait.
    pub(crate) fn short() -> Self {
        Self {
            target: None,
            seconds: SHORT_SECONDS,
        }
    }
}

/// A message of cargo's: a program was built.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Builds the targets and runs each for a time. Fails if one of them breaks a promise.
pub(crate) fn run(root: &Path, wanted: &Wanted) -> anyhow::Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("it is made for x86_64 only");
    }
    let place = root.join("target/fuzz");
    let began = Instant::now();
    let programs = build(root, &place, wanted.target.as_deref())?;
    println!("built after {:.0?}", began.elapsed());
    let mut failed = Vec::new();
    for program in &programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let corpus = root.join(FOLDER).join("corpus").join(name.as_ref());
        let artifacts = place.join("artifacts").join(name.as_ref());
        if !run_target(program, &corpus, &artifacts, wanted.seconds)? {
            failed.push(name.into_owned());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} broke a promise", failed.join(", "))
}

/// Builds one target, or all; their programs.
fn build(root: &Path, place: &Path, target: Option<&str>) -> anyhow::Result<Vec<PathBuf>> {
    let mut command = process::command("cargo");
    for name in CLEARED {
        command.env_remove(name);
    }
    command
        .args(["build", "--locked", "--release", "--target", TRIPLE])
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(root.join(FOLDER).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(place)
        .env("RUSTFLAGS", FLAGS.join(" "))
        .current_dir(root)
        .stderr(Stdio::inherit());
    match target {
        Some(target) => command.args(["--bin", target]),
        None => command.arg("--bins"),
    };
    let output = command.output().context("cannot run cargo build")?;
    if !output.status.success() {
        bail!(
            "cargo build of the fuzz targets ended with {}",
            output.status
        );
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).context("cannot read cargo's message")?;
        programs.extend(message.executable);
    }
    programs.sort();
    if programs.is_empty() {
        bail!("cargo built no fuzz target");
    }
    Ok(programs)
}

/// Whether it kept its promises. What the fuzzer adds to the corpus goes into a directory that is
/// removed: the tree stays as it is.
fn run_target(
    program: &Path,
    corpus: &Path,
    artifacts: &Path,
    seconds: u32,
) -> anyhow::Result<bool> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let inputs = fs::read_dir(corpus).map_or(0, Iterator::count);
    if inputs == 0 {
        bail!("{name} has no corpus in {}", corpus.display());
    }
    fs::create_dir_all(artifacts)
        .with_context(|| format!("cannot make {}", artifacts.display()))?;
    let found = tempfile::tempdir().context("cannot make a directory for what is found")?;
    let mut command = process::command(program);
    // Where the words of a format are told, it need not come upon them by chance.
    let dictionary = corpus.parent().and_then(Path::parent);
    let dictionary = dictionary.map(|fuzz| fuzz.join(format!("dictionaries/{name}.dict")));
    if let Some(path) = dictionary.filter(|path| path.exists()) {
        command.arg(format!("-dict={}", path.display()));
    }
    let output = command
        .arg(found.path())
        .arg(corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        // A name that ends with a slash is a directory.
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let told = Told::of(&output);
    if output.status.success() {
        println!(
            "{name}: {} inputs in {seconds} s, {} of them new, {} edges",
            told.number("stat::number_of_executed_units:"),
            told.number("stat::new_units_added:"),
            told.edges()
        );
        return Ok(true);
    }
    println!("{}", told.end());
    println!("{name}: BROKE A PROMISE ({})", output.status);
    if let Some(path) = told.artifact() {
        println!("  the input:     {path}");
        println!("  to see it:     {} {path}", program.display());
        println!(
            "  to shorten it: {} -minimize_crash=1 {path}",
            program.display()
        );
    }
    Ok(false)
}

/// What libFuzzer says on its standard error.
struct Told(String);

impl Told {
    fn of(output: &Output) -> Self {
        Self(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The word behind `label` on the last line that begins with it.
    fn number(&self, label: &str) -> &str {
        let lines = self.0.lines().rev();
        let mut found = lines.filter_map(|line| line.strip_prefix(label));
        found.next().map_or("?", str::trim)
    }

    /// Edges that were reached, by the last line that tells: `#9 DONE cov: 7 ft: ...`.
    fn edges(&self) -> &str {
        let mut lines = self.0.lines().rev();
        let told = lines.find_map(|line| line.split_once(" cov: "));
        let word = told.and_then(|(_, rest)| rest.split_ascii_whitespace().next());
        word.unwrap_or("?")
    }

    /// The file that it wrote for the input.
    fn artifact(&self) -> Option<&str> {
        let mut lines = self.0.lines();
        lines.find_map(|line| Some(line.split_once("Test unit written to ")?.1.trim()))
    }

    /// The last lines.
    fn end(&self) -> String {
        let lines: Vec<&str> = self.0.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn what_the_fuzzer_says_is_read() {
        let told = Told(
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb\n\
             #9\tDONE   cov: 345 ft: 400 corp: 9/40b lim: 4 exec/s: 3 rss: 41Mb\n\
             artifact_prefix='/a/'; Test unit written to /a/crash-00ff\n\
             stat::number_of_executed_units: 90210\n"
                .to_owned(),
        );
        assert_eq!(told.edges(), "345");
        assert_eq!(told.number("stat::number_of_executed_units:"), "90210");
        assert_eq!(told.number("stat::new_units_added:"), "?");
        assert_eq!(told.artifact(), Some("/a/crash-00ff"));
        assert!(told.end().starts_with("#2"));
    }
}
