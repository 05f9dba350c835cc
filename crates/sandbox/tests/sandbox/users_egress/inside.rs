//! What is run as the user, in the world.

use super::super::bench::{Bench, Finished, as_root, eventually, output};
use super::super::outside::{DENIED, METADATA, METADATA_6, NODE, SERVER, TCP_PORT, UDP_PORT};
use super::{IN_A_WORLD, LATER, NOT_HERE, TOLD};
use domain::Network;
use engine_api::{ContainerSpec, Engine as _};
use guest_api::Stream;
use process::ProcessIdentity;
use sandbox::EgressSettings;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// What is run one after the other in one world.
pub(super) const NAMES: &[&str] = &[
    "reaches_what_is_beyond_the_node_and_nothing_else",
    "does_not_reach_another_session",
    "changes_nothing_as_root_inside",
    "finds_names",
    "has_no_network_when_its_carrier_or_keeper_is_gone",
];

/// Tries what it is told, `KIND ADDRESS PORT`, and writes a line for each. A bound one goes by the
/// device, past what routes say.
const TRY: &str = r#"
import socket, sys
words = sys.argv[1:]
while words:
    kind, address, port = words[:3]
    words = words[3:]
    type = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, type) as tried:
        tried.settimeout(5)
        try:
            if kind == "bound":
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            tried.connect((address, int(port)))
            if kind == "udp":
                tried.send(b"?")
            print(kind, address, tried.recv(100).decode(), flush=True)
        except OSError as error:
            print(kind, address, "cannot", flush=True)
"#;

