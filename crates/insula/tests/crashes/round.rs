//! One round: something goes on, a process is killed at its point, the daemon starts again, and
//! everything is as it was asked for.

use crate::points::{Point, Scene, Who};
use crate::site::{Site, entries, eventually_within, is_alive, text, told};
use crate::world::{begun, image_files, left_outside, until_nothing, wrong_inside};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

/// Longest that any state may last here, and that a point may not be come to.
const LIMIT: Duration = Duration::from_secs(90);
/// The same where a clock is waited for: retention is looked at once a minute.
const SLOW_LIMIT: Duration = Duration::from_secs(200);
/// What a session does: tells outside that it was begun, and goes on until it is told to end.
const JOB: &str = "#!/bin/sh
echo \"attempt $INSULA_ATTEMPT\" >> /runs/$INSULA_SESSION
echo begun
until [ -e /runs/end-$INSULA_SESSION ]; do sleep 0.05; done
echo over
";
const IMAGE: &str = "small";

/// What became of what went on, in words of the table.
pub(crate) type Outcome = String;

/// A site whose processes are killed.
pub(crate) struct Rounds {
    pub(crate) site: Site,
    number: u32,
}

impl Rounds {
    pub(crate) fn new(site: Site) -> Self {
        let work = site.work();
        for name in ["job", "runs"] {
            fs::create_dir(work.join(name)).expect("made");
        }
        fs::write(work.join("job/job.sh"), JOB).expect("written");
        Self { site, number: 0 }
    }

    fn runs(&self) -> PathBuf {
        self.site.work().join("runs")
    }

    fn arm(&self, point: &Point) {
        let file = self.site.crash_points();
        let _earlier = fs::remove_file(file.with_extension("taken"));
        fs::write(&file, format!("{} {}\n", point.name, point.passing)).expect("armed");
    }

    /// Waits until a process has come to the point, which is where it ends.
    fn await_death(&self, point: &Point, daemon: Option<i32>) {
        let taken = self.site.crash_points().with_extension("taken");
        let limit = if point.is_slow() { SLOW_LIMIT } else { LIMIT };
        let what = format!("{} is come to", point.label());
        eventually_within(limit, &what, || taken.exists());
        if let (Some(pid), Who::Daemon) = (daemon, point.who) {
            eventually_within(LIMIT, "the daemon is gone", || !is_alive(pid));
        }
    }

    /// Runs a point once and gives what became of it; whatever is wrong is a panic.
    pub(crate) fn run(&mut self, point: &Point) -> Outcome {
        self.number += 1;
        let name = format!("one-{}", self.number);
        let outcome = match point.scene {
            Scene::Begin | Scene::BeginOnImage => self.begin(point, &name),
            Scene::End => self.end(point, &name),
            Scene::Stop => self.stop(point, &name),
            Scene::Remove => self.remove(point, &name),
            Scene::Import => self.import(point),
            Scene::RemoveImage => self.remove_image(point),
            Scene::FirstStart | Scene::NextStart => self.start(point, &name),
            Scene::Retention => self.retention(point, &name),
        };
        self.nothing_is_left();
        outcome
    }

    /// Control: what is looked for when a site is down is found while a session runs.
    pub(crate) fn control(&self) {
        self.running("control");
        let found = left_outside(&self.site);
        for kind in [
            "process",
            "loop device",
            "cgroup",
            "device",
            "rules",
            "file",
        ] {
            let is_found = found.iter().any(|what| what.starts_with(kind));
            assert!(
                is_found,
                "no {kind} is seen of a session that runs: {found:?}"
            );
        }
        assert!(
            !wrong_inside(&self.site).is_empty(),
            "its directory is not seen"
        );
        self.ends_well("control");
        self.tidy("control");
        self.nothing_is_left();
    }

    fn begin(&self, point: &Point, name: &str) -> Outcome {
        let on_image = point.scene == Scene::BeginOnImage;
        if on_image {
            self.import_image();
        }
        self.site.ok(&["up"]);
        let daemon = self.site.daemon();
        self.arm(point);
        let asked = self.ask(name, on_image);
        self.await_death(point, Some(daemon));
        assert!(
            asked.status.success(),
            "the client asks again: {}",
            told(&asked)
        );
        let outcome = self.began_once(point, name);
        self.tidy(name);
        if on_image {
            self.site.ok(&["image", "rm", IMAGE]);
            // Else the next round finds its layers on the node.
            self.no_image_is_left();
        }
        outcome
    }

