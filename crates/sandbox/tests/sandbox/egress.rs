//! The network `egress`: what can be reached from it, what cannot, and what is left of it. Every
//! "cannot" stands beside the same try with the network `host`, which can.

#[path = "egress/counted.rs"]
mod counted;
#[path = "egress/neighbours.rs"]
mod neighbours;
#[path = "egress/sites.rs"]
mod sites;

use super::bench::{Bench, Finished, bench_with, eventually, launcher, output};
use super::outside::{
    self, DENIED, LATE_PORT, METADATA, NODE, SERVER, TCP_PORT, UDP_PORT, ip, nft, serve_names,
    with_world,
};
use domain::Network;
use engine_api::{ContainerSpec, Engine as _};
use guest_api::Stream;
use sandbox::{EgressSettings, MakeAhead, Sandbox, SandboxSettings};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Tries what it is told, `tcp ADDRESS PORT` or `udp ADDRESS PORT`, and writes a line for each.
const TRY: &str = r#"
import socket, sys
words = sys.argv[1:]
while words:
    kind, address, port = words[:3]
    words = words[3:]
    type = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, type) as tried:
        tried.settimeout(5)
        try:
            tried.connect((address, int(port)))
            if kind == "udp":
                tried.send(b"?")
            print(kind, address, tried.recv(100).decode())
        except OSError as error:
            print(kind, address, "cannot")
"#;

