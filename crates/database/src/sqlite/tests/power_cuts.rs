//! Power cuts: what a disk may hold after one, at any moment, is a store that lost nothing.
//!
//! A process that works with a store is watched by strace, so what is known is what it asked of
//! the kernel, with every other file of the store's directory. Then the disk is built anew as it
//! may be after each of its steps: what was synced is there; of what was not, all, nothing, or any
//! part, down to single sectors. Every such store is opened.

mod disk;
mod trace;

use super::crash::{directory_of_child, integrity};
use super::sample::options;
use crate::MARK_FILE;
use crate::error::OpenError;
use crate::sqlite::{OpenOptions, SqliteStore, open as settings};
use crate::store::{EventScope, PAGE_LIMIT, Retention, Store as _};
use crate::tests::TestStore as _;
use crate::tests::sample::{at, ended, event, pending, put, running, seconds};
use disk::{Chance, Contents, Disk, Survival};
use domain::{SessionId, Timestamp};
use lifecycle::rows::RowChange;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use trace::Step;

const ALWAYS: Timestamp = Timestamp(0);
const STORE: &str = "site.db";
/// Where the process that is watched says what it begins and what it has done.
const TOLD: &str = "told";
/// Set for a process that does not wait for the disk.
const HASTY: &str = "INSULA_TEST_HASTY";
/// Set to try every step; else one in [`SAMPLED`], and those before each sync.
const EVERY_STEP: &str = "INSULA_POWER_CUTS";
const SAMPLED: usize = 40;
/// Changes of the store that are made.
const CHANGES: u32 = 70;
/// Pages in the log after which they are moved into the file: few, so that it happens often.
const LOG_PAGES: u32 = 50;
/// Changes after which the store is closed and opened again.
const REOPENED_AFTER: u32 = 23;

fn open(directory: &Path) -> Result<SqliteStore, OpenError> {
    let options = OpenOptions {
        reserve_bytes: 8 << 10,
        ..options()
    };
    let mut store = SqliteStore::open(&directory.join(STORE), options)?;
    settings::set_log_pages(&store.connection, LOG_PAGES);
    if is_set(HASTY) {
        store.change("PRAGMA synchronous = OFF");
    }
    Ok(store)
}

/// A directory in memory where there is one: each cut's store is synced many times for nothing.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a directory")
}

#[allow(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says how much is tried, and a child what it is"
)]
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

/// Works with a store in `directory`, and tells before and after each change.
fn work(directory: &Path, mut tell: impl FnMut(Told, &mut SqliteStore)) {
    let mut store = open(directory).expect("the store opens");
    tell(Told::Done(0), &mut store);
    for number in 1..=CHANGES {
        if number % REOPENED_AFTER == 0 {
            drop(store);
            store = open(directory).expect("the store opens");
        }
        tell(Told::Begun(number), &mut store);
        change(&mut store, number);
        tell(Told::Done(number), &mut store);
    }
}

/// What the process that works says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Begun(u32),
    Done(u32),
}

/// The change with this number: a new leader, sessions that come, run, end and go, or a prune.
fn change(store: &mut SqliteStore, number: u32) {
    if number.is_multiple_of(19) {
        let limits = Retention {
            events: seconds(5),
            ..Retention::default()
        };
        store.prune(&limits, at(i64::from(number))).expect("pruned");
        return;
    }
    let mut site = store.load(ALWAYS, ALWAYS).expect("loaded").site;
    if number % 11 == 1 {
        site.epoch += 1;
    }
    let mut batch = Vec::new();
    for each in 0..=number % 4 {
        let mut session = pending(number * 10 + each);
        let spec = Arc::make_mut(&mut session.spec);
        let words = "x".repeat(700 * number as usize % 9_000);
        spec.command.push(words);
        batch.push(put(session));
        batch.push(event(site.next_event, None));
        site.next_event += 1;
    }
    for (before, of) in [(1, running as fn(u32) -> _), (3, ended)] {
        if number > before {
            batch.push(put(of((number - before) * 10)));
        }
    }
    if number > 9 {
        let session = SessionId(pending((number - 9) * 10).id.0);
        batch.push(RowChange::DeleteSession { session });
    }
    batch.push(RowChange::PutSite { site });
    store.commit(&batch).expect("committed");
}

/// All that a store holds, and whether it takes itself for an older copy.
fn contents(store: &mut SqliteStore) -> (String, bool) {
    let mut loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    let restored = loaded.restored.take();
    let events = store.events(EventScope::All, 0, PAGE_LIMIT).expect("read");
    let commits = store.last_commit().expect("read");
    let all = format!("{commits} {loaded:?} {events:?}");
    (all, restored.is_some())
}

/// The role of the process that is watched.
#[test]
fn role_work() {
    let Some(directory) = directory_of_child() else {
        return;
    };
    let mut told = File::create(directory.join(TOLD)).expect("a file");
    work(&directory, |word, _| {
        told.write_all(word.line().as_bytes()).expect("written");
    });
}

impl Told {
    fn line(self) -> String {
        match self {
            Self::Begun(number) => format!("begun {number}\n"),
            Self::Done(number) => format!("done {number}\n"),
        }
    }