/// Runs `test` if this is a user in a world.
fn as_a_user<F: Future<Output = ()>>(resolvers: &str, test: impl FnOnce(Bench) -> F) {
    if std::env::var_os(IN_A_WORLD).is_none() {
        // Not skipped: the tests of the file above run it.
        println!("{NOT_HERE}");
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("resolv.conf");
    fs::write(&file, resolvers).expect("written");
    let bench = Bench::with_egress(EgressSettings {
        denied: vec![format!("{DENIED}/32").parse().expect("a range")],
        resolver_files: vec![file],
        ..EgressSettings::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test(bench));
}

fn direct() -> String {
    format!("nameserver {SERVER}\n")
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

fn both(address: IpAddr) -> String {
    format!("tcp {address} {TCP_PORT} udp {address} {UDP_PORT} ")
}

/// Everything that is there and must not be reached.
fn forbidden() -> Vec<IpAddr> {
    let v4 = [NODE, DENIED, Ipv4Addr::LOCALHOST]
        .into_iter()
        .chain(METADATA);
    v4.map(IpAddr::from).chain([METADATA_6.into()]).collect()
}

/// The address that a container has, and that of its gateway.
fn inner_addresses(text: &str) -> (String, String) {
    let own = text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("inet 10.")?;
        Some(format!("10.{}", rest.split('/').next()?))
    });
    let own = own.unwrap_or_else(|| panic!("no address: {text}"));
    let (front, last) = own.rsplit_once('.').expect("an address");
    let last: u8 = last.parse().expect("a number");
    (own.clone(), format!("{front}.{}", last - 1))
}

#[test]
fn reaches_what_is_beyond_the_node_and_nothing_else() {
    as_a_user(&direct(), async |bench| {
        let fingerprint = bench.sandbox.fingerprint().await.expect("told");
        let row = format!("{:?}", fingerprint.capabilities["network.egress"]);
        assert_eq!(row, "Yes");
        let beyond = both(SERVER.into());
        let finished = tried(&bench, 0, Network::Egress, &beyond).await;
        let sees = format!("tcp {SERVER} outside sees {NODE}\nudp {SERVER} outside sees {NODE}\n");
        assert_eq!(finished.output, sees, "{finished:?}");

        let shows = container(&bench, 1, Network::Egress, "ip addr show eth0");
        let (own, gateway) = inner_addresses(&bench.run(&shows).await.output);
        let open: String = forbidden().into_iter().map(both).collect();
        let by_device = format!(
            "bound {NODE} {TCP_PORT} bound {} {TCP_PORT} bound {gateway} {TCP_PORT} \
             bound {} {TCP_PORT} bound {DENIED} {TCP_PORT} tcp {own} {TCP_PORT} tcp {gateway} {TCP_PORT} ",
            METADATA[0],
            Ipv4Addr::LOCALHOST,
        );
        // A name server may be asked for names only, and others not even for them.
        let ports = format!("tcp {NODE} 53 bound {SERVER} {TCP_PORT}");
        let words = format!("{open}{by_device}{ports}");
        let finished = tried(&bench, 2, Network::Egress, &words).await;
        let lines: Vec<&str> = finished.output.lines().collect();
        assert_eq!(lines.len(), 12 + 7 + 2, "{finished:?}");
        let (last, others) = lines.split_last().expect("lines");
        assert!(
            others.iter().all(|line| line.ends_with(" cannot")),
            "{finished:?}"
        );
        assert!(
            last.contains("outside sees"),
            "a bound socket gets out: {last}"
        );
        let control = tried(&bench, 3, Network::Host, &open).await;
        assert_eq!(control.output.matches(" sees ").count(), 12, "{control:?}");
    });
}

#[test]
fn does_not_reach_another_session() {
    const SERVE: &str = r#"
import socket
listener = socket.create_server(("", 7070))
print("there", flush=True)
while True:
    stream, _ = listener.accept()
    stream.send(b"reached")
    stream.close()
"#;
    as_a_user(&direct(), async |bench| {
        for (first, network) in [(0, Network::Egress), (2, Network::Host)] {
            let script = format!("ip addr show eth0 2>/dev/null; exec python3 -c '{SERVE}'");
            let server = container(&bench, first, network, &script);
            bench.start(&server).await.expect("it starts");
            let listens = || output(&server, Stream::Stdout).contains("there");
            eventually("it listens", listens).await;
            let mut words = format!("tcp {NODE} 7070 tcp {} 7070 ", Ipv4Addr::LOCALHOST);
            if network == Network::Egress {
                let (own, gateway) = inner_addresses(&output(&server, Stream::Stdout));
                words += &format!("tcp {own} 7070 tcp {gateway} 7070");
            }
            let finished = tried(&bench, first + 1, network, &words).await;
            let reached = finished.output.matches(" reached").count();
            let expected = if network == Network::Egress { 0 } else { 2 };
            assert_eq!(reached, expected, "{finished:?}");
            bench.remove(&server).await;
        }
    });
}

#[test]
fn changes_nothing_as_root_inside() {
    as_a_user(&direct(), async |bench| {
        let mut container = container(&bench, 0, Network::Egress, "");
        let script = format!(
            "id -u; nft list ruleset >/dev/null 2>&1 || echo 1; \
             nft flush ruleset >/dev/null 2>&1 || echo 1; \
             ip addr add {NODE}/32 dev eth0 2>&1 | grep -c -i permitted; \
             ip route add default via 10.0.0.1 dev eth0 2>&1 | grep -c -i permitted; \
             ip link set eth0 down 2>&1 | grep -c -i permitted; \
             unshare -Ur nft flush ruleset >/dev/null 2>&1; \
             ip -6 addr show dev eth0 | wc -l; \
             python3 -c 'import socket
for family, kind in [(socket.AF_INET, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW)]:
    try:
        socket.socket(family, kind, 1)
        print(\"opened\")
    except PermissionError:
        print(\"closed\")'; \
             python3 -c '{TRY}' tcp {NODE} {TCP_PORT} tcp {SERVER} {TCP_PORT}"
        );
        as_root(&mut container, &script);
        let finished = bench.run(&container).await;
        let expected = format!(
            "0\n1\n1\n1\n1\n1\n0\nclosed\nclosed\ntcp {NODE} cannot\n\
             tcp {SERVER} outside sees {NODE}\n"
        );
        assert_eq!(finished.output, expected, "{finished:?}");
    });
}

#[test]
fn finds_names() {
    const ASK: &str = "getent ahostsv4 any.example | head -1 | cut -d' ' -f1";
    as_a_user(&direct(), async |bench| {
        let script = format!("cat /etc/resolv.conf; {ASK}");
        let asks = container(&bench, 0, Network::Egress, &script);
        let finished = bench.run(&asks).await;
        let expected = format!("nameserver {SERVER}\n{SERVER}\n");
        assert_eq!(finished.output, expected, "{finished:?}");
    });
    // Where only the node can ask.
    as_a_user("nameserver 127.0.0.1\n", async |bench| {
        let gateway = "$(sed -n \"s/nameserver //p\" /etc/resolv.conf)";
        let script = format!("{ASK}; python3 -c '{TRY}' tcp {gateway} {TCP_PORT}");
        let asks = container(&bench, 1, Network::Egress, &script);
        let finished = bench.run(&asks).await;
        let mut lines = finished.output.lines();
        assert_eq!(
            lines.next(),
            Some(SERVER.to_string().as_str()),
            "{finished:?}"
        );
        assert!(lines.all(|line| line.ends_with(" cannot")), "{finished:?}");
    });
}

/// The keeper that is noted for a container.
fn keeper_note(bench: &Bench, container: &ContainerSpec) -> PathBuf {
    bench
        .place("state")
        .join(format!("{}.network", container.member))
}

fn keeper_of(bench: &Bench, container: &ContainerSpec) -> ProcessIdentity {
    let text = fs::read(keeper_note(bench, container)).expect("a note");
    serde_json::from_slice(&text).expect("an identity")
}

/// Children of a process, which are few here.
fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    let numbers = list.split_ascii_whitespace();
    numbers
        .map(|number| number.parse().expect("a number"))
        .collect()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    !state.is_empty() && !state.starts_with(" Z")
}

#[test]
fn has_no_network_when_its_carrier_or_keeper_is_gone() {
    as_a_user(&direct(), async |bench| {
        for (number, of_the_keeper) in [(0, false), (1, true)] {
            let script = format!(
                "for round in 1 2; do while ! test -e go$round; do sleep 0.02; done; \
                 python3 -c '{TRY}' tcp {SERVER} {TCP_PORT} tcp {NODE} {TCP_PORT}; done; \
                 ls /sys/class/net"
            );
            let living = container(&bench, number, Network::Egress, &script);
            bench.start(&living).await.expect("it starts");
            let go = |round: &str| {
                let path = living.directory.join("work").join(format!("go{round}"));
                fs::write(path, "").expect("written");
            };
            go("1");
            let tried_once = || output(&living, Stream::Stdout).lines().count() == 2;
            eventually("it tried", tried_once).await;
            let keeper = keeper_of(&bench, &living).pid;
            let pasta = children(keeper);
            assert_eq!(pasta.len(), 1, "{pasta:?}");
            kill(if of_the_keeper { keeper } else { pasta[0] });
            eventually("both are gone", || !is_alive(keeper) && !is_alive(pasta[0])).await;
            go("2");
            let finished = bench.finish(&living).await;
            let expected = format!(
                "tcp {SERVER} outside sees {NODE}\ntcp {NODE} cannot\ntcp {SERVER} cannot\n\
                 tcp {NODE} cannot\nlo\n"
            );
            assert_eq!(finished.output, expected, "{finished:?}");
            assert!(!keeper_note(&bench, &living).exists());
        }
        // One that is removed while it lives takes its keeper with it, also if nobody else asks.
        let living = container(&bench, 2, Network::Egress, "exec sleep 50");
        bench.start(&living).await.expect("it starts");
        let keeper = keeper_of(&bench, &living).pid;
        let pasta = children(keeper);
        bench.remove(&living).await;
        assert!(!is_alive(keeper) && !pasta.into_iter().any(is_alive));
        assert!(!keeper_note(&bench, &living).exists());
        assert_eq!(bench.sandbox.list().await.expect("listed"), []);
    });
}

#[test]
fn tries_addresses_that_come_later() {
    as_a_user(&direct(), async |bench| {
        let [followed, missed] = LATER;
        let script = format!(
            "while ! test -e go; do sleep 0.02; done; \
             python3 -c '{TRY}' tcp {followed} {TCP_PORT} tcp {missed} {TCP_PORT}"
        );
        let living = container(&bench, 0, Network::Egress, &script);
        bench.start(&living).await.expect("it starts");
        let go = living.directory.join("work/go");
        let keeper = keeper_of(&bench, &living).pid;
        println!("{TOLD}{keeper} {}", Path::new(&go).display());
        let record = living
            .directory
            .join("record")
            .join(guest_api::files::RECORD);
        eventually("it has ended", || record.exists()).await;
        let said = output(&living, Stream::Stdout);
        let expected = format!("tcp {followed} cannot\ntcp {missed} node sees {NODE}\n");
        assert_eq!(said, expected);
        bench.remove(&living).await;
    });
}

#[test]
fn gets_out_after_starts_that_failed() {
    as_a_user(&direct(), async |bench| {
        let home = std::env::var_os("HOME").expect("a home");
        let [fails, refuse] = ["fails", "refuse"].map(|name| Path::new(&home).join(name));
        let fail = |count: &str| fs::write(&fails, count).expect("written");
        let left = || fs::read_to_string(&fails).expect("told");
        // One answers once before it ends, the other never.
        fail("2");
        let fingerprint = bench.sandbox.fingerprint().await.expect("told");
        let row = format!("{:?}", fingerprint.capabilities["network.egress"]);
        assert_eq!((row.as_str(), left().as_str()), ("Yes", "0"));
        fail("1");
        let to_server = format!("tcp {SERVER} {TCP_PORT}");
        let script = format!("python3 -c '{TRY}' {to_server}; exec sleep 50");
        let living = container(&bench, 0, Network::Egress, &script);
        bench.start(&living).await.expect("it starts");
        assert_eq!(left(), "0");
        let carriers = children(keeper_of(&bench, &living).pid);
        assert_eq!(carriers.len(), 1, "what failed or was not needed is left");
        eventually("it tried", || {
            output(&living, Stream::Stdout).contains("outside sees")
        })
        .await;
        bench.remove(&living).await;
        // With all but one of those who wait given up for it.
        fail("0");
        fs::write(&refuse, "").expect("written");
        let finished = tried(&bench, 2, Network::Egress, &to_server).await;
        assert!(finished.output.contains("outside sees"), "{finished:?}");
        assert!(!refuse.exists());
        fail("3");
        let refused = container(&bench, 1, Network::Egress, "true");
        let error = bench.start(&refused).await.expect_err("refused");
        assert!(error.to_string().contains("out of luck"), "{error}");
        assert_eq!(left(), "0");
        bench.remove(&refused).await;
    });
}

#[test]
fn is_refused_without_the_device() {
    is_refused("chmod 0666 /dev/net/tun");
}

#[test]
fn is_refused_without_the_program() {
    is_refused("install the package passt");
}

fn is_refused(remedy: &str) {
    as_a_user(&direct(), async |bench| {
        let fingerprint = bench.sandbox.fingerprint().await.expect("told");
        let row = format!("{:?}", fingerprint.capabilities["network.egress"]);
        assert!(row.contains(remedy), "{row}");
        let refused = bench
            .start(&container(&bench, 0, Network::Egress, "true"))
            .await;
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains("network.egress"), "{error}");
    });
}
