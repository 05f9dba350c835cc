//! Terminals of commands beside the main one.

use crate::client::{Client, Ran};
use crate::harness::{Guest, eventually, lives, script};
use domain::{ExitHow, TerminalSize};
use guest_api::{Open, Request};

pub(crate) const SIZE: TerminalSize = TerminalSize {
    columns: 91,
    rows: 33,
};

fn in_terminal(guest: &Guest, text: &str) -> Client {
    guest.connect(&Open::Exec {
        command: ["sh", "-c", text].map(str::to_owned).to_vec(),
        env: Vec::new(),
        workdir: None,
        run_as: None,
        user: None,
        terminal: Some(SIZE),
        stdin: true,
        detach: false,
    })
}

fn idle() -> Guest {
    Guest::start(&script("exec sleep 1000"))
}

pub(crate) fn has(text: &'static str) -> impl Fn(&Ran) -> bool {
    move |ran| String::from_utf8_lossy(&ran.stdout).contains(text)
}

#[test]
fn a_terminal_has_a_name_a_size_and_a_session() {
    let guest = idle();
    let text = "tty; stty size; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo all; \
                echo to-the-tty > /dev/tty; exit 5";
    let ran = in_terminal(&guest, text).run_to_end();
    let shown = String::from_utf8_lossy(&ran.stdout);
    let (name, rest) = shown.split_once("\r\n").expect("lines");
    assert!(name.starts_with("/dev/pts/"), "{shown}");
    assert_eq!(rest, "33 91\r\nxterm\r\nall\r\nto-the-tty\r\n");
    assert_eq!(ran.end, Some((ExitHow::Exited { code: 5 }, false)));
}

#[test]
fn another_size_is_seen_with_its_signal() {
    let guest = idle();
    let text = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut client = in_terminal(&guest, text);
    let mut ran = Ran::default();
    client.run_until(&mut ran, has("ready"));
    let size = TerminalSize {
        columns: 120,
        rows: 40,
    };
    client.control(&Request::Resize { size }).expect("sent");
    client.run_until(&mut ran, has("40 120"));
}

#[test]
fn keys_are_echoed_and_interrupt() {
    let guest = idle();
    let mut client = in_terminal(
        &guest,
        "trap 'echo caught' INT; cat; echo after; cat; exit 9",
    );
    let mut ran = Ran::default();
    client.data(b"typed\n").expect("sent");
    client.run_until(&mut ran, has("typed\r\ntyped\r\n"));
    client.data(b"\x03").expect("sent");
    client.run_until(&mut ran, has("after"));
    assert!(has("caught")(&ran), "{ran:?}");
    // An end of input that nobody typed is none; the key is.
    client.data(b"").expect("sent");
    client.data(b"more\n").expect("sent");
    client.run_until(&mut ran, has("more\r\nmore\r\n"));
    client.data(b"\x04").expect("sent");
    while client.step(&mut ran) {}
    assert_eq!(ran.end, Some((ExitHow::Exited { code: 9 }, false)));
}

#[test]
fn a_signal_reaches_who_is_in_front() {
    let guest = idle();
    let mut client = in_terminal(&guest, "set -m; trap '' TERM; sleep 1000; echo code $?");
    let mut ran = Ran::default();
    client.run_until(&mut ran, |ran| ran.started);
    // The shell ignores it; until its child is in front nothing happens.
    let mut control = guest.connect(&Open::Control);
    eventually("the child runs", || control.stats().processes >= 1);
    client.socket.set_nonblocking(false).expect("set");
    client
        .control(&Request::Signal { signal: 9 })
        .expect("sent");
    while client.step(&mut ran) {}
    assert!(ran.end.is_some());
}

#[test]
fn whoever_hangs_up_ends_the_shell_and_its_jobs() {
    let guest = idle();
    let mut client = in_terminal(&guest, "sleep 1000 & echo pids $! $$ end; wait");
    let mut ran = Ran::default();
    client.run_until(&mut ran, has("end"));
    let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
    drop(client);
    for pid in shown
        .split_whitespace()
        .filter(|word| word.parse::<u32>().is_ok())
    {
        eventually("it is gone", || !lives(pid));
    }
}

#[test]
fn output_that_comes_at_once_with_the_end_is_whole() {
    let guest = idle();
    for _ in 0..20 {
        let ran = in_terminal(&guest, "seq 1 2000").run_to_end();
        let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(
            shown.ends_with("\r\n1999\r\n2000\r\n"),
            "{} bytes",
            shown.len()
        );
    }
}