    /// Asks for a session, detached.
    fn ask(&self, name: &str, on_image: bool) -> Output {
        let limits = ["--cpu", "0.1", "--memory", "32m", "--disk", "16m"];
        let first = [
            "run",
            "-d",
            "--name",
            name,
            "--mount",
            "runs:/runs",
            "--no-env",
        ];
        let what = match on_image {
            true => vec![
                "--upload",
                "job",
                "--image",
                IMAGE,
                "--",
                "sh",
                "/work/job.sh",
            ],
            false => vec!["--network", "egress", "job/job.sh"],
        };
        self.site.insula(&[&first[..], &limits, &what].concat())
    }

    /// The session runs, or has ended for a reason that is true; it was begun at most once.
    fn began_once(&self, point: &Point, name: &str) -> Outcome {
        let shown = self.settled(name);
        if shown["state"] == "ended" {
            let lines = begun(&self.runs(), name);
            let outcome = &shown["outcome"];
            assert_eq!(
                point.who,
                Who::Launcher,
                "a daemon's end ends nothing: {shown}"
            );
            assert!(lines.len() <= 1, "begun more than once: {lines:?}");
            assert_eq!(outcome["cause"], "start_failed", "{shown}");
            assert!(!self.site.ok(&["why", name]).is_empty());
            return match lines.len() {
                0 => "ended: start failed, never begun".to_owned(),
                _ => "ended: start failed, begun once".to_owned(),
            };
        }
        self.awaits_begun(name);
        self.nodes_use(&[name]);
        self.ends_well(name);
        "runs on, begun once".to_owned()
    }

    /// The session in a state that lasts: what is on its way comes there.
    fn settled(&self, name: &str) -> Value {
        let mut shown = Value::Null;
        eventually_within(LIMIT, &format!("{name} comes to rest"), || {
            shown = self.site.json(&["show", name, "--json"]);
            let state = shown["state"].as_str().expect("a state");
            ["running", "ended"].contains(&state)
        });
        let listed = self.site.json(&["ls", "--all", "--json"]);
        let listed = listed["sessions"]
            .as_array()
            .or(listed.as_array())
            .expect("a list");
        let so_named = listed.iter().filter(|one| one["name"] == name).count();
        assert_eq!(so_named, 1, "the same request made one session: {listed:?}");
        shown
    }

    fn awaits_begun(&self, name: &str) {
        eventually_within(LIMIT, "its command runs", || {
            !begun(&self.runs(), name).is_empty()
        });
    }

