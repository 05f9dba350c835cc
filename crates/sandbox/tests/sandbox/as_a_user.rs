//! The whole suite once more as an ordinary user: each test in a process of its own that is not
//! root's, and on version 2 of control groups in one that was handed over to the user.

use super::bench;
use super::ordinary_user::{Lent, OrdinaryUser};
use super::probes::{ALL, INSTALLED_PROBES, PRETENDS, PYTHON};
use sandbox::{GroupVersion, control_groups};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Tests that run at once.
const AT_ONCE: usize = 2;
/// Fewer tests than this would mean that they were not found.
const LEAST_PASSED: usize = 3;
/// Tests whose names begin so run programs of other languages.
const RUN_PROBES: &str = "truth_of_languages::";

/// On version 2 of control groups a user can have limits, and the tests run in a slow machine:
/// these show, beside the conformance cases, what is different there.
fn of_groups(lent: Lent) -> [&'static str; 4] {
    let told = "limits::the_kernel_is_told_the_limits";
    let stands = "pauses::whatever_it_started_stands_still_and_its_guest_goes_on";
    match lent {
        Lent::Nothing => [
            told,
            stands,
            "limits::an_out_of_memory_kill_is_recognised",
            "user::usage_is_told_from_its_processes",
        ],
        Lent::Range => [
            told,
            stands,
            "user::what_a_command_closed_or_others_own_is_removed",
            "user::the_command_is_the_user_and_the_guest_only_where_no_range_is_lent",
        ],
    }
}

#[test]
fn the_suite_passes_as_a_user_who_is_lent_nothing() {
    run_all(Lent::Nothing);
}

#[test]
fn the_suite_passes_as_a_user_with_a_range_of_ids() {
    run_all(Lent::Range);
}

fn run_all(lent: Lent) {
    let Some(user) = OrdinaryUser::make(lent) else {
        return;
    };
    let own = std::env::current_exe().expect("this test");
    let tests = user.install(&own, "tests");
    // Where tests find it that were installed somewhere.
    user.install(&bench::launcher().executable, bench::INSTALLED_LAUNCHER);
    let mut names = names(&user, &tests);
    if control_groups(&bench::group()).version == Some(GroupVersion::Two) {
        let wanted = of_groups(lent);
        names.retain(|name| wanted.contains(&name.as_str()));
    }
    if names.iter().any(|name| name.starts_with(RUN_PROBES)) {
        install_probes(&tests.with_file_name(INSTALLED_PROBES));
    }
    let results: Vec<(String, Result<bool, String>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let names = names.iter().skip(worker).step_by(AT_ONCE);
                let (user, tests) = (&user, &tests);
                scope.spawn(move || {
                    let results = names.map(|name| (name.clone(), run(user, tests, name)));
                    results.collect::<Vec<_>>()
                })
            })
            .collect();
        let results = workers.into_iter().map(|worker| worker.join());
        results.flat_map(|result| result.expect("ran")).collect()
    });
    let failed: Vec<_> = results
        .iter()
        .filter_map(|(name, result)| Some((name, result.as_ref().err()?)))
        .collect();
    for (name, output) in &failed {
        println!("--- {name}\n{output}");
    }
    let failed: Vec<_> = failed.iter().map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = results
        .iter()
        .filter(|(_, result)| *result == Ok(true))
        .count();
    assert!(passed >= LEAST_PASSED, "{results:#?}");
    assert_eq!(user.processes(), [0; 0], "processes are left");
}

/// Copies the programs of [`ALL`] to where the user can run them; of libraries of Python there is
/// too much.
fn install_probes(place: &Path) {
    fs::create_dir(place).expect("made");
    let all = ALL.iter().copied().chain([&PRETENDS]);
    for probe in all.filter(|probe| probe.name != PYTHON.name) {
        let Some(folder) = probe.made() else { continue };
        let copy = place.join(probe.name);
        fs::create_dir(&copy).expect("made");
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            fs::copy(&path, copy.join(name)).expect("copied");
        }
    }
}

/// Every test but the ones in this file, which need root, and those that are measurements.
fn names(user: &OrdinaryUser, tests: &Path) -> Vec<String> {
    let list = |more: &[&str]| {
        let output = user
            .command(tests)
            .args(["--list", "--format", "terse"])
            .args(more)
            .output()
            .expect("it runs");
        let text = String::from_utf8(output.stdout).expect("names");
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let ignored = list(&["--ignored"]);
    let mut names = list(&[]);
    names.retain(|name| !ignored.contains(name) && !name.starts_with("as_a_user::"));
    names
}

/// Whether it ran, or said that it was skipped; its output if it failed.
fn run(user: &OrdinaryUser, tests: &Path, name: &str) -> Result<bool, String> {
    let output = user
        .command_with_groups(tests)
        .args(["--exact", name, "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if !output.status.success() {
        return Err(text);
    }
    Ok(!text.lines().any(|line| line.starts_with("skipped")))
}