    fn read(line: &[u8]) -> Self {
        let line = std::str::from_utf8(line).expect("text");
        let (word, number) = line.trim_end().split_once(' ').expect("two words");
        let number = number.parse().expect("a number");
        match word {
            "begun" => Self::Begun(number),
            "done" => Self::Done(number),
            _ => panic!("{line:?}"),
        }
    }
}

/// What a process asked of the kernel that worked in `directory`.
fn watched(directory: &Path, hasty: bool) -> Vec<Step> {
    let trace = tempfile::NamedTempFile::new().expect("a file");
    let role = super::crash::again("power_cuts::role_work", directory);
    let mut strace = process::command("strace");
    strace
        .args(trace::OPTIONS)
        .arg("-o")
        .arg(trace.path())
        .arg("--")
        .arg(role.get_program())
        .args(role.get_args())
        .env(super::crash::DIRECTORY, directory)
        .stdin(Stdio::null());
    if hasty {
        strace.env(HASTY, "1");
    }
    let output = strace
        .output()
        .expect("strace is there: `cargo xtask ci` installs it");
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(trace.path()).expect("it wrote");
    trace::steps(&text, directory)
}

/// What the store holds after each change, the first before any.
fn states() -> Vec<String> {
    let directory = directory();
    let mut states = Vec::new();
    work(directory.path(), |told, store| {
        if let Told::Done(_) = told {
            states.push(contents(store).0);
        }
    });
    states
}

/// The outcome of all power cuts that were tried.
#[derive(Debug, Default)]
struct Tried {
    cuts: u32,
    /// Those after which the store lost something, with what was wrong.
    wrong: Vec<String>,
    /// The numbers of changes that a store came back with.
    found: BTreeSet<usize>,
}

/// Cuts the power at steps of a process that works, and looks at what is left.
fn cut_everywhere(hasty: bool) -> Tried {
    let directory = directory();
    let path = directory.path().canonicalize().expect("it is there");
    let steps = watched(&path, hasty);
    let states = states();
    let every = is_set(EVERY_STEP);
    let mut chance = Chance(1);
    let mut disk = Disk::default();
    let (mut begun, mut done) = (0, None);
    let mut tried = Tried::default();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Told(line) => match Told::read(line) {
                Told::Begun(number) => begun = number as usize,
                Told::Done(number) => done = Some(number as usize),
            },
            step => disk.take(step),
        }
        let before_sync = matches!(steps.get(number + 1), Some(Step::Sync { .. }));
        if !every && !before_sync && number % SAMPLED != 0 {
            continue;
        }
        for survival in Survival::ALL {
            let left = disk.after_cut(survival, &mut chance);
            let expected = states.get(done.unwrap_or(0)..=begun).expect("counted");
            tried.cuts += 1;
            // From then on its name is on the disk.
            let has_mark = done.is_some_and(|number| number > 0) || left.contains_key(MARK_FILE);
            match look(&path, &left, expected, has_mark) {
                Ok(place) => {
                    tried.found.insert(done.unwrap_or(0) + place);
                }
                Err(what) => tried
                    .wrong
                    .push(format!("step {number}, {survival:?}: {what}")),
            }
        }
    }
    tried
}

/// Which of the states the store has that is made of `left`, or what is wrong with it.
fn look(
    directory: &Path,
    left: &Contents,
    expected: &[String],
    has_mark: bool,
) -> Result<usize, String> {
    // The file of the store stays the same one, as it does over a power cut: its mark knows it.
    let elsewhere = self::directory();
    let place = match left.contains_key(STORE) {
        true => directory,
        false => elsewhere.path(),
    };
    for found in fs::read_dir(place).expect("read") {
        let found = found.expect("read");
        let name = found.file_name().into_string().expect("UTF-8");
        if !left.contains_key(&name) {
            fs::remove_file(found.path()).expect("removed");
        }
    }
    for (name, bytes) in left {
        fs::write(place.join(name), bytes).expect("written");
    }
    let mut store = open(place).map_err(|error| format!("it does not open: {error}"))?;
    let checked = integrity(&store);
    if checked != "ok" {
        return Err(checked);
    }
    let (found, restored) = contents(&mut store);
    if restored && has_mark {
        return Err("it takes itself for an older copy".to_owned());
    }
    let same = expected.iter().position(|state| *state == found);
    same.ok_or_else(|| "a change is lost, or a part of one is there".to_owned())
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged() {
    if directory_of_child().is_some() {
        return;
    }
    let tried = cut_everywhere(false);
    println!("{} power cuts, {:?}", tried.cuts, tried.wrong);
    assert!(tried.wrong.is_empty(), "{:#?}", tried.wrong);
    assert_eq!(tried.found.len(), CHANGES as usize + 1, "{:?}", tried.found);
}

/// The control.
#[test]
fn a_store_that_does_not_wait_for_the_disk_loses_something() {
    if directory_of_child().is_some() {
        return;
    }
    let tried = cut_everywhere(true);
    println!("{} of {} power cuts", tried.wrong.len(), tried.cuts);
    assert!(!tried.wrong.is_empty(), "{tried:?}");
}
