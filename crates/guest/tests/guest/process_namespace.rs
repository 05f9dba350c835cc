//! The guest as PID 1 of a process namespace.

use crate::harness::{Guest, Launch, is_root, script};
use domain::{ExitCause, ExitHow};
use guest_api::{GuestConfig, Open, Reply, Request, Stream};

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
