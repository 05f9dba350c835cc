//! Watching what happens and what is used, and other hands on many sessions.

use crate::site::{Site, eventually, finish, is_alive, signal, site, text, told};
use crate::streams::await_output;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// Sessions that are made while somebody follows.
const FOLLOWED_SESSIONS: usize = 6;

#[test]
fn events_are_followed_over_the_death_of_the_daemon() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    let path = site.work().join("events");
    let file = File::create(&path).expect("a file");
    let mut follower = site.command(&["events", "-f", "--json"]);
    let follower = follower.stdout(file).spawn().expect("started");
    let printed = || fs::read_to_string(&path).expect("a file");
    let mut first = 0;
    eventually("it follows", || {
        first += 1;
        let name = format!("probe-{first}");
        site.ok(&["run", "--no-env", "--name", &name, "--", "true"]);
        !printed().is_empty()
    });
    for number in 0..FOLLOWED_SESSIONS {
        let name = format!("s-{number}");
        site.ok(&["run", "-d", "--no-env", "--name", &name, "--", "true"]);
        if number % 2 == 0 {
            site.kill_daemon();
        }
    }
    let last = format!("s-{}", FOLLOWED_SESSIONS - 1);
    site.await_state(&last, "ended");
    let ended = format!("session {last} has ended");
    eventually("its end is told", || printed().contains(&ended));
    signal(follower.id() as i32, 2);
    finish(follower);
    let numbers: Vec<u64> = printed().lines().map(number_of).collect();
    let kept = site.ok(&["events", "--since", "1h", "--json"]);
    let kept: Vec<u64> = kept.lines().map(number_of).collect();
    let from = kept.iter().position(|number| *number == numbers[0]);
    let expected = &kept[from.expect("it is kept")..][..numbers.len()];
    assert_eq!(numbers, expected, "nothing is lost or told twice");
    assert!(numbers.len() > FOLLOWED_SESSIONS * 3);
    let one = site.ok(&["events", "--session", &last]);
    assert!(
        one.contains("session.created") && !one.contains("s-0"),
        "{one}"
    );
}

fn number_of(line: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(line).expect("JSON on each line");
    event["number"].as_u64().expect("a number")
}

#[test]
fn one_sample_tells_what_is_used() {
    let Some(site) = site() else { return };
    let spin = "echo up; while :; do :; done";
    let words = [
        "--cpu", "0.5", "--memory", "64m", "--no-env", "--", "sh", "-c", spin,
    ];
    site.ok(&[&["run", "-d", "--name", "spins"][..], &words].concat());
    await_output(&site, "spins", "up");
    let mut last = serde_json::Value::Null;
    eventually("its CPU is told", || {
        last = site.json(&["top", "--json"]);
        last["sessions"][0]["cpu_percent"]
            .as_f64()
            .is_some_and(|cpu| cpu > 1.0)
    });
    let (session, node) = (&last["sessions"][0], &last["nodes"][0]);
    assert!(
        session["cpu_percent"].as_f64() < Some(90.0),
        "half a CPU: {last}"
    );
    assert_eq!(session["resources"]["memory_bytes"], 64 << 20);
    assert!(
        session["usage"]["memory_bytes"].as_u64() > Some(0),
        "{last}"
    );
    assert_eq!(node["used"]["cpu"], "0.5", "{last}");
    let table = site.ok(&["top"]);
    assert!(table.contains("spins") && table.contains("CPU%"), "{table}");
    if Path::new("/proc/pressure").exists() {
        what_it_waits_for_is_told(&site);
    }
    assert!(
        !table.contains('\u{1b}'),
        "no terminal, no sequences: {table:?}"
    );
}

/// It wants a whole CPU and gets half of one.
fn what_it_waits_for_is_told(site: &Site) {
    let recent = |what: &serde_json::Value| what["pressure"]["cpu"]["recent_hundredths"].as_u64();
    eventually("it waits for a CPU", || {
        let sample = site.json(&["top", "--json"]);
        let (session, node) = (&sample["sessions"][0]["usage"], &sample["nodes"][0]);
        recent(session) >= Some(1_000) && recent(node) > Some(0)
    });
    let why = site.ok(&["why", "spins"]);
    assert!(why.contains("for a CPU: its limit is 0.5"), "{why}");
    let table = site.ok(&["top"]);
    assert!(table.contains("% cpu"), "{table}");
}

