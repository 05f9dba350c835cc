//! Limits: each ends or hurts its own container only, and is told.

use super::bench::{
    Bench, bench, encode, eventually, group, limited_bench, output, read_group, site_group,
};
use domain::LimitsReached;
use engine_api::Engine as _;
use guest_api::Stream;
use sandbox::{GroupVersion, control_groups};
use std::time::{Duration, Instant};

#[tokio::test]
async fn an_out_of_memory_kill_is_recognised() {
    let Some(bench) = limited_bench() else { return };
    let script = "python3 -c 'x = bytearray(200 << 20)'";
    // The control: with enough memory it is no trouble.
    let enough = bench.run(&bench.container(0, script)).await;
    assert_eq!(enough.exit_code(), Some(0), "{enough:?}");
    assert_eq!(enough.report.out_of_memory, None);
    let mut container = bench.container(1, script);
    container.limits.memory_bytes = 64 << 20;
    container.limits.tmpfs_bytes = 16 << 20;
    let finished = bench.run(&container).await;
    let evidence = finished.report.out_of_memory.clone().expect("evidence");
    assert!(evidence.kills >= 1 && !evidence.of_node, "{evidence:?}");
    assert_eq!(evidence.limit_bytes, 64 << 20);
    let peak = evidence.peak_bytes.expect("a peak");
    assert!((60 << 20..=64 << 20).contains(&peak), "{peak}");
    assert_ne!(finished.exit_code(), Some(0));
}

/// To a container a group above it that runs out of memory is what the node is. The control is the
/// test above: there it is the container's own limit.
#[tokio::test]
async fn a_kill_for_want_of_memory_elsewhere_is_not_told_as_the_limit() {
    let Some(bench) = limited_bench() else { return };
    let script = "while ! test -e go; do sleep 0.02; done; \
         exec python3 -c 'x = bytearray(200 << 20)'";
    let container = bench.container(0, script);
    bench.start(&container).await.expect("it starts");
    let limit = match control_groups(&group()).version {
        Some(GroupVersion::Two) => "memory.max",
        Some(GroupVersion::One) | None => "memory.limit_in_bytes",
    };
    let above = site_group("memory").join(limit);
    std::fs::write(&above, (64 << 20).to_string()).expect("limited");
    std::fs::write(container.directory.join("work/go"), "").expect("written");
    let finished = bench.finish(&container).await;
    let evidence = finished.report.out_of_memory.clone().expect("evidence");
    assert!(evidence.kills >= 1 && evidence.of_node, "{finished:?}");
    assert_eq!(evidence.limit_bytes, 256 << 20);
    assert_ne!(finished.exit_code(), Some(0));
}

#[tokio::test]
async fn the_least_container_starts() {
    let Some(bench) = bench() else { return };
    let mut container = bench.container(0, "echo small");
    container.limits.memory_bytes = domain::amounts::LEAST_MEMORY;
    container.limits.tmpfs_bytes = domain::amounts::LEAST_MEMORY / 4;
    container.limits.cpu = domain::amounts::LEAST_CPU;
    let finished = bench.run(&container).await;
    assert_eq!(finished.output, "small\n", "{finished:?}");
}

#[tokio::test]
async fn a_fork_bomb_is_stopped_by_the_limit_on_processes() {
    let Some(bench) = limited_bench() else { return };
    let script = "python3 -c '
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(50)
            os._exit(0)
        count += 1
except OSError as error:
    print(count, error.strerror)'";
    let mut container = bench.container(0, script);
    container.limits.pids = 20;
    let finished = bench.run(&container).await;
    let usage = finished.report.usage.clone().expect("usage");
    assert_eq!(usage.pids_limit_hits, 1, "{finished:?}");
    let (count, reason) = finished.output.trim().split_once(' ').expect("two words");
    let count: u32 = count.parse().expect("a number");
    assert!((10..20).contains(&count), "{finished:?}");
    assert_eq!(reason, "Resource temporarily unavailable");
}

