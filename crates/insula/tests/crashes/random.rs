//! Kills at random while twenty sessions run and fifty wait, also of what recovers; and how long a daemon needs to find a
//! hundred again.

use crate::site::{Site, entries, eventually, is_alive, signal, site};
use crate::world::{begun, left_outside, until_nothing, wrong_inside};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Sessions that run all the time.
const RUNNING: usize = 20;
/// Sessions that wait all the time: each wants the whole machine.
const WAITING: usize = 50;
/// Longest time between the start of a daemon and its end.
const LONGEST_MS: u64 = 1_500;
/// Within this a session is begun.
const START_MS: u64 = 150;
/// Within this a daemon has found again what runs.
const RECOVERY_MS: u64 = 600;
/// What runs: tells outside that it was begun, and stays.
const LIFE: &str = "echo \"attempt $INSULA_ATTEMPT\" >> /runs/$INSULA_SESSION; exec sleep 100000";

/// What sessions that run took to be found again.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    pub(crate) sessions: u32,
    /// From the start of the daemon's process until the API tells of all that they run, and its
    /// node is connected.
    pub(crate) milliseconds: u128,
}

/// A sequence by its seed, the same everywhere (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Kills the daemon so often; gives how often it did, or nothing where it cannot be tried.
pub(crate) fn run(seed: u64, kills: u32) -> Option<u32> {
    let site = site()?;
    fs::create_dir(site.work().join("runs")).expect("made");
    let cpus = std::thread::available_parallelism()
        .expect("a number")
        .get()
        .to_string();
    many(&site, "runs", RUNNING, "0.01", LIFE);
    many(&site, "waits", WAITING, &cpus, "true");
    await_count(&site, "running", RUNNING);
    let before: BTreeSet<i32> = site.processes().into_iter().collect();
    let mut random = Random(seed);
    for kill in 0..kills {
        let name = format!("more-{kill}");
        // One comes and another one goes while the daemon dies, or not yet, or no more.
        let mut acts = vec![spawn(&site, &begin(&name, "0.01", LIFE))];
        if kill > 0 {
            acts.push(spawn(&site, &["stop", &format!("more-{}", kill - 1)]));
        }
        // Half of the kills come while it starts.
        let longest = [LONGEST_MS, START_MS][usize::from(random.below(2) == 1)];
        std::thread::sleep(Duration::from_millis(random.below(longest)));
        if site.home().join("daemon.json").exists() {
            site.kill_daemon();
        }
        // Half of those that are started next die, too, while they recover.
        if random.below(2) == 1 {
            acts.push(spawn(&site, &["up"]));
            kill_next(&site, Duration::from_millis(random.below(RECOVERY_MS)));
        }
        for act in acts {
            let output = crate::site::finish(act);
            assert!(output.status.success(), "{}", crate::site::told(&output));
        }
        if kill > 0 {
            let earlier = format!("more-{}", kill - 1);
            site.await_state(&earlier, "ended");
            assert_eq!(begun(&site.work().join("runs"), &earlier), ["attempt 1"]);
        }
        site.await_state(&name, "running");
        eventually("its command runs", || {
            !begun(&site.work().join("runs"), &name).is_empty()
        });
        check(&site, &before, &format!("kill {kill} of seed {seed}"));
    }
    close(&site);
    Some(kills)
}

/// Kills the daemon that is started next, so long after its process is there.
fn kill_next(site: &Site, after: Duration) {
    let mut next = None;
    eventually("another daemon is started", || {
        next = daemon_process(site);
        next.is_some()
    });
    std::thread::sleep(after);
    let pid = next.expect("it was seen");
    signal(pid, 9);
    eventually("it is gone", || !is_alive(pid));
}

