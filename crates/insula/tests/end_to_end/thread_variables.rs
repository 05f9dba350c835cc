//! The variables that tell libraries how many threads to start: set to the session's share unless
//! the user or the image sets them, and not needed by who asks in any other way.

use crate::image_sources::{layout, run};
use crate::probes::{ALL, GO, OPENMP, Probe, RUST, told as told_of};
use crate::site::{Site, site};
use std::collections::BTreeMap;
use std::path::Path;

/// What the documents say.
const TRUTH: &str = include_str!("../../../../docs/truth.md");
/// What is asked for as `--cpu`, and what is told of it.
const SHARES: [(&str, usize); 4] = [("1", 1), ("2", 2), ("0.25", 1), ("1.5", 2)];
/// No share of these tests is so much.
const USERS: [(&str, &str); 2] = [("OMP_NUM_THREADS", "3"), ("GOMAXPROCS", "5")];
const INSIDE: &str = "/mnt/probes";

/// The variables of the documents' table.
fn variables() -> Vec<&'static str> {
    let mut rows = TRUTH
        .lines()
        .filter(|line| line.contains("`OMP_NUM_THREADS`"));
    let row = rows.next().expect("a row of variables");
    row.split('`')
        .filter(|word| word.contains('_') || *word == "GOMAXPROCS")
        .collect()
}

/// The shares that this machine has.
fn shares() -> impl Iterator<Item = (&'static str, usize)> {
    let cpus = std::thread::available_parallelism().expect("told").get();
    SHARES.into_iter().filter(move |(_, told)| *told <= cpus)
}

fn told(site: &Site, arguments: &[&str]) -> BTreeMap<String, String> {
    let output = site.ok(&[&["run", "--no-env"], arguments].concat());
    let pairs = output.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn they_tell_the_share_unless_the_user_or_the_image_sets_them() {
    let Some(site) = site() else { return };
    let variables = variables();
    assert!(variables.len() >= 14, "{variables:?}");
    for (cpu, share) in shares() {
        let set = told(&site, &["--cpu", cpu, "--", "env"]);
        for name in &variables {
            assert_eq!(
                set.get(*name),
                Some(&share.to_string()),
                "{name} with {cpu}"
            );
        }
    }
    let users = USERS.map(|(name, value)| format!("{name}={value}"));
    let mine = told(
        &site,
        &[
            "--cpu", "1", "--env", &users[0], "--env", &users[1], "--", "env",
        ],
    );
    layout(&site.work());
    let change = ["config", "--image", "layout:made", "--config.env"];
    for one in &users {
        run("umoci", &[&change[..], &[one]].concat(), &site.work());
    }
    site.ok(&["image", "import", "layout"]);
    let images = ["--image", "made", "--cpu", "1"];
    let images_own = told(&site, &[&images[..], &["--", "env"]].concat());
    for set in [mine, images_own] {
        for name in &variables {
            let own = USERS.iter().find(|(users, _)| users == name);
            let expected = own.map_or("1", |(_, value)| value);
            assert_eq!(set.get(*name).map(String::as_str), Some(expected), "{name}");
        }
    }
    // Who uses both is asked last.
    let both = told(
        &site,
        &[&images[..], &["--env", "GOMAXPROCS=7", "--", "env"]].concat(),
    );
    assert_eq!(both["GOMAXPROCS"], "7");
    assert_eq!(both["OMP_NUM_THREADS"], "3");
}

#[test]
fn programs_hold_to_the_share_with_them_and_without() {
    let Some(site) = site() else { return };
    let made: Vec<_> = ALL
        .iter()
        .filter_map(|probe| Some((*probe, probe.made()?)))
        .collect();
    if made.is_empty() {
        return;
    }
    let mounts: Vec<String> = made
        .iter()
        .map(|(probe, folder)| format!("{}:{INSIDE}/{}:ro", folder.display(), probe.name))
        .collect();
    let scripts = made.iter().map(|(probe, _)| {
        let folder = Path::new(INSIDE).join(probe.name);
        format!("({}) || exit 1\n", probe.script(&folder))
    });
    let asked: String = scripts.collect();
    let unset = format!("unset {}; {asked}", variables().join(" "));
    let mut arguments = vec!["--memory", "512m"];
    for mount in &mounts {
        arguments.extend(["--mount", mount]);
    }
    for (cpu, share) in shares() {
        for script in [&asked, &unset] {
            let command = ["--cpu", cpu, "--", "sh", "-c", script];
            let run = [&["run", "--no-env"], &arguments[..], &command].concat();
            let found = told_of(&site.ok(&run));
            let found: Vec<_> = found
                .iter()
                .filter(|(name, _)| name.starts_with("cpus.") || name.starts_with("threads."))
                .collect();
            let tells = |probe: &&Probe| {
                let mut whom = probe.commands.iter().map(|one| format!(" of {one}"));
                whom.any(|whom| found.iter().any(|(name, _)| name.ends_with(&whom)))
            };
            let mut asked = made.iter().map(|(probe, _)| *probe);
            // Rust rounds by the quota, which is another kind.
            let silent = asked.find(|probe| probe.name != RUST.name && !tells(probe));
            assert!(silent.is_none(), "{silent:?} told nothing: {found:?}");
            let expected = share.try_into().expect("few");
            let wrong: Vec<_> = found
                .iter()
                .filter(|(_, value)| **value != expected)
                .collect();
            assert!(wrong.is_empty(), "{cpu}: {wrong:?}");
        }
    }
    // The control: who sets them is obeyed, so the programs do read them.
    let mut control = vec!["run", "--no-env", "--cpu", "1"];
    let users = USERS.map(|(name, value)| format!("{name}={value}"));
    for one in &users {
        control.extend(["--env", one]);
    }
    control.extend(&arguments);
    control.extend(["--", "sh", "-c", &asked]);
    let found = told_of(&site.ok(&control));
    let is_made = |name: &str| made.iter().any(|(probe, _)| probe.name == name);
    if is_made(OPENMP.name) {
        assert_eq!(found["threads.omp_get_num_threads of ./openmp"], 3);
        assert_eq!(found["cpus.omp_get_num_procs of ./openmp"], 1);
    }
    if is_made(GO.name) {
        assert_eq!(found["threads.GOMAXPROCS of ./machine"], 5);
        assert_eq!(found["cpus.NumCPU of ./machine"], 1);
    }
}
