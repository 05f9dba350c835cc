//! Who interrupts or stops a session with further attempts means all of them.

use crate::site::{Site, eventually, finish, signal, site, text, told};
use crate::streams::await_output;
use std::io::Read as _;
use std::process::Child;

const SMALL: [&str; 4] = ["--cpu", "0.1", "--memory", "16m"];
/// Runs until something ends it.
const LIFE: &str = "echo begun; while :; do sleep 0.05; echo beat; done";

fn spawn(site: &Site, arguments: &[&str]) -> Child {
    site.command(arguments).spawn().expect("started")
}

fn press_ctrl_c(child: &Child) {
    signal(i32::try_from(child.id()).expect("a pid"), 2);
}

fn with_retries<'a>(name: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["run", "--name", name, "--retry", "3"];
    all.extend(SMALL);
    all.extend(words);
    all
}

/// It has ended with its first attempt, in this way.
fn ended_at_once(site: &Site, name: &str, outcome: &str, exit_code: u64) {
    site.await_state(name, "ended");
    let shown = site.json(&["show", name, "--json"]);
    assert_eq!(shown["attempt"], 1, "{shown}");
    assert_eq!(shown["outcome"]["outcome"], outcome, "{shown}");
    assert_eq!(shown["outcome"]["exit_code"], exit_code, "{shown}");
}

#[test]
fn ctrl_c_is_no_failure_that_is_tried_again() {
    let Some(site) = site() else { return };
    let run = spawn(&site, &with_retries("again", &["--", "sh", "-c", LIFE]));
    await_output(&site, "again", "begun");
    press_ctrl_c(&run);
    let run = finish(run);
    assert_eq!(run.status.code(), Some(130), "{}", told(&run));
    assert!(!text(&run.stderr).contains("tried again"), "{}", told(&run));
    ended_at_once(&site, "again", "failed", 130);
    // The control: of the same end that nobody asked for there are four.
    let alone = ["--", "sh", "-c", "kill -INT $$"];
    let mut alone = with_retries("alone", &alone);
    alone[4] = "1";
    let alone = site.insula(&alone);
    assert_eq!(alone.status.code(), Some(130), "{}", told(&alone));
    assert!(
        text(&alone.stderr).contains("tried again"),
        "{}",
        told(&alone)
    );
    let shown = site.json(&["show", "alone", "--json"]);
    assert_eq!(shown["attempt"], 2, "{shown}");
}

#[test]
fn ctrl_c_of_an_attached_terminal_and_a_reader_that_goes_away_end_it_too() {
    let Some(site) = site() else { return };
    site.ok(&with_retries("joined", &["-d", "--", "sh", "-c", LIFE]));
    let mut attached = spawn(&site, &["attach", "joined"]);
    let mut byte = [0];
    let stdout = attached.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut byte).expect("it is joined");
    press_ctrl_c(&attached);
    let attached = finish(attached);
    assert_eq!(attached.status.code(), Some(130), "{}", told(&attached));
    ended_at_once(&site, "joined", "failed", 130);
    let mut piped = spawn(&site, &with_retries("piped", &["--", "sh", "-c", LIFE]));
    let mut stdout = piped.stdout.take().expect("a pipe");
    stdout.read_exact(&mut byte).expect("its first words");
    drop(stdout);
    let piped = finish(piped);
    assert_eq!(piped.status.code(), Some(141), "{}", told(&piped));
    ended_at_once(&site, "piped", "failed", 141);
}

#[test]
fn what_is_stopped_or_out_of_time_is_not_tried_again() {
    let Some(site) = site() else { return };
    site.ok(&with_retries("stopped", &["-d", "--", "sh", "-c", LIFE]));
    await_output(&site, "stopped", "begun");
    site.ok(&["stop", "stopped"]);
    ended_at_once(&site, "stopped", "stopped", 143);
    let late = ["--time", "1s", "--", "sh", "-c", LIFE];
    let late = site.insula(&with_retries("late", &late));
    assert_eq!(late.status.code(), Some(124), "{}", told(&late));
    ended_at_once(&site, "late", "expired", 124);
}

#[test]
fn the_elements_of_an_interrupted_array_are_not_tried_again() {
    let Some(site) = site() else { return };
    let many = ["--array", "1-2", "--", "sh", "-c", LIFE];
    let mut many = spawn(&site, &with_retries("many", &many));
    for element in ["many.1", "many.2"] {
        eventually("it runs", || {
            let logs = site.insula(&["logs", element]);
            text(&logs.stdout).contains("begun")
        });
    }
    press_ctrl_c(&many);
    // It asks first, since it would be for all of them.
    let mut said = String::new();
    let stderr = many.stderr.as_mut().expect("a pipe");
    while !said.contains("ctrl-C again stops all elements") {
        let mut byte = [0];
        stderr.read_exact(&mut byte).expect("it asks");
        said.push(char::from(byte[0]));
    }
    assert_eq!(site.state("many.1"), "running");
    press_ctrl_c(&many);
    let many = finish(many);
    assert_eq!(many.status.code(), Some(1), "{}", told(&many));
    for element in ["many.1", "many.2"] {
        ended_at_once(&site, element, "stopped", 143);
    }
}
