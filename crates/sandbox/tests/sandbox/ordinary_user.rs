//! A fresh user of this machine for one test, made and removed by root: what runs without root is
//! tested as somebody who has nothing but an account.
#![allow(
    clippy::print_stdout,
    reason = "a test that cannot run says why, and what stays is told"
)]

use process::{remove_tree, send_signal};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Ids in a range that is lent to a user.
const LENT_COUNT: u32 = 65_536;
/// The user database is locked by whoever else makes a user; and how long processes take to die.
const PATIENCE: Duration = Duration::from_secs(30);
/// What tests are told of a slow machine, which they pass on.
const SLOWNESS: &str = "INSULA_TEST_SLOWNESS";
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// Sets the ids of what it runs; of Debian's essential packages.
const SET_IDS: &str = "/usr/bin/setpriv";

/// What the user is lent besides its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lent {
    /// Nothing.
    Nothing,
    /// A range of ids, as distributions do for people.
    Range,
}

/// The user. Dropping it ends its processes and removes it with all its files.
#[derive(Debug)]
pub(crate) struct OrdinaryUser {
    name: String,
    uid: u32,
    gid: u32,
    /// First id and number of the lent range.
    lent: Option<(u32, u32)>,
    directory: PathBuf,
    /// Of control groups of version 2: what is divided among those that are handed over.
    groups: PathBuf,
    handed_over: AtomicU32,
}

