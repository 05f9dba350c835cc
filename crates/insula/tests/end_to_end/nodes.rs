//! What operators order of nodes, and what those see whose sessions are there or wait.

use crate::site::{Site, eventually, site, text, told};
use crate::standby::{Pair, is_answering, is_standing_by, leads_on};
use std::fs;
use std::time::Instant;

/// The name of the only node of a site.
fn only_node(site: &Site) -> String {
    let nodes = site.json(&["node", "ls", "--json"]);
    let all = nodes["nodes"].as_array().expect("a list");
    assert_eq!(all.len(), 1, "{nodes}");
    all[0]["name"].as_str().expect("a name").to_owned()
}

/// Runs what is refused, and gives what it says.
fn refused(site: &Site, arguments: &[&str]) -> String {
    let output = site.insula(arguments);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let said = text(&output.stderr);
    assert!(said.contains("hint: "), "{said}");
    said
}

#[test]
fn a_node_is_drained_and_taken_back() {
    let Some(site) = site() else { return };
    site.ok(&["run", "-d", "--name", "runs", "--", "sleep", "1000"]);
    site.await_state("runs", "running");
    let node = only_node(&site);
    let drained = site.ok(&["node", "drain", &node, "--reason", "a new disk"]);
    assert_eq!(
        drained,
        format!("{node}: it is drained; these go on: runs\n")
    );
    let shown = site.ok(&["node", "show", &node]);
    assert!(shown.contains("state     drained\n"), "{shown}");
    assert!(
        shown.contains("by root since ") && shown.contains(": a new disk\n"),
        "{shown}"
    );
    assert!(site.ok(&["node", "ls"]).contains(" drained "));

    site.ok(&["run", "-d", "--name", "waits", "--", "echo", "begun"]);
    let why = site.ok(&["why", "waits"]);
    assert!(why.contains("it is drained by root: a new disk"), "{why}");
    assert!(
        why.contains(&format!("`insula node undrain {node}`")),
        "{why}"
    );
    assert!(site.ok(&["ls"]).contains("drained by root: a new disk"));
    assert_eq!(
        (site.state("runs"), site.state("waits")),
        ("running".into(), "pending".into())
    );

    // Ordered again, to end what lives there; the reason need not be given again.
    let stopped = site.ok(&["node", "drain", &node, "--stop", "--grace", "1s"]);
    assert_eq!(
        stopped,
        format!("{node}: it is drained; these were asked to end: runs\n")
    );
    site.await_state("runs", "ended");
    let empty = site.json(&["node", "show", &node, "--json"]);
    assert_eq!(empty["drained"]["reason"], "a new disk", "{empty}");
    assert_eq!(
        empty["sessions"].as_array().map(Vec::len),
        Some(0),
        "{empty}"
    );
    assert_eq!(site.state("waits"), "pending", "it was not there");

    // A daemon that comes anew knows it still.
    site.kill_daemon();
    assert!(site.ok(&["why", "waits"]).contains("drained by root"));
    let back = site.ok(&["node", "undrain", &node]);
    assert_eq!(back, format!("{node}: it gets new sessions\n"));
    site.await_state("waits", "ended");
    assert_eq!(site.ok(&["logs", "waits"]), "begun\n");
    let events = site.ok(&["events"]);
    for code in ["node.drained", "node.undrained"] {
        assert!(events.contains(code), "{events}");
    }
}

#[test]
fn orders_that_cannot_be_carried_out_say_why() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    let node = only_node(&site);
    for lost in [&["node", "rm", &node][..], &["node", "rm", &node, "--lost"]] {
        let said = refused(&site, lost);
        assert!(said.contains("is this machine's own"), "{said}");
    }
    for verb in ["show", "drain", "undrain", "rm"] {
        let said = refused(&site, &["node", verb, "absent"]);
        assert!(said.contains("there is no node `absent`"), "{said}");
        assert!(said.contains("`insula node ls`"), "{said}");
    }
    let output = site.insula(&["node", "rm", &node, "--json"]);
    let problem: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(problem["code"], "node-in-use", "{problem}");
    assert_eq!(
        site.insula(&["node", "drain", &node, "--grace", "1s"])
            .status
            .code(),
        Some(2)
    );
    for verb in ["ls", "show", "drain", "undrain", "rm"] {
        assert!(
            site.ok(&["node", verb, "--help"]).contains("insula node "),
            "{verb}"
        );
    }
}

#[test]
fn a_node_that_is_gone_is_removed_and_drained_when_it_comes_back() {
    let Some(pair) = Pair::start() else { return };
    let (one, other) = (&pair.one, &pair.other);
    one.kill_daemon();
    leads_on(other, Instant::now());
    let said = refused(other, &["node", "rm", "one"]);
    assert!(said.contains("beats") && said.contains("--lost"), "{said}");
    other.ok(&["node", "rm", "one", "--lost"]);
    other.await_state("beats", "ended");
    let shown = other.json(&["show", "beats", "--json"]);
    assert_eq!(shown["outcome"]["outcome"], "lost", "{shown}");
    assert_eq!(only_node(other), "other");
    // Once more does no harm.
    other.ok(&["node", "rm", "one", "--lost"]);

    is_standing_by(one, other);
    other.ok(&["down", "--leave"]);
    eventually("the first leads again", || is_answering(one));
    let returned = one.json(&["node", "show", "one", "--json"]);
    assert_eq!(returned["drained"]["by"], "insula", "{returned}");
    assert_eq!(one.state("beats"), "ended", "what was told stays true");
    let unclaimed = one.ok(&["unclaimed"]);
    assert!(unclaimed.contains("beats"), "{unclaimed}");
    one.ok(&["run", "-d", "--name", "next", "--", "true"]);
    assert_eq!(one.state("next"), "pending");
    one.ok(&["node", "undrain", "one"]);
    one.await_state("next", "ended");
    let work = one.members().into_iter().map(|member| member.join("work"));
    for work in work {
        fs::write(work.join("stop"), "").expect("written");
    }
    eventually("what was unclaimed has ended", || {
        one.processes().is_empty()
    });
}
