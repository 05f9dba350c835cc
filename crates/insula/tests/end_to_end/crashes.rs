//! `kill -9` of the daemon at any moment: sessions run on, nothing is lost, nothing leaks.

use crate::site::{Site, eventually, finish, site, text, told};
use std::fs;
use std::path::{Path, PathBuf};

/// Counts to a number, a line each, a hundred a second.
const COUNTER: &str = "i=0; while [ $i -lt $0 ]; do i=$((i+1)); echo line $i; sleep 0.01; done";

fn expected_lines(count: u32) -> String {
    (1..=count).map(|line| format!("line {line}\n")).collect()
}

#[test]
fn ten_that_run_and_five_that_wait_outlive_the_daemon() {
    let Some(site) = site() else { return };
    start_ten_and_five(&site);
    let before = site.processes();
    assert!(before.len() >= 20, "a guest and a command each: {before:?}");
    let members: Vec<PathBuf> = site.members();

    site.kill_daemon();
    let listed = site.json(&["ls", "--json"]);
    let listed = listed["sessions"]
        .as_array()
        .or(listed.as_array())
        .expect("a list")
        .clone();
    let count = |state: &str| listed.iter().filter(|s| s["state"] == state).count();
    assert_eq!((count("running"), count("pending")), (10, 5), "{listed:?}");
    assert_eq!(site.members(), members, "no member was made or lost");
    for session in &listed {
        assert!(
            session["attempt"].as_u64().expect("a number") <= 1,
            "{session}"
        );
    }
    // Those that ran are the same processes still (the shells' short sleeps come and go).
    let after = site.processes();
    let same = before.iter().filter(|pid| after.contains(pid)).count();
    assert!(
        same >= 20,
        "of {} processes only {same} live on",
        before.len()
    );

    site.ok(&["stop", "runs-0"]);
    site.await_state("runs-0", "ended");
    for number in 1..10 {
        fs::write(work_of(&site, &format!("runs-{number}")).join("stop"), "").expect("written");
    }
    for number in 1..10 {
        ends_well_with_all_its_output(&site, &format!("runs-{number}"));
    }
    for number in 0..5 {
        site.await_state(&format!("waits-{number}"), "ended");
    }
    remove_all(&site);
}

/// Ten small sessions that beat until they find a file, and five that want the whole machine.
fn start_ten_and_five(site: &Site) {
    let life =
        "n=0; while [ ! -e stop ]; do n=$((n+1)); echo beat $n; sleep 0.5; done; echo bye $n";
    for number in 0..10 {
        let name = format!("runs-{number}");
        let limits = ["--cpu", "0.01", "--memory", "16m"];
        let mut arguments = vec!["run", "-d", "--name", &name];
        arguments.extend(limits);
        arguments.extend(["--", "sh", "-c", life]);
        site.ok(&arguments);
    }
    let cpus = std::thread::available_parallelism()
        .expect("a number")
        .get()
        .to_string();
    for number in 0..5 {
        let name = format!("waits-{number}");
        site.ok(&[
            "run", "-d", "--name", &name, "--cpu", &cpus, "--memory", "16m", "--", "true",
        ]);
    }
    for number in 0..10 {
        site.await_state(&format!("runs-{number}"), "running");
    }
}

fn ends_well_with_all_its_output(site: &Site, name: &str) {
    site.await_state(name, "ended");
    let shown = site.json(&["show", name, "--json"]);
    assert_eq!(shown["outcome"]["outcome"], "succeeded", "{shown}");
    let log = site.ok(&["logs", name]);
    let beats = log.lines().filter(|line| line.starts_with("beat ")).count();
    let expected: String = (1..=beats).map(|n| format!("beat {n}\n")).collect();
    assert_eq!(log, format!("{expected}bye {beats}\n"));
}

/// The directory that is `/work` of a session's member.
fn work_of(site: &Site, name: &str) -> PathBuf {
    let shown = site.json(&["show", name, "--json"]);
    let member = shown["members"][0]["id"]
        .as_str()
        .expect("a member")
        .to_owned();
    site.home().join("node/members").join(member).join("work")
}

fn remove_all(site: &Site) {
    let listed = site.json(&["ls", "--all", "--json"]);
    let listed = listed["sessions"]
        .as_array()
        .or(listed.as_array())
        .expect("a list")
        .clone();
    for session in &listed {
        site.ok(&["rm", "--force", session["id"].as_str().expect("an id")]);
    }
    eventually("all members are removed", || site.members().is_empty());
    eventually("all cgroups are removed", || site.cgroups().is_empty());
}

#[test]
fn a_foreground_run_loses_not_a_byte() {
    let Some(site) = site() else { return };
    let lines = 600;
    let child = site
        .command(&[
            "run",
            "--name",
            "counts",
            "--",
            "sh",
            "-c",
            COUNTER,
            &lines.to_string(),
        ])
        .spawn()
        .expect("started");
    for beat in [100, 300] {
        crate::streams::await_output(&site, "counts", &format!("line {beat}\n"));
        site.kill_daemon();
    }
    let output = finish(child);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(text(&output.stdout), expected_lines(lines));
}