impl OrdinaryUser {
    /// Makes one; `None`, with the reason printed, where that cannot be done.
    pub(crate) fn make(lent: Lent) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can make a fresh user");
            return None;
        }
        let programs = ["/usr/sbin/useradd", SET_IDS];
        let ranges = [
            "/usr/bin/newuidmap",
            "/usr/bin/newgidmap",
            "/etc/subuid",
            "/etc/subgid",
        ];
        let needed = programs
            .iter()
            .chain(ranges.iter().filter(|_| lent == Lent::Range));
        if let Some(missing) = needed.into_iter().find(|path| !Path::new(path).exists()) {
            println!("skipped: there is no {missing}");
            return None;
        }
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("insula-{}-{number}", std::process::id());
        // Not below a directory of root's own, where nobody else may enter.
        let directory = Path::new("/tmp").join(&name);
        fs::create_dir(&directory).expect("made");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("opened");
        let mut user = Self {
            groups: Path::new("/sys/fs/cgroup").join(&name),
            handed_over: AtomicU32::new(0),
            name,
            uid: 0,
            gid: 0,
            lent: None,
            directory,
        };
        user.add(lent);
        Some(user)
    }

    fn add(&mut self, lent: Lent) {
        let count = if lent == Lent::Range { LENT_COUNT } else { 0 };
        let home = self.home();
        run_when_unlocked(|| {
            let mut command = process::command("useradd");
            command.args(["--create-home", "--no-log-init", "--shell", "/bin/sh"]);
            command.arg("--home-dir").arg(&home);
            for key in ["SUB_UID_COUNT", "SUB_GID_COUNT"] {
                command.args(["--key", &format!("{key}={count}")]);
            }
            command.arg(&self.name);
            command
        });
        let entry = fs::read_to_string("/etc/passwd").expect("read");
        let mut numbers = entry
            .lines()
            .find_map(|line| line.strip_prefix(&self.name)?.strip_prefix(':'))
            .expect("added")
            .split(':')
            .skip(1)
            .map(|number| number.parse().expect("a number"));
        self.uid = numbers.next().expect("a user id");
        self.gid = numbers.next().expect("a group id");
        assert!(self.uid > 0 && self.gid > 0);
        self.lent = lent_range(&self.name);
        assert_eq!(self.lent.is_some(), lent == Lent::Range, "{:?}", self.lent);
    }

    /// Its home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// Copies a program to where the user can run it.
    pub(crate) fn install(&self, program: &Path, name: &str) -> PathBuf {
        let installed = self.directory.join(name);
        fs::copy(program, &installed).expect("copied");
        fs::set_permissions(&installed, fs::Permissions::from_mode(0o755)).expect("opened");
        installed
    }

    /// A directory of the user's own.
    pub(crate) fn make_directory(&self, path: &Path) {
        fs::create_dir(path).expect("made");
        self.give(path);
    }

    /// Makes the user the owner of what root wrote.
    pub(crate) fn give(&self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid)).expect("given");
    }

    /// `program` as the user, in its home, with nothing of root's environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = process::command(SET_IDS);
        command
            .arg(format!("--reuid={}", self.uid))
            .arg(format!("--regid={}", self.gid))
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .arg(program)
            .env_clear()
            .env("HOME", self.home())
            .env("USER", &self.name)
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .envs(std::env::vars_os().filter(|(name, _)| name == SLOWNESS))
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    /// The same, in a control group of version 2 that is handed over to the user with all of
    /// `cpu`, `memory` and `pids`; in none where there is no such version.
    pub(crate) fn command_with_groups(&self, program: &Path) -> Command {
        let Some(group) = self.hand_over() else {
            return self.command(program);
        };
        let inner = self.command(program);
        let mut command = process::command("/bin/sh");
        command
            .args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(group)
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(
                inner
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    fn hand_over(&self) -> Option<PathBuf> {
        const CONTROLLERS: &str = "+cpu +memory +pids";
        let first = self.groups.parent()?;
        if !first.join("cgroup.controllers").exists() {
            return None;
        }
        fs::write(first.join("cgroup.subtree_control"), CONTROLLERS).expect("enabled");
        fs::create_dir_all(&self.groups).expect("made");
        fs::write(self.groups.join("cgroup.subtree_control"), CONTROLLERS).expect("enabled");
        let number = self.handed_over.fetch_add(1, Ordering::Relaxed);
        let group = self.groups.join(number.to_string());
        self.make_directory(&group);
        for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            self.give(&group.join(file));
        }
        Some(group)
    }

    /// Its processes, those with lent ids included.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").expect("listed").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(|pid| self.owns(*pid)).collect()
    }

    fn owns(&self, pid: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // What is dead and not reaped yet is nobody's concern.
        let is_dead = status.lines().any(|line| line.starts_with("State:\tZ"));
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let uid = uids.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u32>().ok());
        let is_lent = |uid: u32| {
            let (first, count) = self.lent.unwrap_or((0, 0));
            uid >= first && uid - first < count
        };
        !is_dead && uid.is_some_and(|uid| uid == self.uid || is_lent(uid))
    }

    fn end_processes(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in left {
                let Some(number) = Pid::from_raw(pid) else {
                    continue;
                };
                let Ok(pidfd) = pidfd_open(number, PidfdFlags::empty()) else {
                    continue;
                };
                // The number may have passed on before it was opened.
                if self.owns(pid) {
                    let _ = send_signal(&pidfd, Signal::KILL);
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for OrdinaryUser {
    fn drop(&mut self) {
        if self.uid > 0 {
            self.end_processes();
        }
        remove_groups(&self.groups);
        run_when_unlocked(|| {
            let mut command = process::command("userdel");
            command.arg(&self.name);
            command
        });
        if let Err(error) = remove_tree(&self.directory) {
            println!("{} stays: {error}", self.directory.display());
        }
    }
}

/// Removes empty groups, the deepest first.
fn remove_groups(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

fn run_when_unlocked(command: impl Fn() -> Command) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output: Output = command().output().expect("it runs");
        if output.status.success() {
            return;
        }
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if !words.contains("lock") || Instant::now() > deadline {
            // Not a panic: it is also called while one unwinds.
            println!("{:?}: {words}", command());
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

fn lent_range(name: &str) -> Option<(u32, u32)> {
    let text = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let (first, count) = line.split_once(':')?;
    Some((first.parse().ok()?, count.parse().ok()?))
}
