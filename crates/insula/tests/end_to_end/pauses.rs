//! Sessions stand still and go on, whatever dies meanwhile.

use crate::site::{Site, eventually, site, text, told};
use crate::streams::await_output;

/// Counts, a line each, until it is told to end; then it says so.
const COUNTER: &str = "trap 'echo bye; exit 0' TERM; n=0; \
                       while :; do n=$((n+1)); echo line $n; sleep 0.02; done";

fn start(site: &Site, name: &str) {
    site.ok(&[
        "run", "-d", "--name", name, "--cpu", "0.1", "--memory", "16m", "--", "sh", "-c", COUNTER,
    ]);
    await_output(site, name, "line 5");
}

fn lines(site: &Site, name: &str) -> usize {
    site.ok(&["logs", name]).lines().count()
}

/// Waits until it has written more.
fn writes_on(site: &Site, name: &str) {
    let before = lines(site, name);
    eventually("it writes on", || lines(site, name) >= before + 5);
}

/// Whether its node has told that it stands still.
fn is_paused(site: &Site, name: &str) -> bool {
    let shown = site.json(&["show", name, "--json"]);
    assert_eq!(shown["state"], "running", "{shown}");
    shown["paused"]["in_force"] == true
}

/// `name` writes nothing while `other` does.
fn stands_still(site: &Site, name: &str, other: &str) {
    let stood = lines(site, name);
    writes_on(site, other);
    assert_eq!(lines(site, name), stood, "it stands still");
}

#[test]
fn a_paused_session_stands_still_over_the_death_of_the_daemon() {
    let Some(site) = site() else { return };
    start(&site, "count");
    start(&site, "other");
    assert_eq!(site.ok(&["pause", "count"]), "count: paused\n");
    assert_eq!(site.ok(&["pause", "count"]), "count: paused\n");
    stands_still(&site, "count", "other");
    let listed = site.ok(&["ls"]);
    assert!(listed.contains("paused"), "{listed}");
    let why = site.ok(&["why", "count"]);
    assert!(
        why.contains("paused by ") && why.contains("insula resume count"),
        "{why}"
    );
    let refused = site.insula(&["exec", "count", "--", "true"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success());
    assert!(
        said.contains("is paused") && said.contains("insula resume count"),
        "{said}"
    );
    // The control.
    site.ok(&["exec", "other", "--", "true"]);

    site.kill_daemon();
    assert!(is_paused(&site, "count"), "a new daemon knows at once");
    stands_still(&site, "count", "other");
    assert_eq!(site.ok(&["resume", "count"]), "count: running\n");
    assert_eq!(site.ok(&["resume", "count"]), "count: running\n");
    writes_on(&site, "count");
    site.ok(&["exec", "count", "--", "true"]);
    // Not a line was lost.
    let log = site.ok(&["logs", "count"]);
    let expected: String = (1..=log.lines().count())
        .map(|n| format!("line {n}\n"))
        .collect();
    assert_eq!(log, expected);
    let events = site.ok(&["events"]);
    for code in ["session.paused", "session.resumed"] {
        assert!(events.contains(code), "{events}");
    }
}

#[test]
fn what_was_asked_outlives_the_daemon_that_was_asked() {
    let Some(site) = site() else { return };
    start(&site, "count");
    for _ in 0..3 {
        // Killed somewhere within each.
        let mut child = site
            .command(&["pause", "--no-wait", "count"])
            .spawn()
            .expect("it runs");
        child.wait().expect("it ends");
        site.kill_daemon();
        eventually("it is paused all the same", || is_paused(&site, "count"));
        let mut child = site
            .command(&["resume", "--no-wait", "count"])
            .spawn()
            .expect("it runs");
        child.wait().expect("it ends");
        site.kill_daemon();
        writes_on(&site, "count");
        site.ok(&["exec", "count", "--", "true"]);
    }
}

#[test]
fn what_is_stopped_goes_on_first_and_what_is_removed_is_gone() {
    let Some(site) = site() else { return };
    for name in ["stopped", "killed", "removed"] {
        start(&site, name);
    }
    site.ok(&["pause", "stopped", "killed", "removed"]);
    site.ok(&["stop", "stopped"]);
    let log = site.ok(&["logs", "stopped"]);
    assert!(log.ends_with("bye\n"), "its grace meant something: {log}");
    site.ok(&["stop", "--signal", "KILL", "--grace", "0s", "killed"]);
    site.await_state("killed", "ended");
    site.ok(&["rm", "--force", "removed"]);
    let refused = site.insula(&["pause", "stopped"]);
    assert!(!refused.status.success(), "{}", told(&refused));
    assert!(
        text(&refused.stderr).contains("has ended"),
        "{}",
        told(&refused)
    );
    eventually("nothing is left", || {
        site.cgroups().is_empty() && site.processes().is_empty()
    });
}

#[test]
fn a_time_limit_does_not_run_meanwhile() {
    let Some(site) = site() else { return };
    for name in ["held", "free"] {
        site.ok(&[
            "run", "-d", "--name", name, "--time", "10s", "--", "sleep", "300",
        ]);
    }
    site.await_state("held", "running");
    site.ok(&["pause", "held"]);
    // The control.
    site.await_state("free", "ended");
    let free = site.json(&["show", "free", "--json"]);
    assert_eq!(free["outcome"]["outcome"], "expired", "{free}");
    assert!(is_paused(&site, "held"));
    site.ok(&["resume", "held"]);
    site.await_state("held", "ended");
    let held = site.json(&["show", "held", "--json"]);
    assert_eq!(held["outcome"]["outcome"], "expired", "{held}");
}

#[test]
fn of_an_array_those_that_run_are_paused() {
    let Some(site) = site() else { return };
    site.ok(&[
        "run",
        "-d",
        "--name",
        "many",
        "--array",
        "1-3",
        "--throttle",
        "2",
        "--cpu",
        "0.1",
        "--memory",
        "16m",
        "--",
        "sh",
        "-c",
        COUNTER,
    ]);
    for element in ["many.1", "many.2"] {
        await_output(&site, element, "line 5");
    }
    assert_eq!(site.ok(&["pause", "many"]), "many: 2 paused, 1 waiting\n");
    let waits = site.insula(&["pause", "many.3"]);
    assert!(!waits.status.success() && text(&waits.stderr).contains("is pending"));
    let used = site.json(&["top", "--json"]);
    assert_eq!(used["sessions"][0]["name"], "many.1", "{used}");
    assert_eq!(used["sessions"][0]["paused"], true, "{used}");
    assert_eq!(site.ok(&["resume", "many.2"]), "many.2: running\n");
    stands_still(&site, "many.1", "many.2");
    let shown = site.ok(&["show", "many"]);
    assert!(shown.contains("paused"), "{shown}");
    site.ok(&["resume", "many"]);
    writes_on(&site, "many.1");
    site.ok(&["rm", "--force", "many"]);
}
