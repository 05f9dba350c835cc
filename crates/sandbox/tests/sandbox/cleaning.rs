//! Nothing is left, whatever was killed when.

use super::bench::{
    Bench, bench, eventually, group, groups_left, is_root, launcher, missing_limit, output,
    patience, sites,
};
use engine_api::{ContainerSpec, Engine as _, Found, Pause, layout};
use guest_api::Stream;
use process::{ProcessIdentity, send_signal};
use rustix::process::Signal;
use sandbox::{MakeAhead, Sandbox, SandboxSettings};
use std::fs;
use std::time::{Duration, Instant};

/// What is mounted here that has to do with this bench. Others mount too: a Debian is being made.
fn mounts(bench: &Bench) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").expect("read");
    let place = bench.place("");
    let place = place.to_str().expect("text").trim_end_matches('/');
    let ours = all.lines().filter(|line| line.contains(place));
    ours.map(str::to_owned).collect()
}

/// The launcher of this process.
fn launcher_process() -> Option<ProcessIdentity> {
    fs::read_dir("/proc/self/task")
        .expect("listed")
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("sandbox-laun")
        })
        .and_then(|pid| ProcessIdentity::of(pid).expect("read"))
}

/// Children of the launcher that nobody has reaped, and mount namespaces that it holds.
fn kept_of_the_ended(launcher: i32) -> (usize, usize) {
    let children = format!("/proc/{launcher}/task/{launcher}/children");
    let children = fs::read_to_string(children).unwrap_or_default();
    let is_zombie = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    let zombies = children.split_ascii_whitespace().filter(is_zombie).count();
    let files = fs::read_dir(format!("/proc/{launcher}/fd")).expect("listed");
    let opened = files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok());
    let held = opened.filter(|target| target.to_string_lossy().starts_with("mnt:["));
    (zombies, held.count())
}

fn kill(process: &ProcessIdentity) {
    if let Some(pidfd) = process.open().expect("asked") {
        send_signal(pidfd, Signal::KILL).expect("sent");
    }
}

