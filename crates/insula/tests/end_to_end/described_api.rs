//! The API against its own description: schemathesis makes requests that the description allows
//! and requests that it does not, and looks at every answer. Nothing may be answered with a
//! failure of the site, or in a way that is not described.
//!
//! What its check `positive_data_acceptance` asks for is not promised: a description cannot say
//! that a query has no further fields, or that a session is there.

use crate::site::{Site, finish_within, site, text, told};
use rustix::fs::{FlockOperation, flock};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Pinned: each version looks at more.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/public.json");
/// Set to a number of seconds, it also makes requests up, which no two runs do alike. Without, it
/// makes those that follow from the description, the same in each run.
const MAKES_UP: &str = "INSULA_API_SECONDS";
const LIMIT: Duration = Duration::from_secs(240);
/// Bodies that are no JSON are sent as they are.
const HOOKS: &str = "\
import schemathesis

@schemathesis.serializer('application/x-tar')
def tar(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
";

#[test]
fn every_answer_is_described() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    ask(&site, &["--exclude-path-regex", "^/api/v1/shutdown$"], None);
    site.ok(&["ls"]);
}

#[test]
fn every_answer_about_what_is_there_is_described() {
    let Some(site) = site() else { return };
    let small = ["--cpu", "0.01", "--memory", "16m"];
    let life = ["--", "sh", "-c", "echo out; echo err >&2; sleep 600"];
    let run = ["run", "-d", "--name", "lives"];
    site.ok(&[&run[..], &small, &life].concat());
    let run = ["run", "-d", "--name", "many", "--array", "1-3"];
    site.ok(&[&run[..], &small, &life].concat());
    site.await_state("lives", "running");
    // Else nothing would be there soon, or an answer would go on for as long as the session.
    let only = [
        "--exclude-path-regex",
        "/(stop|signal|shutdown|stdin|drain|events)$",
        "--exclude-method",
        "DELETE",
    ];
    let named =
        "[parameters]\nsession = \"lives\"\narray = \"many\"\nimage = \"host\"\nfollow = false\n";
    ask(&site, &only, Some(named));
    assert_eq!(site.state("lives"), "running");
}

/// Asks, and fails with what was found.
#[allow(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says for how long requests are made up"
)]
fn ask(site: &Site, which: &[&str], settings: Option<&str>) {
    let program = schemathesis();
    let read = |name: &str| fs::read_to_string(site.home().join(name)).expect("the site is up");
    let daemon: serde_json::Value = serde_json::from_str(&read("daemon.json")).expect("JSON");
    let address = daemon["address"].as_str().expect("it listens").to_owned();
    let work = site.work();
    fs::write(work.join("hooks.py"), HOOKS).expect("written");
    let settings = settings.unwrap_or_default();
    fs::write(work.join("schemathesis.toml"), settings).expect("written");
    let key = format!("Authorization: Bearer {}", read("api-key").trim());
    let seconds = std::env::var(MAKES_UP).ok();
    let phases = match &seconds {
        Some(seconds) => vec!["--phases", "coverage,fuzzing", "--max-time", seconds],
        None => vec!["--phases", "coverage"],
    };
    let mut command = process::command(&program);
    command
        .args(["run", DESCRIPTION, "--url", &address, "--header", &key])
        .args(["--checks", "all"])
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(&phases)
        .args(["--seed", "1", "--request-timeout", "10"])
        .args(["--continue-on-failure", "--no-color"])
        .args(which)
        .current_dir(&work)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", &work)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = finish_within(LIMIT, command.spawn().expect("it starts"));
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", told(&output));
    assert!(said.contains("generated"), "it asked something: {said}");
}

/// The program, in an environment of its own that is made once.
fn schemathesis() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    fs::create_dir_all(&place).expect("a directory");
    let lock = fs::File::create(place.join("lock")).expect("a file");
    flock(&lock, FlockOperation::LockExclusive).expect("the other test makes it");
    let environment = place.join(SCHEMATHESIS.replace("==", "-"));
    let program = environment.join("bin/schemathesis");
    let complete = environment.join("complete");
    if !complete.exists() {
        let mut make = process::command("python3");
        run(make.args(["-m", "venv", "--clear"]).arg(&environment));
        let mut install = process::command(environment.join("bin/pip"));
        run(install.args(["install", "-q", "--disable-pip-version-check", SCHEMATHESIS]));
        fs::write(&complete, "").expect("written");
    }
    program
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", told(&output));
}
