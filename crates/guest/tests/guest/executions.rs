//! Commands beside the main one, without a terminal.

use crate::client::{Client, Ran, exec};
use crate::harness::{Guest, Launch, eventually, lives, script};
use domain::ExitHow;
use guest_api::protocol::{EXEC_LIMIT, INPUT_WINDOW};
use guest_api::{Open, Request};
use std::fs;

fn idle() -> Guest {
    Guest::start(&script("exec sleep 1000"))
}

fn with_input(command: &[&str]) -> Open {
    let Open::Exec { command, env, .. } = exec(command) else {
        unreachable!("it is one");
    };
    Open::Exec {
        command,
        env,
        workdir: None,
        run_as: None,
        user: None,
        terminal: None,
        stdin: true,
        detach: false,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn exited(code: u8) -> Option<(ExitHow, bool)> {
    Some((ExitHow::Exited { code }, false))
}

/// Runs it to its end.
fn run(guest: &Guest, open: &Open) -> Ran {
    guest.connect(open).run_to_end()
}

#[test]
fn both_streams_and_the_code_come_back() {
    let guest = idle();
    let ran = run(
        &guest,
        &exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]),
    );
    assert_eq!(
        (text(&ran.stdout), text(&ran.stderr)),
        ("out\n".to_owned(), "err\n".to_owned())
    );
    assert_eq!((ran.started, ran.end), (true, exited(7)));
}

#[test]
fn all_output_comes_before_the_end() {
    let guest = idle();
    let ran = run(
        &guest,
        &exec(&["sh", "-c", "head -c 3000000 /dev/zero; exit 3"]),
    );
    assert_eq!((ran.stdout.len(), ran.end), (3_000_000, exited(3)));
}

#[test]
fn a_command_that_cannot_be_started_is_told_as_such() {
    let guest = idle();
    let ran = run(&guest, &exec(&["no-such-program"]));
    let program = "no-such-program".to_owned();
    assert_eq!(ran.end, Some((ExitHow::NotFound { program }, false)));
    assert!(!ran.started);
    let ran = run(&guest, &exec(&["/etc/passwd"]));
    assert!(
        matches!(ran.end, Some((ExitHow::NotRunnable { .. }, false))),
        "{ran:?}"
    );
}

#[test]
fn environment_directory_and_limits_are_those_asked_for() {
    let mut config = script("exec sleep 1000");
    config.env.push(("KEPT".to_owned(), "1".to_owned()));
    config.env.push(("CHANGED".to_owned(), "1".to_owned()));
    let guest = Guest::start(&config);
    let script = "echo $KEPT $CHANGED $NEW; pwd; cat /proc/self/oom_score_adj; ulimit -n; \
                  ls /proc/self/fd | wc -l; grep NoNewPrivs /proc/self/status";
    let Open::Exec { command, .. } = exec(&["sh", "-c", script]) else {
        unreachable!("it is one");
    };
    let ran = run(
        &guest,
        &Open::Exec {
            command,
            env: vec![
                ("CHANGED".to_owned(), "2".to_owned()),
                ("NEW".to_owned(), "3".to_owned()),
            ],
            workdir: Some("/usr".to_owned()),
            run_as: None,
            user: None,
            terminal: None,
            stdin: false,
            detach: false,
        },
    );
    // Three streams, and the directory that `ls` reads.
    assert_eq!(
        text(&ran.stdout),
        "1 2 3\n/usr\n500\n1000\n4\nNoNewPrivs:\t1\n"
    );
}

#[test]
fn without_a_command_a_shell_runs() {
    let guest = idle();
    let mut client = guest.connect(&with_input(&[]));
    client.data(b"echo $((6*7))\nexit 4\n").expect("sent");
    let ran = client.run_to_end();
    assert_eq!((text(&ran.stdout).as_str(), ran.end), ("42\n", exited(4)));
}

