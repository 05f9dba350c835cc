//! Containers that were made before it was known whose they would be.

use super::bench::{Bench, eventually, group, groups_left, launcher, roots_bench, sites};
use domain::{MemberId, Network};
use engine_api::{Bind, BindOwner, ContainerSpec, Engine as _, UidRange, layout};
use process::send_signal;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use sandbox::{MakeAhead, Sandbox, SandboxSettings};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a session is told of itself, and what it was given.
const LOOKS: &str = "hostname; cat /etc/hostname; tail -n 1 /etc/hosts; cut -d' ' -f1 /proc/uptime; \
     cat /proc/self/uid_map; id -u; touch /work/a /home/user/b && echo written; \
     cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
     cut -d' ' -f1 /proc/1/stat; \
     own=$(cut -d' ' -f22 /proc/self/stat); for first in /proc/1/stat /proc/1/task/1/stat; do \
     test $(cut -d' ' -f22 $first) -le $own && echo in order; done; \
     readlink /proc/self/ns/net; head -c 1 /dev/zero | wc -c; touch /etc/x 2>/dev/null || echo closed";

/// The groups that are nobody's, or were.
fn nobodys() -> Vec<String> {
    let mut left = groups_left();
    left.retain(|name| name.parse::<MemberId>().is_ok_and(|name| name.attempt == 0));
    left
}

/// The processes in these groups.
fn processes(group: &str) -> Vec<Pid> {
    let files = sites()
        .into_iter()
        .map(|site| site.join(group).join("cgroup.procs"));
    let texts = files.filter_map(|file| fs::read_to_string(file).ok());
    let mut all: Vec<i32> = texts
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().filter_map(Pid::from_raw).collect()
}

/// One for just this container waits, in groups of its own.
async fn made(bench: &Bench, container: &ContainerSpec) -> String {
    let before = nobodys();
    assert!(
        bench.sandbox.expect(std::slice::from_ref(container)).await,
        "nothing else is started"
    );
    let mut new = nobodys();
    new.retain(|name| !before.contains(name));
    assert_eq!(new.len(), 1, "{new:?}");
    new.remove(0)
}

/// Files in the engine's directory, but for what those of groups are links to, which stays.
fn notes(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.place("state"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "group")
        .collect();
    names.sort();
    names
}

fn another_engine(bench: &Bench, make_ahead: MakeAhead) -> Sandbox {
    Sandbox::new(SandboxSettings {
        cgroup_group: group(),
        runtime_directory: bench.place("sockets"),
        state_directory: bench.place("state"),
        launcher: launcher(),
        make_ahead,
    })
}

#[tokio::test]
async fn one_is_as_any_other_and_leaves_nothing() {
    let Some(bench) = roots_bench() else { return };
    for (first, network) in [(0_u32, Network::None), (2, Network::Host)] {
        let of = |number| ContainerSpec {
            network,
            ..bench.container(first + number, LOOKS)
        };
        let mut told = Vec::new();
        for number in [0_u32, 1] {
            let mut container = of(number);
            let ahead = number == 1;
            if ahead {
                made(&bench, &container).await;
                // Its clock begins with its member.
                tokio::time::sleep(Duration::from_millis(1_200)).await;
            }
            container.hostname = "its-own".to_owned();
            let begun = Instant::now();
            bench.start(&container).await.expect("it starts");
            assert_eq!(nobodys().len(), usize::from(ahead), "taken over, or not");
            assert!(
                bench
                    .sandbox
                    .usage(container.member)
                    .await
                    .expect("used")
                    .memory_bytes
                    > 0
            );
            let finished = bench.finish(&container).await;
            assert_eq!(finished.exit_code(), Some(0), "{finished:?}");
            assert!(finished.report.usage.is_some());
            assert_eq!((groups_left(), notes(&bench)), (Vec::new(), Vec::new()));
            assert!(container.directory.join(layout::WORK).join("a").exists());
            let base = container.uids.base.to_string();
            let mut lines: Vec<String> = finished.output.lines().map(str::to_owned).collect();
            let uptime: f64 = lines.remove(3).parse().expect("seconds");
            // It is told in hundredths.
            let since = begun.elapsed().as_secs_f64() + 0.01;
            assert!(uptime < since, "ahead: {ahead}, {uptime}, {since}");
            let orders = lines.iter().filter(|line| *line == "in order");
            assert_eq!(orders.count(), 2, "whoever is first began first: {lines:?}");
            lines.retain(|line| network == Network::Host || !line.starts_with("net:"));
            told.push(lines.join("\n").replace(&base, "BASE"));
        }
        assert!(
            told[0].starts_with("its-own\nits-own\n127.0.1.1\tits-own\n"),
            "{}",
            told[0]
        );
        assert_eq!(told[0], told[1]);
    }
}

