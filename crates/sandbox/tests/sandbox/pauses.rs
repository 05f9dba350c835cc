//! Standing still and going on, beside a control that was not asked to.

use super::bench::{
    Bench, bench, eventually, group, groups_left, launcher, output, patience, sites,
};
use domain::Capability;
use engine_api::{ContainerSpec, Engine as _, EngineError, Pause, layout};
use guest_api::{
    FrameKind, GuestState, HEADER_BYTES, Open, Reply, Request, Stream, decode_header, encode_frame,
};
use sandbox::{MakeAhead, Sandbox, SandboxSettings};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long what stands still is watched.
const WATCH: Duration = Duration::from_millis(700);
/// Counters of everything that a session may start: a loop, one in a session of its own whose
/// parent is gone, threads, and programs that each start the next.
const COUNTERS: &str = r#"
count() { n=0; while :; do n=$((n+1)); echo $n > "$1.new"; mv "$1.new" "$1"; done; }
count plain &
(setsid sh -c 'n=0; while :; do n=$((n+1)); echo $n > orphan.new; mv orphan.new orphan; done' &)
python3 -c '
import os, threading
def count(name):
    n = 0
    while True:
        n += 1
        with open(name + ".new", "w") as file: file.write(str(n) + "\n")
        os.rename(name + ".new", name)
for name in ["thread-a", "thread-b"]:
    threading.Thread(target=count, args=(name,)).start()
' &
while :; do sleep 0.01; echo x >> programs; done
"#;
const NAMES: [&str; 5] = ["plain", "orphan", "thread-a", "thread-b", "programs"];

/// A bench where sessions can be paused.
async fn pausing_bench() -> Option<Bench> {
    let bench = bench()?;
    let fingerprint = bench.sandbox.fingerprint().await.expect("asked");
    match &fingerprint.capabilities["pause"] {
        Capability::Yes => Some(bench),
        Capability::No { reason } => {
            println!("skipped: {reason}");
            None
        }
    }
}

/// What each counter has come to.
fn counts(container: &ContainerSpec) -> Option<Vec<Vec<u8>>> {
    let work = container.directory.join(layout::WORK);
    NAMES
        .iter()
        .map(|name| fs::read(work.join(name)).ok())
        .collect()
}

/// Waits until every counter has gone on.
async fn counts_on(container: &ContainerSpec) {
    let mut before = None;
    eventually("it counts", || {
        before = counts(container);
        before.is_some()
    })
    .await;
    let before = before.expect("there");
    eventually("every counter goes on", || {
        counts(container).is_some_and(|now| now.iter().zip(&before).all(|(now, old)| now != old))
    })
    .await;
}

fn ask(container: &ContainerSpec, request: &Request) -> Reply {
    let mut stream = UnixStream::connect(&container.guest.socket).expect("connected");
    stream.set_read_timeout(Some(patience())).expect("set");
    let open = rmp_serde::to_vec_named(&Open::Control).expect("encoded");
    let asked = rmp_serde::to_vec_named(request).expect("encoded");
    for body in [open, asked] {
        let frame = encode_frame(FrameKind::Control, &body);
        stream.write_all(&frame).expect("sent");
    }
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).expect("an answer");
    let (_, length) = decode_header(header).expect("a frame");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("all of it");
    rmp_serde::from_slice(&body).expect("decoded")
}

/// Processes of a container, those in groups within its own too.
async fn pids(bench: &Bench, container: &ContainerSpec) -> u64 {
    let usage = bench.sandbox.usage(container.member).await;
    usage.expect("told").pids
}

