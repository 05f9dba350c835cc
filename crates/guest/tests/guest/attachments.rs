//! Clients of the main command's own streams.

use crate::client::{Client, Ran};
use crate::harness::{Guest, script};
use crate::terminals::{SIZE, has};
use domain::{ExitHow, TerminalSize};
use guest_api::{GuestConfig, Open, Reply, Request, Stream};
use serde::Serialize;

fn attach(guest: &Guest, from: Option<u64>) -> Client {
    guest.connect(&Open::Attach {
        stdout: from,
        stderr: from,
        terminal: Some(SIZE),
        lossless: false,
    })
}

fn with_terminal(text: &str) -> GuestConfig {
    let mut config = script(text);
    config.terminal = Some(TerminalSize {
        columns: 80,
        rows: 24,
    });
    config.env.push(("TERM".to_owned(), "xterm".to_owned()));
    config
}

#[test]
fn two_clients_share_a_terminal_and_the_log_has_it() {
    // A shell whose `read` a signal interrupts takes that for the end of its input.
    let text = "trap 'stty size' WINCH; echo up; while :; do read line || continue; \
                echo \"[$line]\"; case $line in end) exit 6;; esac; done";
    let mut guest = Guest::start(&with_terminal(text));
    let (mut one, mut seen_by_one) = (attach(&guest, Some(0)), Ran::default());
    one.run_until(&mut seen_by_one, has("up"));
    let (mut two, mut seen_by_two) = (attach(&guest, Some(0)), Ran::default());
    one.data(b"first\n").expect("sent");
    two.run_until(&mut seen_by_two, has("[first]"));
    two.data(b"second\n").expect("sent");
    one.run_until(&mut seen_by_one, has("[second]"));
    let size = TerminalSize {
        columns: 70,
        rows: 20,
    };
    two.control(&Request::Resize { size }).expect("sent");
    two.data(b"\n").expect("sent");
    one.run_until(&mut seen_by_one, has("20 70"));
    one.data(b"end\n").expect("sent");
    while one.step(&mut seen_by_one) {}
    while two.step(&mut seen_by_two) {}
    let end = Some((ExitHow::Exited { code: 6 }, false));
    assert_eq!((&seen_by_one.end, &seen_by_two.end), (&end, &end));
    assert_eq!(seen_by_one.stdout, seen_by_two.stdout);
    guest.end();
    assert!(
        guest.output(Stream::Stdout) == seen_by_one.stdout,
        "the log differs"
    );
}

#[test]
fn one_who_comes_back_goes_on_where_it_was() {
    let guest = Guest::start(&with_terminal("echo first; read x; echo last $x"));
    let (mut client, mut ran) = (attach(&guest, Some(0)), Ran::default());
    client.run_until(&mut ran, has("first\r\n"));
    drop(client);
    let offset = u64::try_from(ran.stdout.len()).expect("fits");
    let mut client = attach(&guest, Some(offset));
    let attached = client.reply();
    assert!(
        matches!(attached, Reply::Attached { stdout, terminal: true, stdin: true, .. } if stdout == offset)
    );
    client.data(b"word\n").expect("sent");
    while client.step(&mut ran) {}
    let shown = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(shown, "first\r\nword\r\nlast word\r\n");
}

#[test]
fn without_a_terminal_both_streams_input_and_signals_pass() {
    // A `read` that a signal interrupts fails like one at the end of the input.
    let mut config = script(
        "trap 'echo caught >&2; again=1' USR1; echo up; \
         while read x || test -n \"$again\"; do again=; test -z \"$x\" || echo \"<$x>\"; done; \
         exit 3",
    );
    config.stdin_pipe = true;
    let mut guest = Guest::start(&config);
    let (mut client, mut ran) = (attach(&guest, Some(0)), Ran::default());
    client.run_until(&mut ran, has("up"));
    client
        .control(&Request::Signal { signal: 10 })
        .expect("sent");
    client.data(b"one\n").expect("sent");
    client.run_until(&mut ran, |ran| {
        ran.stderr == b"caught\n" && has("<one>")(ran)
    });
    client.data(b"").expect("sent");
    while client.step(&mut ran) {}
    assert_eq!(ran.end, Some((ExitHow::Exited { code: 3 }, false)));
    guest.end();
}

#[test]
fn without_input_there_is_none_and_it_is_told() {
    let guest = Guest::start(&script("echo up; exec sleep 1000"));
    let (mut client, mut ran) = (attach(&guest, Some(0)), Ran::default());
    client.data(b"x").expect("sent");
    client.run_until(&mut ran, |ran| ran.accepted == (1, true));
}

#[test]
fn whoever_asks_for_no_offset_sees_what_comes_from_now_on() {
    let mut config = script("echo before; read x; echo after");
    config.stdin_pipe = true;
    let guest = Guest::start(&config);
    let mut ran = Ran::default();
    attach(&guest, Some(0)).run_until(&mut ran, has("before"));
    let mut client = attach(&guest, None);
    client.data(b"\n").expect("sent");
    assert_eq!(client.run_to_end().stdout, b"after\n");
}

#[test]
fn a_first_frame_from_the_future_is_refused_with_its_name() {
    #[derive(Serialize)]
    struct Future {
        open: &'static str,
    }
    let guest = Guest::start(&script("exec sleep 1000"));
    let mut client = Client::connect_silently(&guest.path("socket"));
    client.control(&Future { open: "levitate" }).expect("sent");
    let reason = client.failure();
    assert!(
        reason.starts_with("the first frame: unknown variant `levitate`"),
        "{reason}"
    );
}