#[tokio::test]
async fn one_that_is_not_just_the_same_is_not_taken() {
    let Some(bench) = roots_bench() else { return };
    let other = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut container = bench.container(3, "echo mine");
        change(&mut container);
        container
    };
    let source = bench.place("shown");
    fs::write(&source, "one").expect("written");
    let shown = |target: &str| Bind {
        source: source.clone(),
        target: PathBuf::from(target),
        read_only: true,
        owner: BindOwner::System,
    };
    for (what, container) in [
        ("memory", other(&|one| one.limits.memory_bytes /= 2)),
        ("processes", other(&|one| one.limits.pids += 1)),
        ("CPU", other(&|one| one.limits.cpu = 5_000)),
        ("network", other(&|one| one.network = Network::Host)),
        ("a mount", other(&|one| one.binds.push(shown("/shown")))),
    ] {
        let spare = made(&bench, &bench.container(3, "echo mine")).await;
        let finished = bench.run(&container).await;
        assert_eq!(finished.output, "mine\n", "{what}");
        assert!(
            processes(&spare).is_empty(),
            "{what}: it ended, for its ids are another's"
        );
        assert_eq!(
            (groups_left(), notes(&bench)),
            (Vec::new(), Vec::new()),
            "{what}"
        );
        fs::remove_dir_all(&container.directory).expect("removed");
    }
    // What it shows was replaced meanwhile, beside the control.
    for replaced in [false, true] {
        let container = bench.container(4, "cat /etc/hostname");
        let spare = made(&bench, &container).await;
        if replaced {
            // The root's directory is another one of the same name.
            let layer = &container.root.layers[0];
            let aside = layer.with_extension("aside");
            fs::rename(layer, &aside).expect("aside");
            let copied = process::command("cp")
                .arg("-a")
                .args([&aside, layer])
                .status();
            assert!(copied.expect("it runs").success());
        }
        bench.start(&container).await.expect("it starts");
        assert_eq!(nobodys().contains(&spare), !replaced);
        assert_eq!(bench.finish(&container).await.output, "tester\n");
        fs::remove_dir_all(&container.directory).expect("removed");
    }
}

#[tokio::test]
async fn nothing_is_made_ahead_that_depends_on_its_member() {
    let Some(bench) = roots_bench() else { return };
    let mut writable = bench.container(0, "true");
    writable.root.read_only = false;
    let mut mounted = bench.container(1, "true");
    mounted.binds.push(Bind {
        source: bench.place(""),
        target: "/opt".into(),
        read_only: false,
        owner: BindOwner::User { uid: 0, gid: 0 },
    });
    let egress = ContainerSpec {
        network: Network::Egress,
        ..bench.container(2, "true")
    };
    for container in [writable, mounted, egress] {
        assert!(bench.sandbox.expect(std::slice::from_ref(&container)).await);
        assert_eq!((nobodys(), notes(&bench)), (Vec::new(), Vec::new()));
    }
    made(&bench, &bench.container(3, "true")).await;
}

#[tokio::test]
async fn none_is_made_where_none_is_to_be() {
    let Some(bench) = roots_bench() else { return };
    for (make_ahead, made) in [(MakeAhead::Never, 0), (MakeAhead::Always, 1)] {
        let engine = another_engine(&bench, make_ahead);
        let expected = [bench.container(0, "true")];
        assert_eq!(engine.expect(&expected).await, made == 1);
        assert_eq!(nobodys().len(), made, "{make_ahead}");
        engine.close();
        assert_eq!((groups_left(), notes(&bench)), (Vec::new(), Vec::new()));
    }
}

#[tokio::test]
async fn there_are_few_and_they_end_with_the_engine() {
    let Some(bench) = roots_bench() else { return };
    let mut spares = Vec::new();
    for number in 0..4 {
        spares.push(made(&bench, &bench.container(number, "true")).await);
    }
    assert_eq!(nobodys(), spares[2..], "the oldest make room");
    assert_eq!(processes(&spares[3]).len(), 1);
    assert!(
        bench.sandbox.list().await.expect("listed").is_empty(),
        "they are nobody's"
    );
    assert_eq!(nobodys().len(), 2, "and stay");
    bench.sandbox.close();
    assert_eq!((groups_left(), notes(&bench)), (Vec::new(), Vec::new()));
    assert_eq!(
        fs::read_dir(bench.place("sockets"))
            .expect("listed")
            .count(),
        0
    );
}

#[tokio::test]
async fn every_namespace_is_its_own_made_ahead_or_not() {
    let Some(bench) = roots_bench() else { return };
    for (number, ahead) in [(0, false), (1, true)] {
        let container = ContainerSpec {
            network: Network::None,
            ..bench.container(number, "readlink /proc/self/ns/*")
        };
        if ahead {
            made(&bench, &container).await;
        }
        let told = bench.run(&container).await.output;
        let own: Vec<String> = fs::read_dir("/proc/self/ns")
            .expect("listed")
            .flatten()
            .map(|link| fs::read_link(link.path()).expect("read"))
            .map(|target| target.to_string_lossy().into_owned())
            .collect();
        assert_eq!(told.lines().count(), own.len(), "{told}");
        for namespace in told.lines() {
            assert!(!own.iter().any(|other| other == namespace), "{namespace}");
        }
    }
}