/// The member's directory is as it was made, but for what is kept, and nothing else is anywhere.
async fn assert_clean(bench: &Bench, container: &ContainerSpec) {
    assert!(!container.guest.socket.exists());
    for name in [layout::UPPER, layout::OVERLAY_WORK, layout::HOME] {
        let left = fs::read_dir(container.directory.join(name)).map(Iterator::count);
        let left = left.map_err(|error| error.kind());
        let is_gone = matches!(left, Err(std::io::ErrorKind::NotFound) | Ok(0));
        assert!(is_gone, "{name}: {left:?}");
    }
    assert!(container.directory.join(layout::WORK).exists());
    let lock = container.directory.join(layout::LOCK);
    assert!(!process::FileLock::is_locked(&lock).expect("asked"));
    let found = bench.sandbox.list().await.expect("listed");
    assert!(
        !found.iter().any(|found| found.member == container.member),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_container_leaves_nothing() {
    let Some(bench) = bench() else { return };
    let container = bench.container(
        0,
        "mkdir -p /tmp/a /work/b /home/user/c; (sleep 50 &); exec sleep 50",
    );
    bench.start(&container).await.expect("it starts");
    if missing_limit().is_none() {
        assert_eq!(groups_left(), [container.member.to_string()]);
    }
    assert_eq!(mounts(&bench), [""; 0], "mounts are seen inside only");
    assert!(container.guest.socket.exists(), "the control");
    let found = bench.sandbox.list().await.expect("listed");
    let expected = Found {
        member: container.member,
        alive: true,
        pause: Pause::Never,
    };
    assert_eq!(found, [expected]);
    bench.remove(&container).await;
    assert_clean(&bench, &container).await;
    assert_eq!(groups_left(), [""; 0]);
    assert_eq!(mounts(&bench), [""; 0]);
    bench.remove(&container).await;
    drop(bench);
    if is_root() {
        // A user's process, which is in its own group itself, leaves it to whoever handed it over.
        assert!(sites().is_empty(), "our own group goes with the engine");
    }
}

#[tokio::test]
async fn guests_outlive_the_launcher_and_it_is_started_again() {
    let Some(bench) = bench() else { return };
    let first = bench.container(0, "echo a; sleep 0.2; echo b; exec sleep 50");
    bench.start(&first).await.expect("it starts");
    let launcher = launcher_process().expect("a launcher");
    kill(&launcher);
    eventually("it is dead", || !launcher.is_alive().expect("asked")).await;
    eventually("the guest goes on", || {
        output(&first, Stream::Stdout) == "a\nb\n"
    })
    .await;
    // The engine may see the death only when it asks: that one call may fail.
    let second = bench.container(1, "echo again");
    let started = match bench.start(&second).await {
        Ok(started) => Ok(started),
        Err(_) => bench.start(&second).await,
    };
    started.expect("a new launcher");
    assert_ne!(launcher_process().expect("a launcher"), launcher);
    assert_eq!(bench.finish(&second).await.output, "again\n");
    bench.remove(&first).await;
    assert_clean(&bench, &first).await;
}

#[tokio::test]
async fn another_engine_on_the_same_home_finds_and_ends_what_lives() {
    let Some(bench) = bench() else { return };
    let container = bench.container(0, "exec sleep 50");
    bench.start(&container).await.expect("it starts");
    let other = Sandbox::new(SandboxSettings {
        cgroup_group: group(),
        runtime_directory: bench.place("sockets"),
        state_directory: bench.place("state"),
        launcher: launcher(),
        make_ahead: MakeAhead::Auto,
    });
    assert!(other.start(&container).await.expect("found").already);
    assert!(other.list().await.expect("listed")[0].alive);
    other.signal(container.member, 9).await.expect("killed");
    let waited = other.wait(container.member, &container.directory);
    tokio::time::timeout(patience(), waited)
        .await
        .expect("in time")
        .expect("waited");
    assert!(!other.list().await.expect("listed")[0].alive);
    let removed = other.remove(container.member, &container.directory).await;
    removed.expect("removed");
    assert_clean(&bench, &container).await;
}

/// Kills the launcher at moments spread over a start, and looks what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_killed_in_the_middle_of_a_start_leaves_nothing_that_stays() {
    const ROUNDS: u32 = 40;
    let Some(bench) = bench() else { return };
    // The launcher is there before the first round, so that each kills it within a start.
    let warm = bench.container(ROUNDS, "true");
    bench.run(&warm).await;
    let step = time_of_a_start(&bench, 2 * ROUNDS + 1).await * 2 / ROUNDS;
    let mut failed = 0;
    for round in 0..ROUNDS {
        let container = bench.container(round, "exec sleep 50");
        let launcher = launcher_process();
        let killer = async {
            tokio::time::sleep(step * round).await;
            launcher.as_ref().map(kill);
        };
        let (started, ()) = tokio::join!(bench.start(&container), killer);
        failed += u32::from(started.is_err());
        if started.is_ok() {
            let found = bench.sandbox.list().await.expect("listed");
            let alive = found
                .iter()
                .any(|f| f.member == container.member && f.alive);
            assert!(alive, "what started lives on: {found:?}");
        }
        bench.remove(&container).await;
        assert_clean(&bench, &container).await;
        assert_eq!(groups_left(), [""; 0]);
        // The next round has its own launcher in place.
        let next = bench.container(ROUNDS + 1 + round, "true");
        if bench.start(&next).await.is_err() {
            bench.start(&next).await.expect("a new launcher");
        }
        bench.finish(&next).await;
    }
    assert!(failed > 0, "no round hit a start");
    assert_eq!(mounts(&bench), [""; 0]);
}

async fn time_of_a_start(bench: &Bench, number: u32) -> Duration {
    let container = bench.container(number, "true");
    let before = Instant::now();
    bench.start(&container).await.expect("it starts");
    let took = before.elapsed();
    bench.finish(&container).await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_start_and_leave_nothing() {
    const COUNT: u32 = 24;
    let Some(bench) = bench() else { return };
    let containers: Vec<_> = (0..COUNT)
        .map(|number| bench.container(number, &format!("echo {number}")))
        .collect();
    let mut results = tokio::task::JoinSet::new();
    let bench = std::sync::Arc::new(bench);
    for container in containers {
        let bench = std::sync::Arc::clone(&bench);
        results.spawn(async move { (bench.run(&container).await.output, container) });
    }
    while let Some(result) = results.join_next().await {
        let (output, container) = result.expect("finished");
        let number = container.member.session.0 & 0xffff_ffff;
        assert_eq!(output, format!("{number}\n"));
        assert_clean(&bench, &container).await;
    }
    assert_eq!(groups_left(), [""; 0]);
}

#[tokio::test]
async fn the_launcher_keeps_nothing_of_those_that_ended() {
    let Some(bench) = bench() else { return };
    let waiting = bench.container(0, "sleep 60");
    bench.start(&waiting).await.expect("it starts");
    let launcher = launcher_process().expect("it runs").pid;
    let (_, holds) = kept_of_the_ended(launcher);
    assert!(holds == 1 || !is_root(), "of who lives");
    for number in 1..6 {
        bench.run(&bench.container(number, "true")).await;
    }
    eventually(
        "the ended are reaped, and their namespaces let go of",
        || kept_of_the_ended(launcher) == (0, holds),
    )
    .await;
    bench.remove(&waiting).await;
    eventually("the last one, too", || {
        kept_of_the_ended(launcher) == (0, 0)
    })
    .await;
}