async fn pause_of(bench: &Bench, container: &ContainerSpec) -> Pause {
    let list = bench.sandbox.list().await.expect("listed");
    let found = list.iter().find(|found| found.member == container.member);
    found.expect("it is there").pause
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_it_started_stands_still_and_its_guest_goes_on() {
    let Some(bench) = pausing_bench().await else {
        return;
    };
    let paused = bench.container(0, COUNTERS);
    let free = bench.container(1, COUNTERS);
    for container in [&paused, &free] {
        bench.start(container).await.expect("it starts");
        counts_on(container).await;
    }
    let member = paused.member;
    for _ in 0..3 {
        bench.sandbox.pause(member).await.expect("paused");
        let stood = counts(&paused);
        let processes = pids(&bench, &paused).await;
        tokio::time::sleep(WATCH).await;
        assert_eq!(counts(&paused), stood);
        assert_eq!(pids(&bench, &paused).await, processes, "they count on");
        counts_on(&free).await;
        let state = ask(&paused, &Request::State);
        let runs = matches!(
            &state,
            Reply::State {
                state: GuestState::Running { .. }
            }
        );
        assert!(runs, "{state:?}");
        bench.sandbox.resume(member).await.expect("resumed");
        counts_on(&paused).await;
    }
    bench.sandbox.pause(member).await.expect("paused");
    for container in [&paused, &free] {
        bench.remove(container).await;
    }
    assert_eq!(groups_left(), [""; 0]);
}

#[tokio::test]
async fn a_start_costs_nothing_for_it() {
    let Some(bench) = pausing_bench().await else {
        return;
    };
    let container = bench.container(0, "exec sleep 50");
    bench.start(&container).await.expect("it starts");
    let member = container.member;
    let divided = || -> Vec<String> {
        let groups = sites()
            .into_iter()
            .map(|site| site.join(member.to_string()));
        let within = groups.flat_map(|group| fs::read_dir(group).into_iter().flatten().flatten());
        let within = within.filter(|entry| entry.path().is_dir());
        within
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    };
    assert_eq!(divided(), [""; 0]);
    bench.sandbox.resume(member).await.expect("nothing to do");
    assert_eq!(divided(), [""; 0]);
    bench.sandbox.pause(member).await.expect("paused");
    assert_eq!(divided(), ["work"], "in one hierarchy only");
    bench.remove(&container).await;
    assert_eq!(groups_left(), [""; 0]);
}

#[tokio::test]
async fn another_engine_finds_what_stands_still() {
    let Some(bench) = pausing_bench().await else {
        return;
    };
    let container = bench.container(0, COUNTERS);
    bench.start(&container).await.expect("it starts");
    counts_on(&container).await;
    bench.sandbox.pause(container.member).await.expect("paused");
    let other = Sandbox::new(SandboxSettings {
        cgroup_group: group(),
        runtime_directory: bench.place("sockets"),
        state_directory: bench.place("state"),
        launcher: launcher(),
        make_ahead: MakeAhead::Auto,
    });
    let found = other.list().await.expect("listed");
    assert_eq!((found[0].alive, found[0].pause), (true, Pause::Now));
    other.resume(container.member).await.expect("resumed");
    counts_on(&container).await;
    assert_eq!(pause_of(&bench, &container).await, Pause::Over);
    bench.remove(&container).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_starts_processes_without_end_stands_still() {
    let Some(bench) = pausing_bench().await else {
        return;
    };
    // As many as it may have, and each that ends is followed by another.
    let storm = "f() { while :; do (sleep 0.01) & (echo x >> storm); done; }; f & f & f & f";
    let container = bench.container(0, storm);
    bench.start(&container).await.expect("it starts");
    let storm = container.directory.join(layout::WORK).join("storm");
    let size = || fs::metadata(&storm).map_or(0, |facts| facts.len());
    let member = container.member;
    eventually("it rages", || size() > 200).await;
    bench.sandbox.pause(member).await.expect("paused");
    let (stood, processes) = (size(), pids(&bench, &container).await);
    tokio::time::sleep(WATCH).await;
    assert_eq!((size(), pids(&bench, &container).await), (stood, processes));
    bench.sandbox.resume(member).await.expect("resumed");
    eventually("it rages on", || size() > stood).await;
    bench.sandbox.pause(member).await.expect("paused");
    bench.sandbox.signal(member, 9).await.expect("killed");
    bench.finish_without_record(&container).await;
    bench.remove(&container).await;
    assert_eq!(groups_left(), [""; 0]);
}

/// Each process leaves one child and ends at once: the worst that can be done. Whoever wins, it is
/// told, and nothing is half done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_processes_stands_still_or_all_of_it_goes_on() {
    let Some(bench) = pausing_bench().await else {
        return;
    };
    let chain = r#"python3 -c '
import os
while True:
    with open("chain", "a") as file: file.write("x")
    if os.fork(): os._exit(0)
' & sleep 1000"#;
    let container = bench.container(0, chain);
    bench.start(&container).await.expect("it starts");
    let chain = container.directory.join(layout::WORK).join("chain");
    let size = || fs::metadata(&chain).map_or(0, |facts| facts.len());
    let member = container.member;
    eventually("it goes round", || size() > 200).await;
    for _ in 0..5 {
        match bench.sandbox.pause(member).await {
            Ok(()) => {
                let stood = size();
                tokio::time::sleep(WATCH / 3).await;
                assert_eq!(size(), stood);
                bench.sandbox.resume(member).await.expect("resumed");
            }
            Err(EngineError::Act { reason, .. }) => {
                assert!(reason.contains("all of them go on"), "{reason}");
                println!("the chain won once");
            }
            Err(error) => panic!("{error}"),
        }
        let before = size();
        eventually("it goes on", || size() > before).await;
        assert_eq!(pause_of(&bench, &container).await, Pause::Over);
    }
    bench.remove(&container).await;
    assert_eq!(groups_left(), [""; 0]);
}

#[tokio::test]
async fn what_was_written_before_is_kept_and_what_comes_after_too() {
    let Some(bench) = pausing_bench().await else {
        return;
    };
    let script = "echo before; while [ ! -e go ]; do sleep 0.02; done; echo after";
    let container = bench.container(0, script);
    bench.start(&container).await.expect("it starts");
    eventually("it has begun", || {
        output(&container, Stream::Stdout) == "before\n"
    })
    .await;
    bench.sandbox.pause(container.member).await.expect("paused");
    fs::write(container.directory.join(layout::WORK).join("go"), "").expect("written");
    tokio::time::sleep(WATCH).await;
    assert_eq!(output(&container, Stream::Stdout), "before\n");
    bench
        .sandbox
        .resume(container.member)
        .await
        .expect("resumed");
    let finished = bench.finish(&container).await;
    assert_eq!(finished.output, "before\nafter\n");
    assert_eq!(finished.exit_code(), Some(0));
}
