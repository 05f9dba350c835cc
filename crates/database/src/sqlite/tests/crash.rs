//! Kills in the middle of commits, and commits of which nobody knows.
//!
//! The test executable runs itself again as the process that is killed; a variable says what that
//! process shall do.

use super::sample::open;
use crate::error::CommitError;
use crate::sqlite::SqliteStore;
use crate::store::Store as _;
use crate::tests::sample::{event, pending, put};
use domain::Timestamp;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

pub(super) const DIRECTORY: &str = "INSULA_TEST_STORE";
const ROUNDS: u64 = 12;
const BATCH: u32 = 20;

/// The directory given to a child; `None` in the test itself.
#[allow(
    clippy::disallowed_methods,
    reason = "a child of the test is told where to work"
)]
pub(super) fn directory_of_child() -> Option<PathBuf> {
    std::env::var(DIRECTORY).ok().map(PathBuf::from)
}

/// A child that ends with this value, also when an assertion fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test executable again, running only the test `name`, which is its role.
pub(super) fn again(name: &str, directory: &Path) -> Command {
    let executable = std::env::current_exe().expect("a path");
    let mut command = process::command(executable);
    command
        .args(["--exact", &format!("sqlite::tests::{name}"), "--nocapture"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

pub(super) fn integrity(store: &SqliteStore) -> String {
    store
        .connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checked")
}

/// The role of the child: commits for ever and says which commits were acknowledged.
#[test]
fn role_commit_for_ever() {
    let Some(directory) = directory_of_child() else {
        return;
    };
    let mut store = open(&directory);
    let mut out = std::io::stdout();
    loop {
        let last = store.last_commit().expect("read");
        let number = u32::try_from(last).expect("small") * BATCH;
        let mut batch: Vec<_> = (number..number + BATCH)
            .map(|each| put(pending(each)))
            .collect();
        batch.push(event(last + 1, None));
        let committed = store.commit(&batch).expect("committed");
        writeln!(out, "committed {committed}").expect("the test reads");
    }
}

/// The number of the last acknowledged commit that `output` tells.
fn last_acknowledged(output: BufReader<ChildStdout>) -> u64 {
    let numbers = output.lines().map_while(Result::ok);
    let numbers = numbers.filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
    numbers.last().unwrap_or(0)
}

#[test]
fn a_kill_at_any_moment_loses_no_acknowledged_commit_and_tears_none() {
    if directory_of_child().is_some() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut before = 0;
    for round in 0..ROUNDS {
        let mut child = Running(
            again("crash::role_commit_for_ever", directory.path())
                .spawn()
                .expect("spawned"),
        );
        let mut output = BufReader::new(child.0.stdout.take().expect("piped"));
        // Kill after a different number of commits each round; where within a commit that is, is
        // up to chance.
        let mut line = String::new();
        let mut seen = before;
        while seen < before + 1 + round * 3 {
            line.clear();
            assert!(
                output.read_line(&mut line).expect("read") > 0,
                "the child ended by itself"
            );
            if let Some(number) = line.trim().strip_prefix("committed ") {
                seen = number.parse().expect("a number");
            }
        }
        child.0.kill().expect("killed");
        let acknowledged = last_acknowledged(output).max(seen);
        drop(child);
        let mut store = open(directory.path());
        let found = store.last_commit().expect("read");
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "{acknowledged} {found}"
        );
        assert_eq!(integrity(&store), "ok");
        let loaded = store.load(Timestamp(0), Timestamp(0)).expect("loaded");
        let sessions = u64::try_from(loaded.sessions.len()).expect("small");
        assert_eq!(sessions, found * u64::from(BATCH), "whole batches only");
        before = found;
    }
}

/// The role of a child whose files cannot grow: the commit fails at its very end.
#[test]
fn role_commit_at_a_file_limit() {
    let Some(directory) = directory_of_child() else {
        return;
    };
    let mut store = open(&directory);
    let batch: Vec<_> = (0..2_000).map(|number| put(pending(number))).collect();
    let error = store.commit(&batch).expect_err("the log cannot grow");
    assert!(matches!(error, CommitError::Unknown { .. }), "{error:?}");
    let error = store
        .commit(&[put(pending(1))])
        .expect_err("nothing was loaded since");
    assert!(matches!(error, CommitError::Refused { .. }), "{error:?}");
    let loaded = store.load(Timestamp(0), Timestamp(0)).expect("loaded");
    assert!(loaded.sessions.is_empty(), "the log held no whole commit");
    assert_eq!(store.commit(&[put(pending(1))]).expect("committed"), 1);
    println!("as expected");
}

#[test]
fn after_an_unknown_result_nothing_is_committed_before_a_load() {
    if directory_of_child().is_some() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path()));
    let itself = again("crash::role_commit_at_a_file_limit", directory.path());
    // 512-byte blocks: no file grows beyond 400 KiB, and trying is an error, not a signal.
    let mut limited = process::command("/bin/sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 800; exec \"$@\"", "sh"]);
    limited.arg(itself.get_program()).args(itself.get_args());
    limited
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::null());
    let output = limited.output().expect("it ran");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && text.contains("as expected"),
        "{text}{errors}"
    );
}
