//! Output, input and signals.

use crate::site::{Site, eventually, finish, signal, site, text, told};
use std::io::Write;
use std::process::{Child, Stdio};

#[test]
fn the_exit_code_is_the_programs() {
    let Some(site) = site() else { return };
    let output = site.insula(&["run", "--", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", told(&output));
    let output = site.insula(&["run", "--", "sh", "-c", "kill -USR1 $$"]);
    assert_eq!(output.status.code(), Some(128 + 10), "{}", told(&output));
    let output = site.insula(&["run", "--", "no-such-program"]);
    assert_eq!(output.status.code(), Some(127), "{}", told(&output));
    let output = site.insula(&["run", "--", "/etc/passwd"]);
    assert_eq!(output.status.code(), Some(126), "{}", told(&output));
    let output = site.insula(&["run", "--time", "500ms", "--", "sleep", "60"]);
    assert_eq!(output.status.code(), Some(124), "{}", told(&output));
    assert!(
        text(&output.stderr).contains("time limit"),
        "{}",
        told(&output)
    );
}

#[test]
fn stdout_has_what_the_program_wrote_and_nothing_else() {
    let Some(site) = site() else { return };
    let output = site.insula(&["run", "--", "python3", "-c", "print(6*7)"]);
    assert_eq!(text(&output.stdout), "42\n", "{}", told(&output));
    let output = site.insula(&["run", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(text(&output.stdout), "out\n");
    assert!(text(&output.stderr).contains("err\n"), "{}", told(&output));
    let merged = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done";
    let output = site.insula(&["run", "--merge", "--", "sh", "-c", merged]);
    let expected: String = (1..=5).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(text(&output.stdout), expected, "{}", told(&output));
}

/// Writes `megabytes` of bytes that the test can make again, 1 MB at a time.
const RANDOM_WRITER: &str = "\
import random, sys
generator = random.Random(7)
for _ in range(int(sys.argv[1])):
    sys.stdout.buffer.write(generator.randbytes(1000000))
";

#[test]
fn a_hundred_megabytes_arrive_byte_exact() {
    let Some(site) = site() else { return };
    let output = site.insula(&["run", "--", "python3", "-c", RANDOM_WRITER, "100"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = process::command("/usr/bin/python3")
        .args(["-c", RANDOM_WRITER, "100"])
        .output()
        .expect("python3");
    assert_eq!(output.stdout.len(), 100_000_000);
    assert!(output.stdout == expected.stdout, "the bytes differ");
}

#[test]
fn piped_input_reaches_the_program() {
    let Some(site) = site() else { return };
    let input: Vec<u8> = (0..5_000_000_u32).map(|i| (i * 31 % 251) as u8).collect();
    let mut child = site
        .command(&["run", "--", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    let mut pipe = child.stdin.take().expect("a pipe");
    let copy = input.clone();
    let writer = std::thread::spawn(move || pipe.write_all(&copy));
    let output = finish(child);
    writer.join().expect("a writer").expect("all was taken");
    assert!(
        output.stdout == input,
        "{} bytes came back",
        output.stdout.len()
    );

    // A program that does not read its input ends all the same.
    let child = site
        .command(&["run", "--", "true"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    assert!(finish(child).status.success());
}

/// A foreground run of a script that has said `ready`.
fn run_until_ready(site: &Site, name: &str, script: &str) -> Child {
    let run = ["run", "--name", name, "--", "sh", "-c", script];
    let child = site.command(&run).spawn().expect("started");
    await_output(site, name, "ready");
    child
}

#[test]
fn interrupts_grow_from_a_signal_to_a_kill() {
    let Some(site) = site() else { return };
    let trap = "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let child = run_until_ready(&site, "first", trap);
    signal(child.id() as i32, 2);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert_eq!(text(&output.stdout), "ready\ninterrupted\n");

    let deaf = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done";
    let child = run_until_ready(&site, "deaf", deaf);
    signal(child.id() as i32, 2);
    signal_until_stopping(&site, child.id() as i32);
    signal(child.id() as i32, 2);
    let output = finish(child);
    assert!(
        matches!(output.status.code(), Some(137 | 143)),
        "{}",
        told(&output)
    );
}

/// Signals again until the session is being stopped: two signals at one moment may become one.
fn signal_until_stopping(site: &Site, pid: i32) {
    eventually("the second interrupt stops it", || {
        let state = site.state("deaf");
        if state == "running" {
            signal(pid, 2);
        }
        state == "stopping" || state == "ended"
    });
}

#[test]
fn a_closed_terminal_does_not_stop_the_session() {
    let Some(site) = site() else { return };
    let child = site.command(&[
        "run",
        "--name",
        "stays",
        "--",
        "sh",
        "-c",
        "echo up; sleep 300",
    ]);
    let child = { child }.spawn().expect("started");
    await_output(&site, "stays", "up");
    signal(child.id() as i32, 1);
    finish(child);
    assert_eq!(site.state("stays"), "running");
    site.ok(&["stop", "stays"]);
    site.await_state("stays", "ended");
}

/// Waits until a session's recorded output has `words`.
pub(crate) fn await_output(site: &Site, session: &str, words: &str) {
    eventually(&format!("{session} wrote {words}"), || {
        let output = site.insula(&["logs", session]);
        text(&output.stdout).contains(words)
    });
}

#[test]
fn input_that_nobody_takes_never_decides_the_exit_code() {
    let Some(site) = site() else { return };
    for round in 0..15 {
        let zero = std::fs::File::open("/dev/zero").expect("there");
        let child = site.command(&["run", "--", "true"]).stdin(zero).spawn();
        let output = finish(child.expect("started"));
        assert!(output.status.success(), "round {round}: {}", told(&output));
        assert_eq!(text(&output.stderr), "", "round {round}");
    }
}

#[test]
fn a_third_interrupt_kills_and_says_so_in_the_exit_code() {
    let Some(site) = site() else { return };
    let deaf = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done";
    let child = run_until_ready(&site, "deaf", deaf);
    signal(child.id() as i32, 2);
    signal_until_stopping(&site, child.id() as i32);
    signal(child.id() as i32, 2);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(137), "{}", told(&output));
}

#[test]
fn input_that_is_not_passed_on_is_not_thrown_away_without_a_word() {
    let Some(site) = site() else { return };
    let run = |options: &[&str]| {
        let arguments = [&["run"], options, &["--", "true"]].concat();
        let mut child = site
            .command(&arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("started");
        drop(child.stdin.take());
        let output = finish(child);
        assert!(output.status.success(), "{}", told(&output));
        text(&output.stderr).contains("standard input is not passed on")
    };
    assert!(run(&["--retry", "1"]));
    assert!(run(&["--array", "1-2"]));
    assert!(!run(&["--retry", "1", "--no-stdin"]));
    assert!(!run(&[]), "the control");
}