/// The daemon's process, which tells who it is only when the site is up.
fn daemon_process(site: &Site) -> Option<i32> {
    let home = format!("INSULA_HOME={}", site.home().display());
    let has = |path: PathBuf, word: &str| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes
            .split(|byte| *byte == 0)
            .any(|one| one == word.as_bytes())
    };
    let processes = entries(Path::new("/proc")).into_iter();
    let mut pids = processes.filter_map(|path| path.file_name()?.to_str()?.parse().ok());
    pids.find(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        has(process.join("cmdline"), "__serve") && has(process.join("environ"), &home)
    })
}

/// What a small session may use, and where it tells of its runs.
fn small(cpu: &str) -> [&str; 7] {
    [
        "--cpu",
        cpu,
        "--memory",
        "16m",
        "--mount",
        "runs:/runs",
        "--no-env",
    ]
}

/// The arguments that begin one small session.
fn begin<'a>(name: &'a str, cpu: &'a str, life: &'a str) -> Vec<&'a str> {
    let first = ["run", "-d", "--name", name];
    [&first[..], &small(cpu), &["--", "sh", "-c", life]].concat()
}

fn spawn(site: &Site, arguments: &[&str]) -> std::process::Child {
    site.command(arguments)
        .spawn()
        .expect("the executable starts")
}

fn many(site: &Site, name: &str, count: usize, cpu: &str, life: &str) {
    let indices = format!("1-{count}");
    let first = ["run", "-d", "--name", name, "--array", &indices];
    site.ok(&[&first[..], &small(cpu), &["--", "sh", "-c", life]].concat());
}

/// All living sessions, as the API tells.
fn sessions(site: &Site) -> Vec<Value> {
    let listed = site.json(&["ls", "--elements", "--json"]);
    let sessions = listed["sessions"].as_array().or(listed.as_array());
    sessions.expect("a list").clone()
}

fn count(site: &Site, state: &str) -> usize {
    sessions(site)
        .iter()
        .filter(|one| one["state"] == state)
        .count()
}

fn await_count(site: &Site, state: &str, wanted: usize) {
    eventually(&format!("{wanted} are {state}"), || {
        count(site, state) == wanted
    });
}

/// Those that ran are the same processes, those that waited wait, and no attempt was begun twice.
fn check(site: &Site, before: &BTreeSet<i32>, when: &str) {
    let now: BTreeSet<i32> = site.processes().into_iter().collect();
    let gone: Vec<&i32> = before.difference(&now).collect();
    assert!(gone.is_empty(), "{when}: {gone:?} are gone");
    await_count(site, "pending", WAITING);
    await_count(site, "running", RUNNING + 1);
    for index in 1..=RUNNING {
        let name = format!("runs.{index}");
        let lines = begun(&site.work().join("runs"), &name);
        assert_eq!(lines, ["attempt 1"], "{when}: {name}");
    }
}

fn close(site: &Site) {
    site.ok(&["down", "--stop"]);
    until_nothing("left outside", || left_outside(site));
    let wrong = wrong_inside(site);
    let wrong: Vec<_> = wrong
        .iter()
        .filter(|what| !what.contains("node/members"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// How long it takes until so many sessions are told to run again, after the daemon was killed.
pub(crate) fn recovery(count_wanted: u32) -> Option<Recovery> {
    let site = site()?;
    fs::create_dir(site.work().join("runs")).expect("made");
    let wanted = usize::try_from(count_wanted).expect("few");
    many(&site, "runs", wanted, "0.01", LIFE);
    await_count(&site, "running", wanted);
    site.kill_daemon();
    let began = Instant::now();
    site.ok(&["up"]);
    eventually("all are told to run", || {
        let nodes = site.json(&["node", "ls", "--json"]);
        let nodes = nodes["nodes"]
            .as_array()
            .or(nodes.as_array())
            .expect("nodes")
            .clone();
        nodes[0]["connected"] == true && count(&site, "running") == wanted
    });
    let milliseconds = began.elapsed().as_millis();
    close(&site);
    Some(Recovery {
        sessions: count_wanted,
        milliseconds,
    })
}
