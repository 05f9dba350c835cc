//! How commands end, and how that is recorded.

use crate::harness::{Guest, Launch, config, eventually, lives, run, script};
use domain::{ExitCause, ExitHow};
use guest_api::files::{RECORD, RECORD_TEMPORARY};
use guest_api::{GuestState, Open, Reply, Request};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const TERM: i32 = libc::SIGTERM;

fn not_runnable(how: ExitHow) -> String {
    match how {
        ExitHow::NotRunnable { reason, .. } => reason,
        how => panic!("{how:?}"),
    }
}

fn executable(path: &Path, text: &str) -> String {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    path.to_str().expect("text").to_owned()
}

#[test]
fn an_exit_code_and_sizes_are_recorded() {
    let config = script("printf out; printf errors >&2; exit 7");
    let mut guest = Guest::start(&config);
    let record = guest.end();
    assert_eq!(record.how, ExitHow::Exited { code: 7 });
    assert_eq!(record.cause, ExitCause::Own);
    assert_eq!(record.member, config.member);
    assert_eq!((record.stdout_bytes, record.stderr_bytes), (3, 6));
    assert!(record.started_at.expect("it ran") <= record.ended_at);
    let directory = guest.path("record");
    assert!(!directory.join(RECORD_TEMPORARY).exists());
    let metadata = fs::metadata(directory.join(RECORD)).expect("it is there");
    assert_eq!(
        metadata.permissions().mode() & 0o777,
        guest_api::files::FILE_MODE
    );
}

#[test]
fn a_signal_is_recorded() {
    let (record, ..) = run(&script("kill -USR1 $$"));
    let signal = libc::SIGUSR1;
    assert!(
        matches!(record.how, ExitHow::Signalled { signal: found, .. } if found == signal),
        "{:?}",
        record.how
    );
}

#[test]
fn a_program_that_is_not_there_is_not_found() {
    for program in ["no-such-program-here", "/no/such/program", "./nothing"] {
        let (record, ..) = run(&config(&[program]));
        let program = program.to_owned();
        assert_eq!(record.how, ExitHow::NotFound { program });
        assert_eq!((record.cause, record.started_at), (ExitCause::Own, None));
    }
}

#[test]
fn a_program_that_cannot_run_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let check = |program: &str, expected: &str| {
        let reason = not_runnable(run(&config(&[program])).0.how);
        assert!(reason.contains(expected), "{program}: {reason}");
    };
    check(
        &executable(&at("lost"), "#!/no/such/python3\n"),
        "interpreter `/no/such/python3` does not exist",
    );
    check(
        &executable(&at("windows"), "#!/bin/sh\r\n"),
        "end as on Windows",
    );
    check(&executable(&at("text"), "hello\n"), "neither a program");
    check(directory.path().to_str().expect("text"), "is a directory");
    fs::write(at("plain"), "#!/bin/sh\n").expect("written");
    check(at("plain").to_str().expect("text"), "Permission denied");
    check("", "empty");
}

#[test]
fn the_path_is_searched_beyond_what_cannot_run() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("echo"), "no").expect("written");
    let mut found = config(&["echo", "yes"]);
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    found.env = vec![("PATH".to_owned(), path)];
    assert_eq!(run(&found).1, "yes\n");
    let mut refused = config(&["echo", "yes"]);
    let path = directory.path().display().to_string();
    refused.env = vec![("PATH".to_owned(), path)];
    assert!(not_runnable(run(&refused).0.how).contains("Permission denied"));
}

#[test]
fn a_missing_working_directory_is_named() {
    let mut config = config(&["true"]);
    config.workdir = "/no/such/place".to_owned();
    let reason = not_runnable(run(&config).0.how);
    assert_eq!(
        reason,
        "working directory `/no/such/place`: No such file or directory"
    );
}

#[test]
fn a_stop_ends_a_command_that_listens() {
    let mut guest = Guest::start(&script("echo ready; exec sleep 1000"));
    guest
        .connect(&crate::client::lossy(guest_api::Stream::Stdout, 0))
        .follow(0, 6);
    let mut control = guest.connect(&Open::Control);
    let stop = Request::Stop {
        signal: TERM,
        grace_ms: 60_000,
    };
    assert_eq!(control.ask(&stop), Reply::Done);
    let record = guest.end();
    assert_eq!(record.cause, ExitCause::Stopped);
    assert!(matches!(
        record.how,
        ExitHow::Signalled { signal: TERM, .. }
    ));
}

