//! Two daemons on one PostgreSQL: one leads, the other stands by and takes over, and what the first
//! one ran runs on.

use crate::site::{Site, eventually, is_alive, signal, site, text, told};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;
use test_postgres::Server;

/// Beats until it finds a file.
const LIFE: &str =
    "n=0; while [ ! -e stop ]; do n=$((n+1)); echo beat $n; sleep 0.2; done; echo bye $n";
/// SIGCONT and SIGSTOP.
const CONTINUE: i32 = 18;
const STOP: i32 = 19;

/// Writes down which connection has written what.
const AUDIT: &str = include_str!("standby.sql");

/// Two homes and the server that both name. The sites end before the server does.
pub(crate) struct Pair {
    pub(crate) one: Site,
    pub(crate) other: Site,
    server: Server,
}

impl Pair {
    /// `one` leads and runs a session that beats; `other` stands by. `None` where that cannot be.
    pub(crate) fn start() -> Option<Self> {
        let (one, other) = (site()?, site()?);
        let server = Server::start_or_skip()?;
        for (site, name) in [(&one, "one"), (&other, "other")] {
            fs::create_dir(site.home()).expect("a new directory");
            let store = server.address("postgres");
            let config = format!("[site]\nstore = \"{store}\"\n[node]\nname = \"{name}\"\n");
            fs::write(site.home().join("config.toml"), config).expect("written");
        }
        let pair = Self { one, other, server };
        pair.one.ok(&["up"]);
        pair.one
            .ok(&["run", "-d", "--name", "beats", "--", "sh", "-c", LIFE]);
        pair.one.await_state("beats", "running");
        pair.one.await_output();
        is_standing_by(&pair.other, &pair.one);
        Some(pair)
    }

    /// The beating session is told to end where `site` has it, and ends with all its output.
    fn end(site: &Site) {
        let shown = site.json(&["show", "beats", "--json"]);
        let member = shown["members"][0]["id"].as_str().expect("a member");
        let work = site.home().join("node/members").join(member).join("work");
        fs::write(work.join("stop"), "").expect("written");
        site.await_state("beats", "ended");
        let shown = site.json(&["show", "beats", "--json"]);
        assert_eq!(shown["outcome"]["outcome"], "succeeded", "{shown}");
        assert_eq!(shown["attempt"], 1, "{shown}");
        let log = site.ok(&["logs", "beats"]);
        let beats = log.lines().count() - 1;
        let expected: String = (1..=beats).map(|n| format!("beat {n}\n")).collect();
        assert_eq!(log, format!("{expected}bye {beats}\n"));
    }

    fn number(&self, sql: &str) -> i64 {
        let said = self.server.shell("postgres", sql).expect("an answer");
        said.parse().expect("a number")
    }
}

impl Site {
    fn await_output(&self) {
        eventually("it beats", || !self.ok(&["logs", "beats"]).is_empty());
    }
}

/// Asks a daemon by its socket, as any program would, and gives the status and the rest.
fn asked(site: &Site) -> Option<(String, String)> {
    let written = fs::read(site.home().join("daemon.json")).ok()?;
    let written: serde_json::Value = serde_json::from_slice(&written).ok()?;
    let mut stream = UnixStream::connect(written["socket"].as_str()?).ok()?;
    let request = "GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (status, rest) = answer.split_once("\r\n")?;
    Some((status.to_owned(), rest.to_owned()))
}

pub(crate) fn is_answering(site: &Site) -> bool {
    asked(site).is_some_and(|(status, _)| status.contains(" 200 "))
}