#[test]
fn input_passes_byte_by_byte_and_ends() {
    let guest = idle();
    let bytes: Vec<u8> = (0..10_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let mut client = guest.connect(&with_input(&["cat"]));
    let socket = client.socket.try_clone().expect("a copy");
    let sent = bytes.clone();
    let sender = std::thread::spawn(move || {
        let mut client = Client { socket };
        for part in sent.chunks(200_000) {
            client.data(part).expect("sent");
        }
        client.data(b"").expect("sent");
    });
    let ran = client.run_to_end();
    sender.join().expect("sent");
    assert!(ran.stdout == bytes, "{} bytes came back", ran.stdout.len());
    assert_eq!((ran.accepted, ran.end), ((10_000_000, true), exited(0)));
}

#[test]
fn signals_pass_input_that_nobody_reads() {
    let guest = idle();
    let mut client = guest.connect(&with_input(&["sh", "-c", "exec sleep 1000"]));
    client.data(&vec![0; INPUT_WINDOW]).expect("sent");
    client
        .control(&Request::Signal { signal: 15 })
        .expect("sent");
    let ran = client.run_to_end();
    let how = ExitHow::Signalled {
        signal: 15,
        core_dumped: false,
    };
    assert_eq!(ran.end, Some((how, false)));
}

#[test]
fn what_has_no_place_there_is_refused() {
    let guest = idle();
    let mut client = guest.connect(&exec(&["sleep", "1000"]));
    let mut ran = Ran::default();
    // Which comes first is not said: it runs, or it has no input.
    let without_input = (0, true);
    client.run_until(&mut ran, |ran| ran.started && ran.accepted == without_input);
    client.control(&Request::State).expect("sent");
    assert!(client.failure().contains("no place"));
}

/// A command whose client goes away: its children in its session end with it.
fn left(command: &str) {
    let guest = idle();
    let pids = guest.path("pids");
    let script = format!("sleep 1000 & echo $! $$ > {}; {command}", pids.display());
    let mut client = guest.connect(&exec(&["sh", "-c", &script]));
    let mut ran = Ran::default();
    client.run_until(&mut ran, |ran| ran.started);
    eventually("it runs", || {
        fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'))
    });
    drop(client);
    let pids = fs::read_to_string(&pids).expect("written");
    for pid in pids.split_whitespace() {
        eventually("it is gone", || !lives(pid));
    }
    // The control: the main command goes on.
    let mut control = guest.connect(&Open::Control);
    assert!(control.stats().processes >= 1);
}

#[test]
fn a_command_that_is_left_is_hung_up() {
    left("exec sleep 1000");
}

#[test]
fn a_command_that_stays_after_hanging_up_is_killed() {
    left("trap '' HUP; while :; do sleep 0.1; done");
}

#[test]
fn a_detached_command_stays_until_the_session_ends() {
    let mut guest = idle();
    let pid = guest.path("pid");
    let script = format!("echo lost; echo $$ > {}; exec sleep 1000", pid.display());
    let Open::Exec { command, env, .. } = exec(&["sh", "-c", &script]) else {
        unreachable!("it is one");
    };
    let ran = run(
        &guest,
        &Open::Exec {
            command,
            env,
            workdir: None,
            run_as: None,
            user: None,
            terminal: None,
            stdin: false,
            detach: true,
        },
    );
    assert_eq!((ran.started, ran.end, ran.stdout.len()), (true, None, 0));
    eventually("it runs", || {
        fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid = fs::read_to_string(&pid).expect("written");
    assert!(lives(&pid));
    let mut control = guest.connect(&Open::Control);
    let grace_ms = 0;
    control.ask(&Request::Stop {
        signal: 9,
        grace_ms,
    });
    guest.end();
    assert!(!lives(&pid));
}

#[test]
fn the_end_of_the_session_is_told() {
    let mut guest = Guest::launch(
        &script("exec sleep 1000"),
        &Launch {
            as_init: true,
            ..Launch::default()
        },
    );
    let mut client = guest.connect(&exec(&["sh", "-c", "echo up; exec sleep 1000"]));
    let mut ran = Ran::default();
    client.run_until(&mut ran, |ran| ran.stdout == b"up\n");
    let mut control = guest.connect(&Open::Control);
    control.ask(&Request::Signal { signal: 15 });
    let end = client.run_to_end().end;
    let (how, with_session) = end.expect("told");
    assert!(with_session, "{how:?}");
    guest.wait();
}

#[test]
fn there_is_a_limit_and_what_ends_makes_room() {
    let guest = idle();
    let mut clients: Vec<Client> = (0..EXEC_LIMIT)
        .map(|_| guest.connect(&exec(&["sleep", "1000"])))
        .collect();
    for client in &mut clients {
        client.run_until(&mut Ran::default(), |ran| ran.started);
    }
    let reason = guest.connect(&exec(&["true"])).failure();
    assert!(reason.contains("64 further commands"), "{reason}");
    let mut last = clients.pop().expect("there are some");
    last.control(&Request::Signal { signal: 9 }).expect("sent");
    assert!(last.run_to_end().end.is_some());
    assert_eq!(run(&guest, &exec(&["true"])).end, exited(0));
}

#[test]
fn a_slow_reader_blocks_only_its_own_command() {
    let guest = idle();
    let mut slow = guest.connect(&exec(&["sh", "-c", "head -c 5000000 /dev/zero"]));
    assert_eq!(run(&guest, &exec(&["true"])).end, exited(0));
    let ran = slow.run_to_end();
    assert_eq!((ran.stdout.len(), ran.end), (5_000_000, exited(0)));
}