#[test]
fn killed_while_sessions_start_and_stop() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    for round in 0..8_u32 {
        let name = format!("round-{round}");
        let child = site
            .command(&[
                "run", "--name", &name, "--cpu", "0.1", "--memory", "32m", "--", "sh", "-c",
                COUNTER, "20",
            ])
            .spawn()
            .expect("started");
        // From before the request arrives to after the program runs, in uneven steps.
        std::thread::sleep(std::time::Duration::from_millis(u64::from(
            round * round * 3,
        )));
        site.kill_daemon();
        let output = finish(child);
        assert_eq!(
            text(&output.stdout),
            expected_lines(20),
            "{}",
            told(&output)
        );
        assert!(output.status.success(), "{}", told(&output));
    }
    for round in 0..6_u32 {
        let name = format!("stops-{round}");
        let slow = "trap 'sleep 0.2; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        site.ok(&[
            "run", "-d", "--name", &name, "--cpu", "0.1", "--memory", "32m", "--", "sh", "-c", slow,
        ]);
        crate::streams::await_output(&site, &name, "up");
        let stop = site.command(&["stop", &name]).spawn().expect("started");
        std::thread::sleep(std::time::Duration::from_millis(u64::from(
            round * round * 10,
        )));
        site.kill_daemon();
        finish(stop);
        site.ok(&["stop", &name]);
        site.await_state(&name, "ended");
    }
    remove_all(&site);
}

#[test]
fn two_daemons_cannot_share_a_home() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    let second = site.insula(&["__serve"]);
    assert!(!second.status.success());
    assert!(
        text(&second.stderr).contains("another daemon"),
        "{}",
        told(&second)
    );
    site.ok(&["ls"]);
}

#[test]
fn down_refuses_while_sessions_live_and_can_leave_them() {
    let Some(site) = site() else { return };
    site.ok(&["run", "-d", "--name", "lives", "--", "sleep", "300"]);
    site.await_state("lives", "running");
    let refused = site.insula(&["down"]);
    assert!(!refused.status.success(), "{}", told(&refused));
    assert!(
        text(&refused.stderr).contains("--leave"),
        "{}",
        told(&refused)
    );
    let daemon = site.daemon();
    site.ok(&["down", "--leave"]);
    eventually("the daemon is gone", || !crate::site::is_alive(daemon));
    assert!(!site.processes().is_empty(), "the session runs on");
    assert_eq!(site.state("lives"), "running");
}

#[test]
fn what_a_restored_store_does_not_know_runs_on_until_an_operator_ends_it() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    site.ok(&["down"]);
    let copy = copy_store(&site);
    site.ok(&["run", "-d", "--name", "lost", "--", "sleep", "300"]);
    site.await_state("lost", "running");
    restore_store(&site, &copy);
    let unclaimed = || site.json(&["unclaimed", "--json"])["unclaimed"].clone();
    eventually("it is unclaimed", || unclaimed()[0]["name"] == "lost");
    assert!(site.insula(&["show", "lost"]).status.code() == Some(1));
    assert_eq!(unclaimed()[0]["state"], "running");
    let member = unclaimed()[0]["id"].as_str().expect("its id").to_owned();
    assert!(!site.processes().is_empty(), "it runs on");
    site.ok(&["unclaimed", "stop", &member]);
    eventually("it has ended", || unclaimed()[0]["state"] == "exited");
    site.ok(&["unclaimed", "rm", &member]);
    eventually("it is gone", || {
        unclaimed()[0].is_null() && site.members().is_empty()
    });
    let refused = site.insula(&["unclaimed", "rm", &member]);
    assert!(
        text(&refused.stderr).contains("no node has"),
        "{}",
        told(&refused)
    );
}

#[test]
fn what_waits_in_a_restored_store_goes_on_where_it_was_begun_since() {
    let Some(site) = site() else { return };
    let cpus = std::thread::available_parallelism().expect("a number");
    let cpus = cpus.get().to_string();
    let whole = |name: &str| {
        let limits = ["--cpu", &cpus, "--memory", "16m"];
        let run = ["run", "-d", "--name", name];
        site.ok(&[&run[..], &limits, &["--", "sleep", "300"]].concat());
    };
    whole("first");
    site.await_state("first", "running");
    whole("second");
    assert_eq!(site.state("second"), "pending");
    site.ok(&["down", "--leave"]);
    let copy = copy_store(&site);
    site.ok(&["stop", "first"]);
    site.await_state("second", "running");
    eventually("only its guest and its command live", || {
        site.processes().len() == 2
    });
    let before = site.processes();
    restore_store(&site, &copy);
    eventually("it is taken up", || site.state("second") == "running");
    let shown = site.json(&["show", "second", "--json"]);
    assert_eq!(shown["attempt"], 1, "{shown}");
    assert_eq!(site.processes(), before, "nothing was begun or ended");
    let events = site.ok(&["events"]);
    for told in ["the store was restored", "second is taken up again"] {
        assert!(events.contains(told), "{events}");
    }
    assert_eq!(site.state("first"), "ended", "its node knows better");
    // It has no lost future.
    whole("third");
    assert_eq!(site.state("third"), "pending");
    site.ok(&["stop", "second"]);
    site.await_state("third", "running");
    assert_eq!(site.json(&["show", "third", "--json"])["attempt"], 1);
}

/// A copy of the store of a site that is down.
fn copy_store(site: &Site) -> PathBuf {
    let copy = site.home().join("site.db.copy");
    fs::copy(site.home().join("site.db"), &copy).expect("a copy of the store");
    copy
}

/// The daemon dies, and finds the copy when it comes back.
fn restore_store(site: &Site, copy: &Path) {
    site.kill_daemon();
    for more in ["site.db-wal", "site.db-shm"] {
        let _gone = fs::remove_file(site.home().join(more));
    }
    fs::rename(copy, site.home().join("site.db")).expect("the older store");
}