    /// What the node's sessions have of it is what lives there.
    fn nodes_use(&self, living: &[&str]) {
        let nodes = self.site.json(&["node", "ls", "--json"]);
        let nodes = nodes["nodes"]
            .as_array()
            .or(nodes.as_array())
            .expect("nodes");
        assert_eq!(nodes.len(), 1, "one machine: {nodes:?}");
        let told: Vec<&str> = nodes[0]["sessions"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        assert_eq!(told, living, "{nodes:?}");
        let cpu = nodes[0]["used"]["cpu"].to_string();
        let is_idle = ["0", "0.0", "\"0\"", "null"].contains(&cpu.as_str());
        assert_eq!(is_idle, living.is_empty(), "used: {}", nodes[0]["used"]);
        assert_eq!(
            nodes[0]["unclaimed"].as_array().map_or(0, Vec::len),
            0,
            "{nodes:?}"
        );
    }

    /// Its command is told to end: it does, and all is on record.
    fn ends_well(&self, name: &str) {
        self.tell_to_end(name);
        self.has_ended_well(name);
    }

    fn tell_to_end(&self, name: &str) {
        fs::write(self.runs().join(format!("end-{name}")), "").expect("written");
    }

    fn has_ended_well(&self, name: &str) {
        self.site.await_state(name, "ended");
        let shown = self.site.json(&["show", name, "--json"]);
        assert_eq!(shown["outcome"]["outcome"], "succeeded", "{shown}");
        assert_eq!(begun(&self.runs(), name), ["attempt 1"]);
        assert_eq!(self.site.ok(&["logs", name]), "begun\nover\n");
    }

    /// A session that runs, with a daemon that is up.
    fn running(&self, name: &str) -> i32 {
        let asked = self.ask(name, false);
        assert!(asked.status.success(), "{}", told(&asked));
        self.site.await_state(name, "running");
        self.awaits_begun(name);
        self.site.daemon()
    }

    fn end(&self, point: &Point, name: &str) -> Outcome {
        let daemon = self.running(name);
        self.arm(point);
        self.tell_to_end(name);
        self.await_death(point, Some(daemon));
        self.has_ended_well(name);
        self.nodes_use(&[]);
        self.tidy(name);
        "ended well, on record once".to_owned()
    }

    fn stop(&self, point: &Point, name: &str) -> Outcome {
        let daemon = self.running(name);
        self.arm(point);
        let stopped = self.site.insula(&["stop", name]);
        self.await_death(point, Some(daemon));
        let asked_again = !stopped.status.success();
        if asked_again {
            self.site.insula(&["stop", name]);
        }
        self.site.await_state(name, "ended");
        let shown = self.site.json(&["show", name, "--json"]);
        assert_eq!(shown["outcome"]["outcome"], "stopped", "{shown}");
        assert_eq!(begun(&self.runs(), name), ["attempt 1"]);
        self.nodes_use(&[]);
        self.tidy(name);
        match asked_again {
            true => "stopped when asked again".to_owned(),
            false => "stopped".to_owned(),
        }
    }

    fn remove(&self, point: &Point, name: &str) -> Outcome {
        let daemon = self.running(name);
        self.ends_well(name);
        self.arm(point);
        let removed = self.site.insula(&["rm", name]);
        self.await_death(point, Some(daemon));
        let known = self.site.insula(&["show", name]).status.success();
        if known {
            self.site.insula(&["rm", name]);
        }
        self.is_gone(name);
        match (removed.status.success(), known) {
            (true, false) => "removed".to_owned(),
            (_, true) => "removed when asked again".to_owned(),
            (false, false) => "removed, and the client was not told".to_owned(),
        }
    }

    fn is_gone(&self, name: &str) {
        eventually_within(LIMIT, "it is gone", || {
            !self.site.insula(&["show", name]).status.success()
        });
        eventually_within(LIMIT, "its files are gone", || {
            self.site.members().is_empty()
        });
    }

    /// Removes a session that has ended.
    fn tidy(&self, name: &str) {
        self.site.ok(&["rm", name]);
        self.is_gone(name);
        eventually_within(LIMIT, "its groups are gone", || {
            self.site.cgroups().is_empty()
        });
        self.nodes_use(&[]);
    }

    /// A small image, as an archive of a root file system.
    fn archive(&self) -> PathBuf {
        let archive = self.site.work().join("small.tar");
        if !archive.exists() {
            let root = self.site.work().join("small");
            crate::image_sources::busybox(&root);
            let path = archive.to_str().expect("text");
            crate::image_sources::run("tar", &["-cf", path, "-C", "small", "."], &self.site.work());
        }
        archive
    }

    fn import_image(&self) {
        self.archive();
        self.site
            .ok(&["image", "import", "small.tar", "--name", IMAGE]);
    }

    fn import(&self, point: &Point) -> Outcome {
        self.archive();
        self.site.ok(&["up"]);
        let daemon = self.site.daemon();
        self.arm(point);
        let imported = self
            .site
            .insula(&["image", "import", "small.tar", "--name", IMAGE]);
        self.await_death(point, Some(daemon));
        let listed = self.site.ok(&["image", "ls"]);
        let is_there = listed.contains(IMAGE);
        if !is_there {
            assert!(
                !imported.status.success(),
                "it was told to be there: {listed}"
            );
            self.import_image();
        }
        let said = self
            .site
            .ok(&["run", "--image", IMAGE, "--", "echo", "whole"]);
        assert_eq!(said, "whole\n");
        self.site.ok(&["image", "rm", IMAGE]);
        self.remove_all();
        self.no_image_is_left();
        match is_there {
            true => "there, whole".to_owned(),
            false => "not there, and again imported".to_owned(),
        }
    }

    /// What of an image nothing names is removed, at the next start at the latest.
    fn no_image_is_left(&self) {
        if !image_files(&self.site).is_empty() {
            self.site.ok(&["down"]);
            self.site.ok(&["up"]);
        }
        until_nothing("left of the image", || {
            let mut left = image_files(&self.site);
            left.retain(|path| !path.ends_with("/locks"));
            left
        });
    }

    fn remove_image(&self, point: &Point) -> Outcome {
        self.import_image();
        assert_eq!(
            self.site.ok(&["run", "--image", IMAGE, "--", "echo", "x"]),
            "x\n"
        );
        self.remove_all();
        let daemon = self.site.daemon();
        self.arm(point);
        let removed = self.site.insula(&["image", "rm", IMAGE]);
        self.await_death(point, Some(daemon));
        let listed = self.site.ok(&["image", "ls"]);
        assert!(!listed.contains(IMAGE), "{listed}: {}", told(&removed));
        self.no_image_is_left();
        "removed, with all its files".to_owned()
    }

    fn remove_all(&self) {
        let listed = self.site.json(&["ls", "--all", "--json"]);
        let listed = listed["sessions"]
            .as_array()
            .or(listed.as_array())
            .expect("a list");
        for session in listed {
            self.site
                .ok(&["rm", session["id"].as_str().expect("an id")]);
        }
        eventually_within(LIMIT, "all files are gone", || {
            self.site.members().is_empty()
        });
    }

    fn start(&self, point: &Point, name: &str) -> Outcome {
        if point.scene == Scene::FirstStart {
            let home = self.site.home();
            process::remove_tree(&home).expect("an earlier home holds no mount");
        } else {
            self.running(name);
            self.site.ok(&["down", "--leave"]);
        }
        self.arm(point);
        let up = self.site.insula(&["up"]);
        self.await_death(point, None);
        assert!(
            up.status.success(),
            "the client starts another one: {}",
            told(&up)
        );
        if point.scene == Scene::NextStart {
            self.settled(name);
            self.nodes_use(&[name]);
            self.ends_well(name);
            self.tidy(name);
            return "the next one has all sessions".to_owned();
        }
        assert_eq!(self.site.ok(&["run", "--", "echo", "first"]), "first\n");
        self.remove_all();
        "the next one migrates on".to_owned()
    }

    fn retention(&self, point: &Point, name: &str) -> Outcome {
        let config = self.site.home().join("config.toml");
        self.site.ok(&["up"]);
        self.site.ok(&["down"]);
        fs::write(&config, "[retention]\nsessions = \"1s\"\n").expect("written");
        let daemon = self.running(name);
        self.ends_well(name);
        self.arm(point);
        self.await_death(point, Some(daemon));
        let mut listed = String::new();
        eventually_within(LIMIT, "it is forgotten", || {
            listed = self.site.ok(&["ls", "--all"]);
            !listed.contains(name)
        });
        // Its files outlive its row: whose they are is not known any more, and that is told.
        self.site.ok(&["down"]);
        eventually_within(LIMIT, "its files are gone", || {
            let unclaimed = self.site.json(&["unclaimed", "--json"])["unclaimed"].clone();
            for member in unclaimed.as_array().into_iter().flatten() {
                let id = member["id"].as_str().expect("an id");
                // It may be on its way already.
                self.site.insula(&["unclaimed", "rm", id]);
            }
            self.site.members().is_empty()
        });
        fs::remove_file(&config).expect("written before");
        "forgotten; its files are unclaimed".to_owned()
    }

    /// The site goes down, and nothing is left but its home, in which all is well.
    fn nothing_is_left(&self) {
        let down = self.site.insula(&["down", "--stop"]);
        assert!(down.status.success(), "{}", told(&down));
        until_nothing("left outside", || left_outside(&self.site));
        let wrong = wrong_inside(&self.site);
        assert!(wrong.is_empty(), "{wrong:?}");
        let unexpected: Vec<_> = entries(&self.site.work())
            .into_iter()
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str());
                !["job", "runs", "small", "small.tar"].contains(&name.unwrap_or_default())
            })
            .collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
    }

    /// Ends what a round has left that failed, as far as can be.
    pub(crate) fn give_up(self) {
        self.site.insula(&["down", "--stop"]);
        for pid in self.site.processes() {
            crate::site::signal(pid, 9);
        }
    }

    /// The last lines of the daemon's log, for a table of what went wrong.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.site.home().join("daemon.log")).unwrap_or_default();
        let log = text(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
