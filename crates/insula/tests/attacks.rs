//! The sandbox, attacked: each row of the table in `docs/security.md` is tried in a plain container,
//! where it has to get through, and in sessions, where it must not.
//!
//! The attacks are Python (`attacks/*.py`): the same files run in the plain container, which
//! `attacks/plain.sh` builds in mounts of its own, and in sessions of a real site of root's and of
//! one of an ordinary user. What changes the machine is tried in the plain container only where
//! [`THROWAWAY`] says that the machine is one to be thrown away; there, for it is slow, sessions of
//! root's site are all that is attacked. `cargo xtask attacks` writes the table.

#![allow(
    clippy::print_stdout,
    reason = "a test says why it was skipped, and shows what got through"
)]

#[path = "attacks/outside.rs"]
mod outside;
#[path = "attacks/places.rs"]
mod places;
#[path = "attacks/races.rs"]
mod races;
#[path = "attacks/table.rs"]
mod table;

#[path = "../../sandbox/tests/sandbox/ordinary_user.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod ordinary_user;
#[path = "end_to_end/person.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod person;
#[path = "end_to_end/site.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod site;

use ordinary_user::Lent;
use person::Person;
use places::{Around, Decoy};
use site::{Site, finish_within, site, text, told};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use table::{Column, Table};

/// The machine is one to be thrown away.
const THROWAWAY: &str = "INSULA_TEST_THROWAWAY";
/// Longest that all attacks may take in one place: far above what they need.
const LIMIT: Duration = Duration::from_secs(300);
/// Limits that the attacks on them go beyond.
const LIMITS: &[&str] = &["--pids", "100", "--memory", "160m", "--cpu", "1"];
/// What the node's network gives up is asked for by name.
const OF_THE_NETWORK: &str = "daemons_api,loopback,abstract_socket,enter_the_network,\
     listen_to_packets,raw_socket,change_a_device,events_of_the_kernel,other_families";

#[test]
fn attacks_get_through_in_a_plain_container_and_nowhere_else() {
    let Some(site) = site() else { return };
    let mut table = Table::default();
    if is_thrown_away() {
        run_a_program_for_crashes();
    }
    of_root(&site, &mut table);
    if !is_thrown_away() {
        races::of_downloads(&site, &mut table);
        outside::of_sessions(&site, &mut table);
        of_a_user(&mut table);
    }
    table.finish();
}

/// A node that has a program for crashes, as many have; what it gets, it drops.
fn run_a_program_for_crashes() {
    std::fs::write(
        "/proc/sys/kernel/core_pattern",
        "|/usr/bin/busybox dd of=/dev/null bs=65536",
    )
    .expect("written by root");
}

/// Whether this machine is.
fn is_thrown_away() -> bool {
    std::env::var_os(THROWAWAY).is_some()
}

/// The plain container, and sessions of a site of root's.
fn of_root(site: &Site, table: &mut Table) {
    let around = Around::of_root(site);
    let decoy = Decoy::begin(process::command("/usr/bin/python3"), &around);
    let plain = plain(site, &around, &decoy);
    table.add(Column::Control, &plain);
    let run = |options: &[&str], attacks: &str| {
        let arguments = session(options, &around.told(&decoy, false), attacks);
        finish_within(LIMIT, site.command(&arguments).spawn().expect("it starts"))
    };
    let none = ["--network", "none"];
    table.add(Column::User, &run(&none, ""));
    table.add(Column::Root, &run(&["--network", "none", "--root"], ""));
    if !is_thrown_away() {
        let host = ["--network", "host"];
        table.add(Column::HostNetwork, &run(&host, OF_THE_NETWORK));
    }
    decoy.end();
}

/// Sessions of a site of an ordinary user's, who is the decoy too.
fn of_a_user(table: &mut Table) {
    let Some(person) = Person::new(Lent::Nothing) else {
        return;
    };
    let around = Around::of_person(&person);
    let python = person.user.command("/usr/bin/python3".as_ref());
    let decoy = Decoy::begin(python, &around);
    for (column, options) in [
        (
            Column::Rootless,
            &["--best-effort", "--network", "none"][..],
        ),
        (
            Column::RootlessRoot,
            &["--best-effort", "--network", "none", "--root"],
        ),
    ] {
        let arguments = session(options, &around.told(&decoy, false), "");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let child = person.command(&arguments).spawn().expect("it starts");
        table.add(column, &finish_within(LIMIT, child));
    }
    decoy.end();
    person.ok(&["down", "--stop"]);
}

/// The arguments of a run of the attacks in a session; of those that are named, if any are.
fn session(options: &[&str], situation: &str, attacks: &str) -> Vec<String> {
    let first = ["run", "--no-download", "--no-env"];
    let mut words: Vec<&str> = first.iter().chain(LIMITS).chain(options).copied().collect();
    words.extend(["attack/attacks.py", situation]);
    words.extend((!attacks.is_empty()).then_some(attacks));
    words.into_iter().map(str::to_owned).collect()
}

fn plain(site: &Site, around: &Around, decoy: &Decoy) -> Output {
    let root = site.work().join("plain");
    std::fs::create_dir(&root).expect("made");
    let mut command: Command = process::command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh"])
        .arg(around.programs.join("plain.sh"))
        .arg(&root)
        .arg(&around.programs)
        .arg(around.told(decoy, true))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = finish_within(LIMIT, command.spawn().expect("unshare runs"));
    assert!(output.status.success(), "{}", told(&output));
    // Its mounts have gone with it.
    std::fs::remove_dir(&root).expect("empty");
    output
}

/// The lines that a run of the attacks told.
fn rows(output: &Output) -> Vec<serde_json::Value> {
    assert!(output.status.success(), "{}", told(output));
    let printed = text(&output.stdout);
    let rows = printed.lines().map(serde_json::from_str);
    let rows: Result<Vec<_>, _> = rows.collect();
    rows.unwrap_or_else(|error| panic!("{error}: {}", told(output)))
}
