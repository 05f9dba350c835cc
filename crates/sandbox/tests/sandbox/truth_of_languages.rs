//! Programs of other languages and libraries are told a container's share too, with no variable
//! that says so: beside a control on the node, and where the node pretends to have 52 CPUs.

use super::bench::{Bench, bench, missing_limit};
use super::probes::{self, ALL, C, GO, JAVA, NODE, OPENMP, PRETENDS, PYTHON, Probe, R, RUST};
use domain::amounts::WHOLE;
use engine_api::{Bind, BindOwner, ContainerSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whole CPUs, and parts of them.
const SHARES: [u64; 4] = [10_000, 20_000, 2_500, 15_000];
/// So much memory has every container.
const MEMORY_BYTES: u64 = 256 << 20;
/// Where the programs are inside.
const INSIDE: &str = "/mnt/probes";
/// Java and Node.js have some twenty threads.
const PIDS: u32 = 256;
/// What a node that pretends says.
const PRETENDED: i128 = 52;
const PRELOAD: &str = "LD_PRELOAD";

/// A container that runs what `probe` is.
fn container(bench: &Bench, number: u32, probe: &Probe, folder: &Path, cpu: u64) -> ContainerSpec {
    let mut container = bench.container(number, &probe.script(Path::new(INSIDE)));
    container.limits.cpu = cpu;
    container.limits.memory_bytes = MEMORY_BYTES;
    container.limits.pids = PIDS;
    container.binds.push(Bind {
        source: folder.to_owned(),
        target: INSIDE.into(),
        read_only: true,
        owner: BindOwner::System,
    });
    container
}

/// The node's CPUs, as the kernel itself tells them: this program is not lied to.
fn cpus_of_the_node() -> i128 {
    let mask = rustix::thread::sched_getaffinity(None).expect("a mask");
    mask.count().into()
}

/// What is wrong with `value` in a container with `cpu`, or with the control beside it.
fn wrong(name: &str, value: i128, outside: Option<i128>, cpu: u64) -> Option<String> {
    let node = cpus_of_the_node();
    let share = i128::from(cpu.div_ceil(WHOLE)).min(node);
    let rounded_down = i128::from((cpu / WHOLE).max(1)).min(node);
    let limit = i128::from(MEMORY_BYTES);
    let is_limited = missing_limit().is_none();
    let more = outside.is_some_and(|outside| outside > share);
    let (kind, _) = name.split_once('.').expect("a kind");
    let (is_right, control) = match kind {
        "cpus" | "threads" => (value == share, more || node <= share),
        "rounded" => (
            value == share || value == rounded_down,
            more || node <= share,
        ),
        // A core has two CPUs at most.
        "cores" => ((1..=share).contains(&value), more || node <= 2 * share),
        "memory" if is_limited => (value == limit, outside != Some(limit)),
        "within" if is_limited => (
            (1..=limit).contains(&value),
            outside.is_some_and(|outside| outside > limit),
        ),
        "memory" | "within" => (true, true),
        _ => panic!("{name}: no such kind"),
    };
    let told = format!("{name}: {value} with {cpu}, on the node {outside:?}");
    match (is_right, control) {
        (true, true) => None,
        (false, _) => Some(told),
        (true, false) => Some(format!("{told}, which shows nothing")),
    }
}

/// Every share is told as it is, by every way that programs of `probe` ask.
async fn tells_the_share(probe: &Probe) {
    let Some(bench) = bench() else { return };
    let Some(folder) = probe.made() else { return };
    let preload = std::env::var_os(PRELOAD).map(PathBuf::from);
    let preload: Vec<_> = preload.iter().map(|path| (PRELOAD, &**path)).collect();
    let node = probe.told_on_the_node(&folder, &preload);
    println!("{} on the node: {node:#?}", probe.name);
    for (number, cpu) in (0..).zip(SHARES) {
        let container = container(&bench, number, probe, &folder, cpu);
        let finished = bench.run(&container).await;
        assert_eq!(finished.exit_code(), Some(0), "{cpu}: {finished:?}");
        let told = probes::told(&finished.output);
        let names = |told: &BTreeMap<String, i128>| told.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&told), names(&node), "{finished:?}");
        let found = told
            .iter()
            .filter_map(|(name, value)| wrong(name, *value, node.get(name).copied(), cpu));
        let found: Vec<String> = found.collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[tokio::test]
async fn c_is_told_the_share() {
    tells_the_share(&C).await;
}

#[tokio::test]
async fn openmp_is_told_the_share() {
    tells_the_share(&OPENMP).await;
}

#[tokio::test]
async fn rust_is_told_the_share() {
    tells_the_share(&RUST).await;
}

#[tokio::test]
async fn go_is_told_the_share() {
    tells_the_share(&GO).await;
}

#[tokio::test]
async fn java_is_told_the_share() {
    tells_the_share(&JAVA).await;
}

#[tokio::test]
async fn node_js_is_told_the_share() {
    tells_the_share(&NODE).await;
}

#[tokio::test]
async fn libraries_of_python_are_told_the_share() {
    tells_the_share(&PYTHON).await;
}

#[tokio::test]
async fn r_is_told_the_share() {
    tells_the_share(&R).await;
}

/// What `cargo xtask guest-v2` runs before it makes its disk.
#[test]
fn every_language_is_there_that_ci_installs() {
    let made = |probe: &Probe| match probe.made() {
        Some(_) => "here",
        None => "not here",
    };
    for probe in ALL.iter().chain([&&PRETENDS]) {
        println!("{}: {}", probe.name, made(probe));
    }
}

/// The engine, its launcher and the programs on the node are told of 52 CPUs, as far as a library
/// that is loaded before all others reaches: not static programs, and not the kernel.
#[test]
fn the_share_is_told_where_the_node_pretends_to_have_more() {
    // What is started below could show nothing.
    let Some(_) = bench() else { return };
    let Some(library) = PRETENDS.made() else {
        return;
    };
    let library = library.join("cpus52.so");
    for (probe, test, reached) in [
        (&C, "c_is_told_the_share", "dynamic"),
        (&OPENMP, "openmp_is_told_the_share", "openmp"),
        (&RUST, "rust_is_told_the_share", "dynamic"),
        (
            &PYTHON,
            "libraries_of_python_are_told_the_share",
            "threads.openblas",
        ),
    ] {
        let Some(folder) = probe.made() else { continue };
        // The control: on this node they are told of 52.
        let mut told = probe.told_on_the_node(&folder, &[(PRELOAD, &library)]);
        told.retain(|name, _| name.contains(reached) && !name.starts_with("memory."));
        assert!(
            !told.is_empty() && told.values().all(|one| *one == PRETENDED),
            "{told:?}"
        );
        let own = std::env::current_exe().expect("this test");
        let mut command = process::command(own);
        let command = command.args(["--exact", &format!("truth_of_languages::{test}")]);
        let output = command.arg("--nocapture").env(PRELOAD, &library).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{errors}");
        assert!(said.contains(": 52"), "it was not pretended: {said}");
        if said.lines().any(|line| line.starts_with("skipped")) {
            println!("{said}");
        }
    }
}