/// `site` answers only that `leader` leads, to people and to programs.
pub(crate) fn is_standing_by(site: &Site, leader: &Site) {
    let leader = leader.home().display().to_string();
    let names = |said: &str| said.contains(&leader) && said.contains("leads the site");
    let output = site.insula(&["ls"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(said.contains("this manager stands by"), "{said}");
    assert!(names(&said) && said.contains("hint: "), "{said}");
    let (status, rest) = asked(site).expect("it listens");
    assert!(status.contains(" 503 "), "{status}");
    assert!(rest.contains("standing-by") && names(&rest), "{rest}");
    assert_eq!(site.insula(&["up"]).status.code(), Some(1));
    let checks = site.ok(&["doctor"]);
    assert!(checks.contains("this manager stands by"), "{checks}");
}

/// The site is led anew in `site`'s home, and goes on there; `beats` runs where it ran.
pub(crate) fn leads_on(site: &Site, since: Instant) {
    eventually("the other leads", || is_answering(site));
    println!("the first answer {:?} after that", since.elapsed());
    assert_eq!(site.state("beats"), "running");
    assert_eq!(site.ok(&["run", "--", "echo", "here"]), "here\n");
}

#[test]
fn when_the_leader_is_killed_the_other_leads_and_its_sessions_run_on() {
    let Some(pair) = Pair::start() else { return };
    let before = pair.one.processes();
    pair.one.kill_daemon();
    leads_on(&pair.other, Instant::now());
    assert_eq!(kept(&before, &pair.one), before.len().min(2));
    let nodes = pair.other.json(&["node", "ls", "--json"]);
    let connected = |node: &&serde_json::Value| node["connected"] == true;
    let nodes = nodes["nodes"].as_array().expect("a list");
    assert_eq!(
        (nodes.len(), nodes.iter().filter(connected).count()),
        (2, 1)
    );

    // The next command there starts a daemon, which stands by now.
    is_standing_by(&pair.one, &pair.other);
    let down = pair.other.ok(&["down", "--leave"]);
    assert!(down.contains("1 session runs on"), "{down}");
    let begun = Instant::now();
    eventually("the first leads again", || is_answering(&pair.one));
    println!("handed over in {:?}", begun.elapsed());
    assert_eq!(pair.one.state("beats"), "running");
    assert_eq!(kept(&before, &pair.one), before.len().min(2));
    Pair::end(&pair.one);
}

/// How many of a session's lasting processes (a guest and a shell) are there still.
fn kept(before: &[i32], site: &Site) -> usize {
    let now = site.processes();
    let same = before.iter().filter(|pid| now.contains(pid)).count();
    same.min(2)
}

/// `one` stands still until `other` leads, and is not yet awake.
fn overtaken() -> Option<(Pair, i32)> {
    let pair = Pair::start()?;
    let made = pair.server.shell("postgres", AUDIT);
    made.expect("what notes the writes");
    pair.one.ok(&["run", "--", "true"]);
    assert_eq!(pair.number(WRITERS), 1);
    let old = pair.one.daemon();
    signal(old, STOP);
    leads_on(&pair.other, Instant::now());
    Some((pair, old))
}

/// How many connections have written.
const WRITERS: &str = "TABLE audit.writers";
/// Rows that another connection has written than the one that leads since the take-over.
const OTHERS: &str = "TABLE audit.others";

#[test]
fn a_leader_that_stood_still_writes_nothing_more_and_stands_by() {
    let Some((pair, old)) = overtaken() else {
        return;
    };
    signal(old, CONTINUE);
    eventually("the old leader's process ends", || !is_alive(old));
    assert_eq!(pair.other.ok(&["run", "--", "echo", "on"]), "on\n");
    assert_eq!(pair.number(WRITERS), 2);
    assert_eq!(pair.number(OTHERS), 0);
    is_standing_by(&pair.one, &pair.other);
    assert_eq!(pair.number(OTHERS), 0);
    pair.other.ok(&["down", "--leave"]);
    eventually("the first leads again", || is_answering(&pair.one));
    Pair::end(&pair.one);
}

/// The same, with a fence that does not hold: the lease's row is set back, so that it does not tell
/// of the take-over any more.
#[test]
fn control_where_the_lease_does_not_tell_an_old_leader_goes_on_writing() {
    let Some((pair, old)) = overtaken() else {
        return;
    };
    // The new leader would notice in its turn.
    let new = pair.other.daemon();
    signal(new, STOP);
    let set_back = pair.server.shell("postgres", "CALL audit.set_back()");
    set_back.expect("done");
    assert_eq!(pair.number(OTHERS), 1, "this very change");
    signal(old, CONTINUE);
    eventually("the old leader writes", || pair.number(OTHERS) > 1);
    signal(new, CONTINUE);
    eventually("the new leader's process ends", || !is_alive(new));
    eventually("the old one leads", || is_answering(&pair.one));
    Pair::end(&pair.one);
}