#[tokio::test]
async fn a_full_tmp_says_so_and_kills_nobody() {
    let Some(bench) = bench() else { return };
    let script = "python3 -c '
for directory in (\"/tmp\", \"/dev/shm\"):
    try:
        with open(directory + \"/big\", \"wb\", buffering=0) as file:
            while file.write(bytes(1 << 20)) == 1 << 20:
                pass
            file.write(b\"more\")
    except OSError as error:
        print(error.strerror)
    try:
        for number in range(100_000):
            open(f\"{directory}/{number}\", \"w\").close()
    except OSError as error:
        print(error.strerror)'";
    let finished = bench.run(&bench.container(0, script)).await;
    let space = "No space left on device\n";
    assert_eq!(finished.output, space.repeat(4), "{finished:?}");
    // Its size is that of the container, and its guest tells of it.
    let reached = LimitsReached {
        tmp_full_bytes: Some(64 << 20),
        shm_full_bytes: Some(64 << 20),
        ..LimitsReached::default()
    };
    assert_eq!(finished.record.limits_reached, reached.if_any());
    let enough = bench.run(&bench.container(1, "echo x > /tmp/x")).await;
    assert_eq!(enough.record.limits_reached, None);
    assert_eq!(finished.report.out_of_memory, None);
}

#[tokio::test]
async fn the_kernel_is_told_the_limits() {
    let Some(bench) = limited_bench() else { return };
    let mut container = bench.container(0, "echo up; exec sleep 50");
    container.limits.cpu = 2_500;
    bench.start(&container).await.expect("it starts");
    eventually("it runs", || output(&container, Stream::Stdout) == "up\n").await;
    let read = |controller: &str, file: &str| read_group(controller, container.member, file);
    let memory = (256 << 20).to_string();
    assert_eq!(read("pids", "pids.max"), "64");
    if control_groups(&group()).version == Some(GroupVersion::Two) {
        assert_eq!(read("cpu", "cpu.max"), "25000 100000");
        assert_eq!(read("memory", "memory.max"), memory);
        assert_eq!(read("memory", "memory.swap.max"), "0");
        assert_eq!(read("memory", "memory.oom.group"), "0");
        assert_eq!(read("", "cgroup.procs").lines().count(), 2);
    } else {
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "25000");
        assert_eq!(read("cpu", "cpu.cfs_period_us"), "100000");
        assert_eq!(read("memory", "memory.limit_in_bytes"), memory);
        assert_eq!(read("memory", "memory.memsw.limit_in_bytes"), memory);
        assert_eq!(read("memory", "memory.swappiness"), "0");
        assert_eq!(read("devices", "devices.list").lines().count(), 8);
        for controller in ["blkio", "cpuacct", "freezer", "unified"] {
            let processes = read(controller, "cgroup.procs");
            assert_eq!(processes.lines().count(), 2, "{controller}");
        }
    }
    let usage = bench.sandbox.usage(container.member).await.expect("usage");
    assert_eq!(usage.pids, 2);
    assert!(usage.memory_bytes > 0 && usage.memory_peak_bytes >= usage.memory_bytes);
    assert!(usage.cpu_micros > 0);
    bench.remove(&container).await;
}

/// The limit counts from the guest's readiness on. If it held for the set-up, that would take a
/// hundred times as long as its CPU time, so ten times is far from either.
#[tokio::test]
async fn one_percent_of_a_cpu_starts_fast() {
    let Some(bench) = limited_bench() else { return };
    let (mut least, mut whole) = (Duration::MAX, Duration::MAX);
    for round in 0..4 {
        least = least.min(time_of_start(&bench, 2 * round, domain::amounts::LEAST_CPU).await);
        whole = whole.min(time_of_start(&bench, 2 * round + 1, 10_000).await);
    }
    assert!(least < 10 * whole, "{least:?} {whole:?}");
}

async fn time_of_start(bench: &Bench, number: u32, cpu: u64) -> Duration {
    let mut container = bench.container(number, "exec sleep 50");
    container.limits.cpu = cpu;
    let before = Instant::now();
    bench.start(&container).await.expect("it starts");
    let took = before.elapsed();
    bench.remove(&container).await;
    took
}

#[tokio::test]
async fn a_configuration_as_large_as_an_environment_arrives() {
    let Some(bench) = bench() else { return };
    let mut container = bench.container(0, "");
    let mut config = super::bench::config(container.member, "echo ${#BIG}");
    config.env.push(("BIG".to_owned(), "x".repeat(100_000)));
    for number in 0..10 {
        config
            .env
            .push((format!("BIG{number}"), "x".repeat(100_000)));
    }
    container.guest.config = encode(&config);
    assert_eq!(bench.run(&container).await.output, "100000\n");
}