#[test]
fn a_session_is_renamed_and_several_are_stopped_at_once() {
    let Some(site) = site() else { return };
    for name in ["one", "two", "three"] {
        site.ok(&[
            "run", "-d", "--no-env", "--cpu", "0.2", "--name", name, "--", "sleep", "600",
        ]);
    }
    for name in ["one", "two", "three"] {
        site.await_state(name, "running");
    }
    site.ok(&["rename", "one", "first"]);
    let taken = site.insula(&["rename", "two", "first"]);
    assert_eq!(taken.status.code(), Some(1), "{}", told(&taken));
    assert!(text(&taken.stderr).contains("first-2"), "{}", told(&taken));
    site.kill_daemon();
    assert_eq!(site.json(&["show", "first", "--json"])["name"], "first");
    let some = site.insula(&[
        "stop", "--signal", "SIGINT", "--grace", "30s", "nobody", "two",
    ]);
    assert_eq!(
        some.status.code(),
        Some(1),
        "one is not there: {}",
        told(&some)
    );
    assert!(
        text(&some.stdout).contains("two: stopped"),
        "{}",
        told(&some)
    );
    let all = site.ok(&["stop", "--all"]);
    assert!(
        all.contains("first: stopped") && all.contains("three: stopped"),
        "{all}"
    );
    assert_eq!(
        site.json(&["ls", "--json"])["sessions"]
            .as_array()
            .map(Vec::len),
        Some(0)
    );
}

/// A terminal with `top` in it.
struct Watched {
    terminal: File,
    user: File,
    seen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Watched {
    fn start(site: &Site) -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&user).expect("ours");
        unlockpt(&user).expect("ours");
        let name = ptsname(&user, Vec::new()).expect("a name");
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let terminal = OpenOptions::new().read(true).write(true).open(path);
        let terminal = terminal.expect("its other end");
        let size = Winsize {
            ws_row: 12,
            ws_col: 90,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).expect("a size");
        let end = || Stdio::from(terminal.try_clone().expect("a copy"));
        let child = site
            .command(&["top", "--interval", "300ms"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("started");
        let user = File::from(user);
        let (seen, mut reader) = (Arc::default(), user.try_clone().expect("a copy"));
        let to = Arc::clone(&seen);
        std::thread::spawn(move || copy(&mut reader, &to));
        Self {
            terminal,
            user,
            seen,
            child,
        }
    }

    fn has_seen(&self, what: &str) -> bool {
        text(&self.seen.lock().expect("not poisoned")).contains(what)
    }

    fn forget(&self) {
        self.seen.lock().expect("not poisoned").clear();
    }

    fn keys_are_taken(&self) -> bool {
        let modes = tcgetattr(&self.terminal).expect("its modes").local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }
}

fn copy(from: &mut File, to: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let mut seen = to.lock().expect("not poisoned");
        seen.extend_from_slice(&bytes[..count]);
    }
}

#[test]
fn top_gives_the_terminal_back_on_every_way_out() {
    let Some(site) = site() else { return };
    site.ok(&[
        "run", "-d", "--no-env", "--cpu", "0.2", "--name", "idle", "--", "sleep", "600",
    ]);
    for (way, code) in [
        ("q", 0),
        ("SIGTERM", 143),
        ("SIGHUP", 129),
        ("the daemon dies", 0),
    ] {
        let mut watched = Watched::start(&site);
        eventually("it shows the session", || watched.has_seen("idle"));
        assert!(watched.keys_are_taken(), "the control: it has the terminal");
        let pid = watched.child.id() as i32;
        match way {
            "SIGTERM" => signal(pid, 15),
            "SIGHUP" => signal(pid, 1),
            "q" => watched.user.write_all(b"mq").expect("typed"),
            _ => {
                site.kill_daemon();
                eventually("it comes back", || site.home().join("daemon.json").exists());
                watched.forget();
                watched.user.write_all(b"n ").expect("typed");
                eventually("it goes on", || watched.has_seen("sorted by name"));
                watched.user.write_all(b"q").expect("typed");
            }
        }
        eventually("it is gone", || !is_alive(pid));
        let status = watched.child.wait().expect("a child of ours");
        assert_eq!(status.code(), Some(code), "{way}");
        assert!(
            !watched.keys_are_taken(),
            "{way}: the terminal is as it was"
        );
        eventually("the screen is the user's again", || {
            watched.has_seen("\u{1b}[?1049l")
        });
    }
}
