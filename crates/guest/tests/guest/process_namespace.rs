//! The guest as PID 1 of a process namespace.

use crate::harness::{Guest, Launch, is_root, program_for_everybody, script};
use domain::{ExitCause, ExitHow};
use guest_api::{GuestConfig, Open, Reply, Request, Stream};
use std::os::unix::fs::MetadataExt;

fn start(config: &GuestConfig) -> Guest {
    let launch = Launch {
        as_init: true,
        ..Launch::default()
    };
    let mut config = config.clone();
    if !is_root() {
        // Inside the user namespace that it takes then, the tests' user is root.
        (config.run_as.uid, config.run_as.gid) = (0, 0);
    }
    Guest::launch(&config, &launch)
}

#[test]
fn it_reaps_orphans_and_ends_daemons() {
    let text = "(setsid sleep 1000 &) ; (true &) ; setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & \
                echo $$; exit 4";
    let mut guest = start(&script(text));
    let record = guest.end();
    assert_eq!(record.how, ExitHow::Exited { code: 4 });
    let output = guest.output(Stream::Stdout);
    let pid: u32 = String::from_utf8_lossy(&output)
        .trim()
        .parse()
        .expect("a pid");
    assert!(pid < 10, "it was not PID 1: {pid}");
}

#[test]
fn a_stop_reaches_every_process() {
    let text = "setsid sh -c 'trap \"echo daemon; exit\" TERM; echo up; while :; do sleep 0.1; done' & \
                trap 'sleep 0.5; exit 6' TERM; echo up; while :; do sleep 0.1; done";
    let mut guest = start(&script(text));
    guest
        .connect(&crate::client::lossy(Stream::Stdout, 0))
        .follow(0, 6);
    let mut control = guest.connect(&Open::Control);
    let stats = control.stats();
    assert!(stats.processes >= 2, "{stats:?}");
    let stop = Request::Stop {
        signal: libc::SIGTERM,
        grace_ms: 30_000,
    };
    assert_eq!(control.ask(&stop), Reply::Done);
    let record = guest.end();
    assert_eq!(record.how, ExitHow::Exited { code: 6 });
    assert_eq!(record.cause, ExitCause::Stopped);
    assert_eq!(guest.output(Stream::Stdout), b"up\nup\ndaemon\n");
}

#[test]
fn the_grace_ends_everything() {
    let text = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let mut guest = start(&script(text));
    guest
        .connect(&crate::client::lossy(Stream::Stdout, 0))
        .follow(0, 3);
    let mut control = guest.connect(&Open::Control);
    let stop = Request::Stop {
        signal: libc::SIGTERM,
        grace_ms: 50,
    };
    assert_eq!(control.ask(&stop), Reply::Done);
    let record = guest.end();
    assert!(matches!(record.how, ExitHow::Signalled { signal: 9, .. }));
}

#[test]
fn as_the_sandbox_starts_it_everything_works_across_users() {
    const USER: u32 = 1_000;
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_everybody();
    let launch = Launch {
        program: Some(program),
        as_init: true,
        as_guest_user: true,
        ..Launch::default()
    };
    let text = "trap 'echo stopped; exit 9' TERM
        grep -E '^(Uid|Cap|NoNew)' /proc/self/status; cat /proc/self/oom_score_adj
        echo up >/dev/stdout; while :; do sleep 0.05; done";
    let mut config = script(text);
    (config.run_as.uid, config.run_as.gid) = (USER, USER);
    let mut guest = Guest::launch(&config, &launch);
    let mut follower = guest.connect(&crate::client::lossless(Stream::Stdout, 0));
    let mut seen = String::new();
    let mut offset = 0;
    while !seen.ends_with("up\n") {
        let followed = follower.follow(offset, 1);
        offset = followed.next;
        seen.push_str(std::str::from_utf8(&followed.bytes).expect("text"));
    }
    assert!(seen.contains("Uid:\t1000\t1000\t1000\t1000\n"), "{seen}");
    assert!(seen.contains("NoNewPrivs:\t1\n500\nup\n"), "{seen}");
    for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
        let none = format!("Cap{set}:\t0000000000000000\n");
        assert!(seen.contains(&none), "{seen}");
    }
    let target = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(target.path(), Some(USER), Some(USER)).expect("we are root");
    let path = target
        .path()
        .join("file")
        .to_str()
        .expect("text")
        .to_owned();
    let mode = 0o600;
    let mut writer = guest.connect(&Open::WriteFile { path, mode });
    writer.data(b"theirs").expect("sent");
    writer.data(b"").expect("sent");
    assert_eq!(writer.reply(), Reply::Done);
    let written = std::fs::metadata(target.path().join("file")).expect("it is there");
    assert_eq!(written.uid(), USER);
    let mut control = guest.connect(&Open::Control);
    let stop = Request::Stop {
        signal: libc::SIGTERM,
        grace_ms: 30_000,
    };
    assert_eq!(control.ask(&stop), Reply::Done);
    let record = guest.end();
    assert_eq!(record.how, ExitHow::Exited { code: 9 });
    assert!(guest.output(Stream::Stdout).ends_with(b"up\nstopped\n"));
}
