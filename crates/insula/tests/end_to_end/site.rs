//! A site for one test, and what can be seen of it from outside.

use domain::Capability;
use sandbox::control_groups;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest that any one command of a test may take on a machine of ordinary speed: far above what it
/// needs, so that only a hang reaches it.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How many times slower this machine is, where it is; an emulated one is.
const SLOWNESS: &str = "INSULA_TEST_SLOWNESS";
/// Between two looks at a condition that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A site in directories of its own. Dropping it stops its sessions and its daemon, and fails the
/// test if anything is left.
pub(crate) struct Site {
    /// The directory of everything.
    root: tempfile::TempDir,
    mounts_before: BTreeSet<String>,
}

/// `None`, with the reason printed, where the sandbox of this release cannot run.
pub(crate) fn site() -> Option<Site> {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: these tests need root");
        return None;
    }
    let groups = control_groups("insula-end-to-end");
    for capability in groups.controllers.values() {
        if let Capability::No { reason } = capability {
            println!("skipped: limits cannot be enforced: {reason}");
            return None;
        }
    }
    let root = tempfile::Builder::new()
        .prefix("insula-e2e-")
        .tempdir()
        .expect("a directory");
    for name in ["runtime", "work"] {
        fs::create_dir(root.path().join(name)).expect("a directory");
    }
    Some(Site {
        root,
        mounts_before: mounts(),
    })
}

impl Site {
    /// `$INSULA_HOME` of the site.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// A directory for the test's own files; commands run there.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Says at which point a process of this site ends, while it is there.
    pub(crate) fn crash_points(&self) -> PathBuf {
        self.root.path().join("crash")
    }

    /// The executable on this site, in [`Site::work`], with nothing on its standard input.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = process::command(env!("CARGO_BIN_EXE_insula"));
        command
            .args(arguments)
            .current_dir(self.work())
            .env_remove("VIRTUAL_ENV")
            .env_remove("CONDA_PREFIX")
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("INSULA_HOME", self.home())
            .env("XDG_RUNTIME_DIR", self.root.path().join("runtime"))
            .env("INSULA_CRASH_POINTS", self.crash_points())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the executable to its end.
    pub(crate) fn insula<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        finish(
            self.command(arguments)
                .spawn()
                .expect("the executable starts"),
        )
    }

    /// Runs the executable, which has to succeed, and gives its standard output.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.insula(arguments);
        assert!(output.status.success(), "{}", told(&output));
        text(&output.stdout)
    }

    /// Runs the executable, which has to print JSON.
    pub(crate) fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> serde_json::Value {
        let printed = self.ok(arguments);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// The state of a session as a word, from `show --json`.
    pub(crate) fn state(&self, session: &str) -> String {
        let shown = self.json(&["show", session, "--json"]);
        shown["state"].as_str().expect("a state").to_owned()
    }

    /// Waits until a session is in `state`.
    pub(crate) fn await_state(&self, session: &str, state: &str) {
        let mut last = String::new();
        eventually(&format!("{session} is {state}"), || {
            last = self.state(session);
            last == state
                || (last == "ended"
                    && state != "ended"
                    && panic!("{session} has ended: {}", self.ok(&["why", session])))
        });
    }

    /// The daemon's process id.
    pub(crate) fn daemon(&self) -> i32 {
        let written = fs::read_to_string(self.home().join("daemon.json")).expect("daemon.json");
        let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        i32::try_from(written["pid"].as_i64().expect("a pid")).expect("a pid")
    }

    /// `kill -9` of the daemon; returns once it is gone.
    pub(crate) fn kill_daemon(&self) {
        let pid = self.daemon();
        signal(pid, 9);
        eventually("the daemon is gone", || !is_alive(pid));
    }

    /// Directories of this site's members in any cgroup hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut groups = self.all_cgroups();
        let taken = self.taken();
        groups.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !is_made_ahead(&name) || taken.contains(&*name)
        });
        groups
    }

    /// Names of groups that were made ahead and have become a member's. To be asked last: a group is
    /// noted as a member's before that one's processes are in it.
    fn taken(&self) -> BTreeSet<String> {
        let notes = entries(&self.home().join("node/engine")).into_iter();
        let of_members = notes.filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(".group")?;
            let (owner, group) = name.split_once('=')?;
            (!is_made_ahead(owner)).then(|| group.to_owned())
        });
        of_members.collect()
    }

    /// The same, and those of nobody.
    pub(crate) fn all_cgroups(&self) -> Vec<PathBuf> {
        let below = self
            .own_groups()
            .into_iter()
            .flat_map(|group| entries(&group));
        below.filter(|path| path.is_dir()).collect()
    }

    /// Directories of this site in any cgroup hierarchy.
    fn own_groups(&self) -> Vec<PathBuf> {
        let group = self.group();
        // Of version 2 there is one, of version 1 one for each controller.
        let hierarchies = match control_groups(&group).place {
            Some(place) => vec![place],
            None => entries(Path::new("/sys/fs/cgroup")),
        };
        hierarchies
            .into_iter()
            .map(|hierarchy| hierarchy.join(&group))
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Processes in the cgroups of this site's members.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let found = self.processes_and_groups();
        let taken = self.taken();
        let own = format!("/{}/", self.group());
        let is_members = |groups: &str| {
            let names = groups.lines().filter_map(|line| line.split_once(&own));
            let mut names = names.filter_map(|(_, below)| below.split('/').next());
            names.any(|name| !is_made_ahead(name) || taken.contains(name))
        };
        let members = found.into_iter().filter(|(_, groups)| is_members(groups));
        members.map(|(pid, _)| pid).collect()
    }

    /// Processes in this site's cgroups.
    pub(crate) fn all_processes(&self) -> Vec<i32> {
        let found = self.processes_and_groups().into_iter();
        found.map(|(pid, _)| pid).collect()
    }

    fn processes_and_groups(&self) -> Vec<(i32, String)> {
        let group = self.group();
        let processes = entries(Path::new("/proc")).into_iter();
        let found = processes.filter_map(|path| {
            let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            groups.contains(&group).then_some((pid, groups))
        });
        found.collect()
    }

    /// Directories of members on disk.
    pub(crate) fn members(&self) -> Vec<PathBuf> {
        entries(&self.home().join("node/members"))
    }

    /// The name of the site's cgroups and of its directory for sockets: both carry a digest of the
    /// home.
    pub(crate) fn group(&self) -> String {
        let digest = Sha256::digest(self.home().as_os_str().as_encoded_bytes());
        let start: String = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("insula-{start}")
    }

    /// What is in the directory for sockets, with itself.
    pub(crate) fn runtime(&self) -> Vec<PathBuf> {
        let directory = self.root.path().join("runtime").join(self.group());
        let members = entries(&directory.join("m"));
        let all = entries(&directory).into_iter().chain(members);
        all.chain(directory.exists().then_some(directory)).collect()
    }

    /// Everything is stopped and nothing is left but the home.
    fn close(&self) {
        if !self.home().join("daemon.json").exists() {
            return;
        }
        let down = self.insula(&["down", "--stop"]);
        assert!(down.status.success(), "{}", told(&down));
        eventually("no process is left", || self.processes().is_empty());
        eventually("no cgroup is left", || self.own_groups().is_empty());
        assert_eq!(self.runtime(), [""; 0].map(PathBuf::from), "no socket");
        let mounts_now = mounts();
        let new: Vec<&String> = mounts_now
            .difference(&self.mounts_before)
            .filter(|mount| mount.contains(self.root.path().to_str().expect("UTF-8")))
            .collect();
        assert!(new.is_empty(), "mounts are left: {new:?}");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
            return;
        }
        // The test has failed already: clean as far as possible and show the daemon's log.
        self.command(&["down", "--stop"])
            .output()
            .map(|output| told(&output))
            .ok();
        let daemon = fs::read_to_string(self.home().join("daemon.json")).ok();
        let pid = daemon.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        if let Some(pid) = pid.and_then(|value| i32::try_from(value["pid"].as_i64()?).ok())
            && is_alive(pid)
            && command_line(pid).contains("__serve")
        {
            signal(pid, 9);
        }
        for pid in self.processes() {
            signal(pid, 9);
        }
        let log = fs::read_to_string(self.home().join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        println!(
            "the daemon's log ends:\n{}",
            lines[lines.len().saturating_sub(60)..].join("\n")
        );
    }
}