#[test]
fn a_stop_ends_a_command_that_does_not_listen_and_a_second_only_shortens() {
    let mut guest = Guest::start(&script(
        "trap '' TERM; echo ready; while :; do sleep 1; done",
    ));
    guest
        .connect(&crate::client::lossy(guest_api::Stream::Stdout, 0))
        .follow(0, 6);
    let mut watch = guest.connect(&Open::Watch);
    assert!(matches!(watch.state(), Some(GuestState::Running { .. })));
    let mut control = guest.connect(&Open::Control);
    let stop = |grace_ms| Request::Stop {
        signal: TERM,
        grace_ms,
    };
    assert_eq!(control.ask(&stop(3_600_000)), Reply::Done);
    assert!(matches!(watch.state(), Some(GuestState::Stopping { .. })));
    assert!(lives(&guest.pid().to_string()));
    assert_eq!(control.ask(&stop(20)), Reply::Done);
    let last = watch.state();
    let record = guest.end();
    assert_eq!(record.cause, ExitCause::Stopped);
    assert!(matches!(record.how, ExitHow::Signalled { signal: 9, .. }));
    assert_eq!(
        last,
        Some(GuestState::Exited {
            record: Box::new(record)
        })
    );
}

#[test]
fn a_stop_is_carried_out_after_its_sender_left() {
    let mut guest = Guest::start(&script("trap '' TERM; while :; do sleep 1; done"));
    let mut control = guest.connect(&Open::Control);
    let stop = Request::Stop {
        signal: TERM,
        grace_ms: 100,
    };
    control.control(&stop).expect("sent");
    drop(control);
    assert_eq!(guest.end().cause, ExitCause::Stopped);
}

#[test]
fn the_time_limit_ends_a_command_with_nobody_connected() {
    for (text, signal) in [
        ("exec sleep 1000", TERM),
        ("trap '' TERM; while :; do sleep 1; done", 9),
    ] {
        let mut config = script(text);
        config.time_limit_ms = Some(300);
        config.time_limit_grace_ms = 200;
        let (record, ..) = run(&config);
        assert_eq!(record.cause, ExitCause::TimeLimit);
        assert!(
            matches!(record.how, ExitHow::Signalled { signal: found, .. } if found == signal),
            "{:?}",
            record.how
        );
    }
    // The control: one that is far away ends nothing.
    let mut config = script("sleep 0.5; exit 3");
    config.time_limit_ms = Some(3_600_000);
    let (record, ..) = run(&config);
    assert_eq!(record.cause, ExitCause::Own);
    assert_eq!(record.how, ExitHow::Exited { code: 3 });
}

#[test]
fn a_signal_goes_to_the_group_of_the_command() {
    let mut guest = Guest::start(&script(
        "trap 'echo heard; exit 3' INT; echo; while :; do sleep 0.05; done",
    ));
    guest
        .connect(&crate::client::lossy(guest_api::Stream::Stdout, 0))
        .follow(0, 1);
    let mut control = guest.connect(&Open::Control);
    for signal in [0, -1, 65] {
        let reply = control.ask(&Request::Signal { signal });
        assert!(matches!(reply, Reply::Failed { .. }), "{reply:?}");
    }
    let signal = libc::SIGINT;
    assert_eq!(control.ask(&Request::Signal { signal }), Reply::Done);
    let record = guest.end();
    assert_eq!(record.how, ExitHow::Exited { code: 3 });
    assert_eq!(record.cause, ExitCause::Own);
    assert_eq!(guest.output(guest_api::Stream::Stdout), b"\nheard\n");
}

#[test]
fn nothing_runs_if_the_launcher_goes_away_before_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let marker = directory.path().join("marker");
    let command = format!("touch {}", marker.display());
    let mut guest = Guest::prepare(&script(&command), &Launch::default());
    guest.forsake();
    assert!(guest.wait().success());
    assert_eq!(guest.record(), None);
    assert!(!marker.exists());
    // The control: with *go* it does run.
    Guest::start(&script(&command)).end();
    assert!(marker.exists());
}

#[test]
fn what_the_command_leaves_behind_ends_with_it() {
    // One child in the command's group, one in a session of its own, both holding the output.
    let directory = tempfile::tempdir().expect("a directory");
    let marker = directory.path().join("up").display().to_string();
    let text = "sleep 1000 & echo $!
        setsid sh -c 'echo $$; echo up >MARKER; exec sleep 1000' &
        while [ ! -s MARKER ]; do sleep 0.01; done; exit 5";
    let mut guest = Guest::start(&script(&text.replace("MARKER", &marker)));
    let record = guest.end();
    assert_eq!(record.how, ExitHow::Exited { code: 5 });
    let output = String::from_utf8(guest.output(guest_api::Stream::Stdout)).expect("text");
    assert_eq!(output.lines().count(), 2, "{output}");
    for pid in output.lines() {
        eventually("it ends", || !lives(pid));
    }
}
