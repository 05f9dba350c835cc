//! A guest that is told that its command stands still. That it does is the engine's doing: here
//! the command goes on.

use crate::client::exec;
use crate::harness::{Guest, eventually, script};
use domain::{ExitCause, ExitHow};
use guest_api::protocol::PAUSED;
use guest_api::{GuestState, Open, Reply, Request};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(3);

fn tell(guest: &Guest, request: &Request) {
    let reply = guest.connect(&Open::Control).ask(request);
    assert_eq!(reply, Reply::Done);
}

#[test]
fn no_further_command_is_begun_until_it_goes_on() {
    let guest = Guest::start(&script("exec sleep 1000"));
    let open = exec(&["true"]);
    for _ in 0..2 {
        tell(&guest, &Request::Pause);
        assert_eq!(guest.connect(&open).failure(), PAUSED);
        let state = guest.connect(&Open::Watch).state();
        assert!(
            matches!(state, Some(GuestState::Running { .. })),
            "{state:?}"
        );
        tell(&guest, &Request::Resume);
        let ran = guest.connect(&open).run_to_end();
        assert_eq!(ran.end, Some((ExitHow::Exited { code: 0 }, false)));
    }
}

#[test]
fn its_time_does_not_run_meanwhile() {
    let mut config = script("exec sleep 1000");
    config.time_limit_ms = Some(u64::try_from(LIMIT.as_millis()).expect("short"));
    // The control: one that was not told ends.
    let mut other = Guest::start(&config);
    let mut guest = Guest::start(&config);
    tell(&guest, &Request::Pause);
    let told = Instant::now();
    assert_eq!(other.end().cause, ExitCause::TimeLimit);
    eventually("its time would be over", || told.elapsed() > LIMIT * 2);
    let state = guest.connect(&Open::Watch).state();
    assert!(
        matches!(state, Some(GuestState::Running { .. })),
        "{state:?}"
    );
    tell(&guest, &Request::Resume);
    assert_eq!(guest.end().cause, ExitCause::TimeLimit);
}

#[test]
fn it_is_stopped_as_any_other() {
    let mut guest = Guest::start(&script("exec sleep 1000"));
    tell(&guest, &Request::Pause);
    let stop = Request::Stop {
        signal: libc::SIGTERM,
        grace_ms: 60_000,
    };
    tell(&guest, &stop);
    assert_eq!(guest.end().cause, ExitCause::Stopped);
}
