//! In a group that was handed over to the daemon, as a service manager does on version 2.

use super::bench::{Bench, eventually, group, output, read_group};
use domain::{AskedLimits, Capability, MemberId};
use engine_api::{Engine as _, StartError};
use guest_api::Stream;
use rustix::fs::XattrFlags;
use sandbox::{GroupVersion, control_groups};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Groups of a node, and this process in one of them.
struct Delegated {
    first: PathBuf,
    unit: PathBuf,
}

impl Delegated {
    /// Makes a unit that has `controllers` and is marked as handed over, and enters it.
    fn enter(controllers: &str) -> Option<Self> {
        let groups = control_groups(&group());
        if groups.version != Some(GroupVersion::Two) || !rustix::process::geteuid().is_root() {
            println!("skipped: this needs root and control groups of version 2");
            return None;
        }
        let first = groups.place.expect("a place");
        let slice = first.join(format!("slice-{}", std::process::id()));
        let unit = slice.join("unit");
        fs::create_dir(&slice).expect("made");
        fs::write(first.join("cgroup.subtree_control"), "+cpu +memory +pids").expect("enabled");
        fs::write(slice.join("cgroup.subtree_control"), controllers).expect("enabled");
        fs::create_dir(&unit).expect("made");
        let marked = rustix::fs::setxattr(&unit, "trusted.delegate", b"1", XattrFlags::empty());
        marked.expect("marked");
        fs::write(unit.join("cgroup.procs"), "0").expect("entered");
        Some(Self { first, unit })
    }

    fn leave(&self) {
        fs::write(self.first.join("cgroup.procs"), "0").expect("left");
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        self.leave();
        remove(self.unit.parent().expect("the slice"));
    }
}

/// Removes empty groups, the deepest first.
fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// The group that this process stands in, below the mount.
fn standing() -> String {
    let text = fs::read_to_string("/proc/self/cgroup").expect("read");
    let line = text.lines().find_map(|line| line.strip_prefix("0::/"));
    line.expect("one of version 2").to_owned()
}

fn reason(controller: &str) -> String {
    match &control_groups(&group()).controllers[controller] {
        Capability::No { reason } => reason.clone(),
        Capability::Yes => String::new(),
    }
}

#[tokio::test]
async fn a_daemon_divides_the_group_it_was_started_in() {
    let Some(delegated) = Delegated::enter("+cpu +memory +pids") else {
        return;
    };
    let bench = Bench::new();
    let place = || control_groups(&group()).place;
    assert_eq!(place().as_deref(), Some(delegated.unit.as_path()));
    let mut container = bench.container(0, "echo up; exec sleep 50");
    container.limits.pids = 17;
    bench.start(&container).await.expect("it starts");
    eventually("it runs", || output(&container, Stream::Stdout) == "up\n").await;
    assert_eq!(read_group("pids", container.member, "pids.max"), "17");
    let aside = delegated.unit.join(group()).join("daemon");
    assert!(aside.ends_with(standing()), "{}", standing());
    // One that is started again stands aside already, and finds the same place and container.
    assert_eq!(place().as_deref(), Some(delegated.unit.as_path()));
    let again = Bench::new();
    assert_eq!(again.sandbox.list().await.expect("listed").len(), 1);
    drop(again);
    bench.remove(&container).await;
    let left = fs::read_dir(&delegated.unit).expect("listed").flatten();
    let left: Vec<PathBuf> = left
        .map(|e| e.path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(left, [delegated.unit.join(group())]);
}

#[tokio::test]
async fn a_group_in_which_others_stand_is_left_alone() {
    let Some(delegated) = Delegated::enter("+cpu +memory +pids") else {
        return;
    };
    // The control: alone it could.
    assert_eq!(reason("memory"), "");
    let mut other = process::command("sleep")
        .arg("50")
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    assert!(
        reason("memory").contains("other processes (1)"),
        "{}",
        reason("memory")
    );
    let bench = Bench::new();
    let mut container = bench.container(0, "echo ran");
    container.limits.asked = AskedLimits::ALL;
    let refused = bench.start(&container).await.expect_err("refused");
    let is_row = matches!(
        refused,
        StartError::NotEnforceable {
            row: "limit.cpu",
            ..
        }
    );
    assert!(is_row, "{refused:?}");
    // What can be had without limits, can be had.
    container.limits.best_effort = true;
    assert_eq!(bench.run(&container).await.output, "ran\n");
    // So can what has its limits by default only.
    let mut container = bench.container(1, "echo ran");
    container.limits.asked = AskedLimits::NONE;
    assert_eq!(bench.run(&container).await.output, "ran\n");
    let stands = fs::read_to_string(format!("/proc/{}/cgroup", other.id())).expect("read");
    assert!(stands.trim().ends_with("/unit"), "{stands}");
    other.kill().expect("killed");
    other.wait().expect("reaped");
    drop(bench);
    drop(delegated);
}

#[tokio::test]
async fn a_controller_that_was_not_handed_down_is_missing_by_name() {
    let Some(delegated) = Delegated::enter("+cpu +pids") else {
        return;
    };
    let said = reason("memory");
    assert!(
        said.contains("does not have the memory controller"),
        "{said}"
    );
    assert_eq!(reason("pids"), "");
    let bench = Bench::new();
    let mut container = bench.container(0, "echo ran");
    container.limits.asked = AskedLimits::ALL;
    let refused = bench.start(&container).await.expect_err("refused");
    let is_row = matches!(
        refused,
        StartError::NotEnforceable {
            row: "limit.memory",
            ..
        }
    );
    assert!(is_row, "{refused:?}");
    container.limits.best_effort = true;
    assert_eq!(bench.run(&container).await.output, "ran\n");
    drop(bench);
    drop(delegated);
}

#[tokio::test]
async fn a_container_is_found_by_a_daemon_that_was_started_elsewhere() {
    let Some(delegated) = Delegated::enter("+cpu +memory +pids") else {
        return;
    };
    let bench = Bench::new();
    let container = bench.container(0, "exec sleep 50");
    bench.start(&container).await.expect("it starts");
    delegated.leave();
    let elsewhere = Bench::new();
    let place = control_groups(&group()).place;
    assert_eq!(place.as_deref(), Some(delegated.first.as_path()));
    let alive = |members: &[engine_api::Found]| -> Vec<MemberId> {
        let alive = members.iter().filter(|found| found.alive);
        alive.map(|found| found.member).collect()
    };
    let found = elsewhere.sandbox.list().await.expect("listed");
    assert_eq!(alive(&found), [container.member]);
    let removed = elsewhere
        .sandbox
        .remove(container.member, &container.directory);
    let report = removed.await.expect("removed");
    assert!(report.usage.is_some(), "{report:?}");
    assert!(elsewhere.sandbox.list().await.expect("listed").is_empty());
    drop(bench);
    drop(delegated);
}
