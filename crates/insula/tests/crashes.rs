//! The crash sweep: the daemon, or the launcher of sandboxes, is killed after each of its effects,
//! and at random; what comes after is looked at from outside, with tools that are not ours.
//!
//! CI kills at one point of each kind. `cargo xtask crashes` kills at all of them, many times, and
//! writes the table of `docs/crashes.md`.

#![allow(
    clippy::print_stdout,
    reason = "a test says why it was skipped, and how far it is"
)]

#[path = "../../agent/tests/agent/fake_engine.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod fake_engine;
#[path = "end_to_end/image_sources.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod image_sources;
#[path = "../../sandbox/tests/sandbox/outside.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod outside;
#[path = "crashes/points.rs"]
mod points;
#[path = "crashes/random.rs"]
mod random;
#[path = "crashes/round.rs"]
mod round;
#[path = "end_to_end/site.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod site;
#[path = "crashes/sweep.rs"]
mod sweep;
#[path = "crashes/thousand.rs"]
mod thousand;
#[path = "crashes/world.rs"]
mod world;

use outside::with_world;
use points::{POINTS, Point};
use round::Rounds;
use site::site;
use std::collections::BTreeSet;
use std::path::Path;

/// The first point of each kind that is quick, for CI.
const SHORT: &[&str] = &[
    "migrate/migrate.applied#4/FirstStart",
    "upload/upload.named/Begin",
    "create/commit.made/Begin",
    "place/place.directory-named/Begin",
    "clone/clone.asked/Begin",
    "clone/clone.let-go-on/Begin",
    "go/go.noted/Begin",
    "stop/stop.ordered/Stop",
    "record/record.written/End",
    "remove/remove.id-remembered/Remove",
    "import/import.kept/Import",
];

/// A seed and a number of kills at random, for CI.
const SHORT_AT_RANDOM: (u64, u32) = (1, 4);

#[test]
fn nothing_is_lost_or_left_when_a_process_is_killed_after_an_effect() {
    if !cfg!(debug_assertions) {
        println!("skipped: this build has no points");
        return;
    }
    with_world(|| {
        let Some(site) = site() else { return };
        let mut rounds = Rounds::new(site);
        rounds.control();
        for label in SHORT {
            let point = POINTS.iter().find(|point| point.label() == *label);
            let point = point.unwrap_or_else(|| panic!("there is no point {label}"));
            println!("{label}: {}", rounds.run(point));
        }
    });
}

#[test]
fn every_point_of_the_sources_is_in_the_sweep_and_every_row_of_it_in_the_sources() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for name in ["agent", "database", "images", "manager", "sandbox"] {
        points_in(&crates.join(name).join("src"), &mut found);
    }
    let once: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(
        once.len(),
        found.len(),
        "a name stands in one place: {found:?}"
    );
    let swept: BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();
    assert_eq!(once, swept);
    let labels: BTreeSet<String> = POINTS.iter().map(Point::label).collect();
    assert_eq!(labels.len(), POINTS.len(), "each row is another one");
}

/// The names in `crash_point("...")` below a directory.
fn points_in(directory: &Path, found: &mut Vec<String>) {
    for path in site::entries(directory) {
        if path.is_dir() {
            points_in(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).expect("a source");
            let calls = text.split("crash_point(\"").skip(1);
            let names = calls.filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn the_whole_sweep_if_it_is_asked_for() {
    let Some(wanted) = sweep::wanted() else {
        println!("skipped: `cargo xtask crashes` asks for it");
        return;
    };
    sweep::run(&wanted);
}

#[test]
fn a_thousand_running_sessions_are_found_again() {
    let found = thousand::recovery(thousand::SESSIONS);
    println!("{} sessions in {} ms", found.sessions, found.milliseconds);
}

#[test]
fn what_runs_and_what_waits_outlive_kills_at_random() {
    let (seed, kills) = sweep::wanted().map_or(SHORT_AT_RANDOM, |all| (all.seed, all.kills));
    with_world(|| random::run(seed, kills));
}