/// Waits for a process to end, bounded; its output pipes are read meanwhile.
pub(crate) fn finish(child: Child) -> Output {
    finish_within(COMMAND_LIMIT, child)
}

/// [`finish`] with a bound of its own.
pub(crate) fn finish_within(limit: Duration, mut child: Child) -> Output {
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let limit = patient(limit);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("a child of ours");
            let stderr = stderr
                .map(|reader| reader.join().expect("a reader"))
                .unwrap_or_default();
            panic!("it did not end in {limit:?}; stderr: {}", text(&stderr));
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    let collect = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        reader
            .map(|reader| reader.join().expect("a reader"))
            .unwrap_or_default()
    };
    Output {
        status,
        stdout: collect(stdout),
        stderr: collect(stderr),
    }
}

/// Whether a group, or a note, of this name is no member's: no member has an attempt 0.
fn is_made_ahead(name: &str) -> bool {
    name.split('.').nth(1) == Some("0")
}

fn read_all(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe");
        bytes
    })
}

/// `limit`, or more where the machine is known to be slow.
fn patient(limit: Duration) -> Duration {
    limit * slowness()
}

/// How many times slower this machine is known to be.
pub(crate) fn slowness() -> u32 {
    let told = std::env::var_os(SLOWNESS);
    told.map_or(1, |factor| {
        factor.to_str().expect("text").parse().expect("a number")
    })
}

/// Waits, bounded, until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(COMMAND_LIMIT, what, condition);
}

/// [`eventually`] with a bound of its own.
pub(crate) fn eventually_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let limit = patient(limit);
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "still not so after {limit:?}: {what}"
        );
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: i32, number: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    let number = rustix::process::Signal::from_named_raw(number).expect("a signal");
    rustix::process::kill_process(pid, number).ok();
}

/// The process exists and is not a zombie. One whose first thread has ended is none before the others
/// have, too: until then its files and connections are open.
pub(crate) fn is_alive(pid: i32) -> bool {
    let lives = |thread: PathBuf| {
        fs::read_to_string(thread.join("stat")).is_ok_and(|stat| {
            !stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" Z") || rest.starts_with(" X"))
        })
    };
    entries(Path::new(&format!("/proc/{pid}/task")))
        .into_iter()
        .any(lives)
}

fn command_line(pid: i32) -> String {
    text(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
}

/// Both streams and the status of a command, for messages.
pub(crate) fn told(output: &Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let cut: String = stdout.chars().take(2_000).collect();
    format!("{}\nstdout: {cut}\nstderr: {stderr}", output.status)
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Paths in a directory; none if it does not exist.
pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(directory) else {
        return Vec::new();
    };
    read.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    text.lines().map(str::to_owned).collect()
}