#[tokio::test]
async fn what_is_expected_next_is_made_and_what_was_expected_before_is_not() {
    let Some(bench) = roots_bench() else { return };
    let [older, next, then] = [0, 1, 2].map(|number| bench.container(number, "true"));
    let following = [next, then];
    let (outdated, newest) = tokio::join!(
        bench.sandbox.expect(std::slice::from_ref(&older)),
        bench.sandbox.expect(&following),
    );
    assert_eq!((outdated, newest), (false, true));
    assert_eq!(nobodys().len(), 2);
    for (container, left) in following.iter().zip([2, 1]) {
        bench.start(container).await.expect("it starts");
        assert_eq!(nobodys().len(), left, "its groups are one of these");
        bench.finish(container).await;
    }
    assert_eq!(nobodys(), Vec::<String>::new());
    bench.run(&older).await;
}

#[tokio::test]
async fn one_that_died_is_made_anew() {
    let Some(bench) = roots_bench() else { return };
    let container = bench.container(0, "echo mine");
    let spare = made(&bench, &container).await;
    let [process] = processes(&spare)[..] else {
        panic!("one process waits");
    };
    let process = pidfd_open(process, PidfdFlags::empty()).expect("it lives");
    send_signal(&process, Signal::KILL).expect("sent");
    eventually("it is gone", || processes(&spare).is_empty()).await;
    assert_eq!(bench.run(&container).await.output, "mine\n");
    assert_eq!((groups_left(), notes(&bench)), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_later_engine_knows_whose_they_became_and_ends_those_of_nobody() {
    let Some(bench) = roots_bench() else { return };
    let container = bench.container(0, "exec sleep 50");
    let taken = made(&bench, &container).await;
    bench.start(&container).await.expect("it starts");
    let left = made(&bench, &bench.container(1, "true")).await;
    let member = container.member;
    let other = another_engine(&bench, MakeAhead::Auto);
    let found = other.list().await.expect("listed");
    assert_eq!(
        found
            .iter()
            .map(|one| (one.member, one.alive))
            .collect::<Vec<_>>(),
        [(member, true)]
    );
    assert!(other.usage(member).await.expect("used").pids > 0);
    assert!(
        processes(&left).is_empty(),
        "an earlier process had it for nobody"
    );
    assert_eq!(nobodys(), [taken]);
    other.pause(member).await.expect("paused");
    other.resume(member).await.expect("resumed");
    other
        .remove(member, &container.directory)
        .await
        .expect("removed");
    assert_eq!((groups_left(), notes(&bench)), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn what_an_older_build_noted_is_understood_and_what_a_killed_one_left_goes() {
    let Some(bench) = roots_bench() else { return };
    let container = bench.container(0, "exec sleep 50");
    let taken = made(&bench, &container).await;
    bench.start(&container).await.expect("it starts");
    let (member, place) = (container.member, bench.place("state"));
    let older = place.join(format!("{member}.group"));
    fs::rename(place.join(format!("{member}={taken}.group")), &older).expect("it was noted");
    fs::write(&older, &taken).expect("written");
    // Killed before it made the groups.
    let nobody = "0k3v9w1x5zq2e.0.0";
    fs::write(place.join(format!("{nobody}={nobody}.group")), "").expect("written");
    let other = another_engine(&bench, MakeAhead::Auto);
    let found = other.list().await.expect("listed");
    let found: Vec<_> = found.iter().map(|one| (one.member, one.alive)).collect();
    assert_eq!(found, [(member, true)]);
    assert!(other.usage(member).await.expect("used").pids > 0);
    assert_eq!(notes(&bench), [format!("{member}={taken}.group")]);
    let removed = other.remove(member, &container.directory).await;
    removed.expect("removed");
    assert_eq!((groups_left(), notes(&bench)), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_member_is_found_by_what_tells_of_its_group_alone() {
    let Some(bench) = roots_bench() else { return };
    let (container, place) = (bench.container(0, "true"), bench.place("state"));
    fs::create_dir_all(&place).expect("made");
    let member = container.member;
    fs::write(place.join(format!("{member}=0k3v9w1x5zq2e.0.0.group")), "").expect("written");
    let engine = another_engine(&bench, MakeAhead::Auto);
    let found = engine.list().await.expect("listed");
    let found: Vec<_> = found.iter().map(|one| (one.member, one.alive)).collect();
    assert_eq!(found, [(member, false)]);
    let removed = engine.remove(member, &container.directory).await;
    removed.expect("removed");
    assert_eq!(notes(&bench), Vec::<String>::new());
}

/// Ids are given to one container at a time, whatever waits.
#[tokio::test]
async fn whoever_gets_the_ids_ends_what_waited_with_them() {
    let Some(bench) = roots_bench() else { return };
    let expected = bench.container(0, "true");
    let spare = made(&bench, &expected).await;
    let other = ContainerSpec {
        network: Network::Host,
        uids: UidRange { ..expected.uids },
        ..bench.container(1, "exec sleep 50")
    };
    bench.start(&other).await.expect("it starts");
    assert!(processes(&spare).is_empty());
    assert_eq!(groups_left(), [other.member.to_string()]);
    bench.remove(&other).await;
}