/// Runs `test` in a world, on a runtime whose threads are on its node.
fn on_a_node<F: Future<Output = ()>>(
    settings: impl FnOnce(PathBuf) -> EgressSettings + Send,
    test: impl FnOnce(Bench) -> F + Send,
) {
    with_world(|| {
        let files = tempfile::tempdir().expect("a directory");
        let resolvers = files.path().join("resolv.conf");
        fs::write(&resolvers, format!("nameserver {SERVER}\n")).expect("written");
        let Some(bench) = bench_with(settings(resolvers)) else {
            return;
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(test(bench));
    });
}

fn settings(resolvers: PathBuf) -> EgressSettings {
    EgressSettings {
        denied: vec![format!("{DENIED}/32").parse().expect("a range")],
        resolver_files: vec![resolvers],
        ..EgressSettings::default()
    }
}

/// What is done to the rules stays.
fn nobody_looks(resolvers: PathBuf) -> EgressSettings {
    EgressSettings {
        looked_after: false,
        ..settings(resolvers)
    }
}

/// There are the node's rules only.
fn nothing_inside(resolvers: PathBuf) -> EgressSettings {
    EgressSettings {
        inside_too: false,
        ..settings(resolvers)
    }
}

/// The words for [`TRY`] that try both protocols at `address`.
fn both(address: Ipv4Addr) -> String {
    format!("tcp {address} {TCP_PORT} udp {address} {UDP_PORT}")
}

fn container(bench: &Bench, number: u32, network: Network, script: &str) -> ContainerSpec {
    let mut container = bench.container(number, script);
    container.network = network;
    container
}

async fn tried(bench: &Bench, number: u32, network: Network, words: &str) -> Finished {
    let script = format!("python3 -c '{TRY}' {words}");
    let finished = bench.run(&container(bench, number, network, &script)).await;
    assert_eq!(finished.exit_code(), Some(0), "{finished:?}");
    finished
}

/// What there is of our rules and devices on this thread's node.
fn traces() -> String {
    let devices = ip("-o link");
    let ours = devices.lines().filter(|line| line.contains(": ins"));
    nft("list tables") + &ours.collect::<String>()
}

#[test]
fn servers_beyond_the_node_are_reached_from_an_address_of_the_node() {
    on_a_node(settings, async |bench| {
        let finished = tried(&bench, 0, Network::Egress, &both(SERVER)).await;
        let expected =
            format!("tcp {SERVER} outside sees {NODE}\nudp {SERVER} outside sees {NODE}\n");
        assert_eq!(finished.output, expected, "{finished:?}");
    });
}

#[test]
fn neither_the_node_nor_metadata_nor_what_is_denied_can_be_reached() {
    on_a_node(settings, async |bench| {
        let gateway = "$(python3 -c 'import re
for line in open(\"/proc/net/route\"):
    words = line.split()
    if words[1] == \"00000000\":
        print(\".\".join(str(b) for b in bytes.fromhex(words[2])[::-1]))')";
        let addresses = [NODE, DENIED, Ipv4Addr::LOCALHOST]
            .into_iter()
            .chain(METADATA);
        let words: String = addresses.map(|address| both(address) + " ").collect();
        let inside = format!("{words} tcp {gateway} {TCP_PORT} udp {gateway} {UDP_PORT}");
        let finished = tried(&bench, 0, Network::Egress, &inside).await;
        let lines = finished.output.lines();
        assert_eq!(lines.clone().count(), 12, "{finished:?}");
        assert!(
            lines.clone().all(|line| line.ends_with(" cannot")),
            "{finished:?}"
        );
        assert!(
            finished.output.contains("tcp 10.213."),
            "the gateway: {finished:?}"
        );
        let control = tried(&bench, 1, Network::Host, &words).await;
        assert_eq!(control.output.matches(" sees ").count(), 10, "{control:?}");
    });
}

#[test]
fn sessions_do_not_reach_each_other() {
    const SERVE: &str = r#"
import socket
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("198.51.100.7", 1))
listener = socket.create_server(("", 7070))
print(probe.getsockname()[0], flush=True)
while True:
    stream, _ = listener.accept()
    stream.send(b"reached")
    stream.close()
"#;
    on_a_node(settings, async |bench| {
        for (first, network) in [(0, Network::Egress), (2, Network::Host)] {
            let server = container(
                &bench,
                first,
                network,
                &format!("exec python3 -c '{SERVE}'"),
            );
            bench.start(&server).await.expect("it starts");
            eventually("it listens", || !output(&server, Stream::Stdout).is_empty()).await;
            let address = output(&server, Stream::Stdout).trim().to_owned();
            let words = format!("tcp {address} 7070");
            let finished = tried(&bench, first + 1, network, &words).await;
            let expected = match network {
                Network::Egress => "cannot",
                _ => "reached",
            };
            assert_eq!(finished.output, format!("tcp {address} {expected}\n"));
            bench.remove(&server).await;
        }
    });
}

#[test]
fn root_inside_changes_nothing_and_there_is_no_ipv6() {
    on_a_node(settings, async |bench| {
        let mut container = container(&bench, 0, Network::Egress, "");
        let script = "ip -o -4 addr show eth0 | grep -c 10.213.; \
            ip addr add 10.213.0.99/32 dev eth0 2>&1 | grep -c -i permitted; \
            ip link set eth0 address 02:00:00:00:00:01 2>&1 | grep -c -i permitted; \
            python3 -c 'import socket
for family, kind in [(socket.AF_INET, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW)]:
    try:
        socket.socket(family, kind, 1)
        print(\"opened\")
    except PermissionError:
        print(\"closed\")'; \
            ip -6 addr show dev eth0 | wc -l; ip -6 addr show dev lo | grep -c ::1";
        super::bench::as_root(&mut container, script);
        let finished = bench.run(&container).await;
        let words: Vec<&str> = finished.output.split_whitespace().collect();
        assert_eq!(
            words,
            ["1", "1", "1", "closed", "closed", "0", "1"],
            "{finished:?}"
        );
    });
}

#[test]
fn names_are_found() {
    on_a_node(settings, async |bench| {
        let script = "cat /etc/resolv.conf; getent ahostsv4 any.example | head -1 | cut -d' ' -f1";
        let finished = bench
            .run(&container(&bench, 0, Network::Egress, script))
            .await;
        assert_eq!(
            finished.output,
            format!("nameserver {SERVER}\n{SERVER}\n"),
            "{finished:?}"
        );
    });
}

/// A name server that listens on the node's loopback device only is asked by the engine.
#[test]
fn names_are_found_where_only_the_node_can_ask() {
    let loopback = |resolvers: PathBuf| {
        fs::write(&resolvers, "nameserver 127.0.0.1\n").expect("written");
        settings(resolvers)
    };
    on_a_node(loopback, async |bench| {
        serve_names((Ipv4Addr::LOCALHOST, 53).into());
        let script = "getent ahostsv4 any.example | head -1 | cut -d' ' -f1; \
            RES_OPTIONS=use-vc getent ahostsv4 other.example | head -1 | cut -d' ' -f1";
        let finished = bench
            .run(&container(&bench, 0, Network::Egress, script))
            .await;
        assert_eq!(
            finished.output,
            format!("{SERVER}\n{SERVER}\n"),
            "{finished:?}"
        );
        // Only names: the gateway has no other port.
        let gateway = "$(sed -n \"s/nameserver //p\" /etc/resolv.conf)";
        let words = format!("tcp {gateway} {TCP_PORT}");
        let finished = tried(&bench, 1, Network::Egress, &words).await;
        assert!(finished.output.ends_with(" cannot\n"), "{finished:?}");
    });
}

#[test]
fn it_is_all_taken_back() {
    on_a_node(settings, async |bench| {
        let forwarding = || {
            let path = "/proc/sys/net/ipv4/conf/uplink/forwarding";
            fs::read_to_string(path).expect("read").trim().to_owned()
        };
        assert_eq!((traces().as_str(), forwarding().as_str()), ("", "0"));
        let first = container(&bench, 0, Network::Egress, "exec sleep 50");
        bench.start(&first).await.expect("it starts");
        assert!(traces().contains(": ins") && traces().contains("table inet insula_"));
        assert_eq!(forwarding(), "1");
        bench.sandbox.close();
        assert!(
            traces().contains("table inet insula_"),
            "a container needs it"
        );
        // Its network namespace goes with it, and its devices with that; nobody has to help.
        bench.sandbox.signal(first.member, 9).await.expect("killed");
        bench.finish_without_record(&first).await;
        eventually("its devices are gone", || !traces().contains(": ins")).await;
        assert!(traces().contains("table inet insula_"));
        bench.sandbox.close();
        assert_eq!((traces().as_str(), forwarding().as_str()), ("", "0"));
        bench.remove(&first).await;
    });
}

/// Our table's name.
fn table() -> String {
    let tables = nft("list tables");
    let ours = tables.lines().find(|line| line.contains("inet insula_"));
    ours.unwrap_or_default().replace("table ", "")
}

/// What somebody does to our rules is undone at once. The control is the next test: without
/// somebody who looks after them the node is reached.
#[test]
fn rules_that_somebody_flushes_are_made_anew_and_taken_back_when_nobody_needs_them() {
    on_a_node(nothing_inside, async |bench| {
        let script = format!(
            "for round in 1 2 3; do while ! test -e go$round; do sleep 0.02; done; \
             python3 -c '{TRY}' tcp {NODE} {TCP_PORT}; done"
        );
        let living = container(&bench, 0, Network::Egress, &script);
        bench.start(&living).await.expect("it starts");
        let made = nft("list ruleset");
        let name = table();
        let harm = [
            "flush ruleset".to_owned(),
            format!("flush table {name}"),
            format!("add rule {name} node accept; insert rule {name} node accept"),
        ];
        for (round, harm) in (1..).zip(harm) {
            nft(&harm);
            eventually("the rules are as they were", || nft("list ruleset") == made).await;
            fs::write(living.directory.join(format!("work/go{round}")), "").expect("written");
            let tried = || output(&living, Stream::Stdout).lines().count() == round;
            eventually("it tried", tried).await;
        }
        let finished = bench.finish(&living).await;
        assert_eq!(finished.output, format!("tcp {NODE} cannot\n").repeat(3));
        eventually("all is taken back", || traces().is_empty()).await;
        let forwarding = fs::read_to_string("/proc/sys/net/ipv4/conf/uplink/forwarding");
        assert_eq!(forwarding.expect("read").trim(), "0");
        // It is all made again for the next one.
        let finished = tried(&bench, 1, Network::Egress, &both(SERVER)).await;
        assert_eq!(finished.output.matches("outside sees").count(), 2);
    });
}

/// Another process takes up what one that was killed has left: rules that somebody flushed are
/// made anew while a container lives.
#[test]
fn the_next_process_mends_the_rules_and_takes_them_back() {
    let unguarded = |resolvers| EgressSettings {
        looked_after: false,
        ..nothing_inside(resolvers)
    };
    on_a_node(unguarded, async |bench| {
        let script = format!(
            "sleep 1000 & for round in 1 2; do read line < /work/go; python3 -c '{TRY}' \
             tcp {NODE} {TCP_PORT}; done"
        );
        let living = container(&bench, 0, Network::Egress, &script);
        let pipe = living.directory.join("work/go");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        );
        made.expect("a pipe");
        fs::set_permissions(&pipe, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .expect("open");
        bench.start(&living).await.expect("it starts");
        nft("flush ruleset");
        // The control: without the rules the node is open.
        fs::write(&pipe, "go\n").expect("written");
        eventually("the node is reached", || {
            output(&living, Stream::Stdout).contains("node sees 10.213.")
        })
        .await;
        let resolvers = bench.place("sockets");
        let other = Sandbox::with_egress(
            SandboxSettings {
                cgroup_group: super::bench::group(),
                runtime_directory: resolvers,
                state_directory: bench.place("state"),
                launcher: launcher(),
                make_ahead: MakeAhead::Auto,
            },
            EgressSettings::default(),
        );
        let found = other.list().await.expect("listed");
        assert!(
            found
                .iter()
                .any(|found| found.member == living.member && found.alive)
        );
        assert!(traces().contains("table inet insula_"));
        fs::write(&pipe, "go\n").expect("written");
        let finished = bench.finish(&living).await;
        assert!(finished.output.ends_with(" cannot\n"), "{finished:?}");
        other.close();
        assert_eq!(traces(), "");
    });
}

/// While nobody looks after the rules, whoever flushes them opens nothing: the same rules stand in
/// the container's own network. The control is without those.
#[test]
fn what_is_flushed_while_nobody_looks_opens_nothing() {
    for inside_too in [true, false] {
        let unwatched = |resolvers| EgressSettings {
            inside_too,
            ..nobody_looks(resolvers)
        };
        on_a_node(unwatched, async |bench| {
            let script = format!(
                "while ! test -e go; do sleep 0.02; done; gateway=$(ip route show default | cut -d' ' -f3); \
                 python3 -c '{TRY}' tcp {NODE} {TCP_PORT} tcp $gateway {TCP_PORT} tcp 10.66.0.1 {TCP_PORT}"
            );
            ip("addr add 10.66.0.1/32 dev lo");
            let living = container(&bench, 0, Network::Egress, &script);
            bench.start(&living).await.expect("it starts");
            nft("flush ruleset");
            fs::write(living.directory.join("work/go"), "").expect("written");
            let finished = bench.finish(&living).await;
            let word = if inside_too {
                " cannot"
            } else {
                " node sees 10.213."
            };
            assert_eq!(finished.output.matches(word).count(), 3, "{finished:?}");
        });
    }
}

/// The node remembers for a while whom it translated, and an address may soon be another
/// container's. The control is without rules inside.
#[test]
fn answers_to_the_one_who_had_the_address_before_do_not_come_in() {
    const ASK: &str = r#"
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
    asks.bind(("", 5555))
    asks.sendto(b"remember", (SERVER, PORT))
    asks.settimeout(9)
    print(asks.recv(100).decode(), asks.getsockname()[1])
"#;
    const HEAR: &str = r#"
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears:
    hears.bind(("", 5555))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        asks.sendto(b"again", (SERVER, PORT))
        asks.settimeout(9)
        print(asks.recv(100).decode())
    hears.settimeout(1)
    try:
        print(hears.recv(100).decode())
    except OSError:
        print("nothing")
"#;
    for (settings, heard) in [
        (settings as fn(PathBuf) -> EgressSettings, "nothing"),
        (nothing_inside, "late"),
    ] {
        on_a_node(settings, async |bench| {
            // However slow this machine is, the node has not forgotten yet.
            for kind in ["udp_timeout", "udp_timeout_stream"] {
                let path = format!("/proc/sys/net/netfilter/nf_conntrack_{kind}");
                fs::write(path, "3600").expect("set");
            }
            let filled = |script: &str| {
                let script = script.replace("SERVER", &format!("\"{SERVER}\""));
                let script = script.replace("PORT", &LATE_PORT.to_string());
                format!(
                    "cat > ask.py <<'END'
{script}END
python3 ask.py; ip -o -4 addr show eth0"
                )
            };
            let before = container(&bench, 0, Network::Egress, &filled(ASK));
            let mut after = container(&bench, 1, Network::Egress, &filled(HEAR));
            // The address goes by the range of ids.
            after.uids = before.uids;
            let (before, after) = (bench.run(&before).await, bench.run(&after).await);
            let address = |finished: &Finished| {
                let line = finished
                    .output
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .to_owned();
                line.split_whitespace().nth(3).map(str::to_owned)
            };
            assert!(
                before.output.starts_with(
                    "remembered 5555
"
                ),
                "{before:?}"
            );
            assert_eq!(address(&before), address(&after));
            assert!(address(&after).is_some(), "{after:?}");
            let expected = format!(
                "told
{heard}
"
            );
            assert!(after.output.starts_with(&expected), "{heard}: {after:?}");
        });
    }
}

/// A device of the administrator's whose name begins as ours do is one as others are.
#[test]
fn what_is_behind_a_device_that_is_named_alike_is_reached() {
    on_a_node(settings, async |bench| {
        let alike = outside::Neighbour::new("ins-lan", 66);
        let finished = tried(&bench, 0, Network::Egress, &both(alike.address)).await;
        let told = finished.output.matches("neighbour sees 10.66.0.1").count();
        assert_eq!(told, 2, "{finished:?}");
        // The control: one that is named as ours are.
        let ours = outside::Neighbour::new("insffffff0", 77);
        let finished = tried(&bench, 1, Network::Egress, &both(ours.address)).await;
        assert_eq!(
            finished.output.matches(" cannot").count(),
            2,
            "{finished:?}"
        );
    });
}

#[test]
fn what_is_missing_is_told_as_a_row() {
    on_a_node(
        |resolvers| EgressSettings {
            range: Some("203.0.113.0/24".parse().expect("a range")),
            ..settings(resolvers)
        },
        async |bench| {
            let fingerprint = bench.sandbox.fingerprint().await.expect("told");
            let row = &fingerprint.capabilities["network.egress"];
            let told = format!("{row:?}");
            assert!(told.contains("node.egress-range"), "{told}");
            let refused = bench
                .start(&container(&bench, 0, Network::Egress, "true"))
                .await;
            let error = refused.expect_err("refused").to_string();
            assert!(error.contains("network.egress"), "{error}");
            assert_eq!(traces(), "");
        },
    );
    on_a_node(settings, async |bench| {
        let row = async || {
            let fingerprint = bench.sandbox.fingerprint().await.expect("told");
            format!("{:?}", fingerprint.capabilities["network.egress"])
        };
        assert_eq!(row().await, "Yes");
        nft("add table ip filter");
        nft("add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
        assert!(row().await.contains("FORWARD"), "{}", row().await);
        nft("add rule ip filter FORWARD iifname ins* accept");
        assert_eq!(row().await, "Yes");
    });
}
