//! How many connections a container may have, and addresses that the node gets while it lives.

use super::super::bench::{eventually, output};
use super::super::outside::{SERVER, TCP_PORT, UDP_PORT, ip};
use super::{TRY, both, container, nobody_looks, on_a_node, settings, tried};
use domain::Network;
use guest_api::Stream;
use sandbox::EgressSettings;
use std::fs;
use std::net::Ipv4Addr;

/// Connections that are tried; all of them stay, and each is answered once.
const TRIED: usize = 40;
const ALLOWED: u32 = 25;
const HOLD: &str = r#"
import socket, sys
held = []
for number in range(int(sys.argv[3])):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(5)
    one.connect((sys.argv[1], int(sys.argv[2])))
    try:
        one.send(b"?")
        one.recv(100)
        held.append(one)
    except OSError:
        pass
print(len(held))
"#;
const LATER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 201);

/// The node has one table of connections for all. The control is with more allowed.
#[test]
fn one_container_has_no_more_connections_than_it_may() {
    for (connections, expected) in [(ALLOWED, 25), (1_000, TRIED)] {
        let limited = |resolvers| EgressSettings {
            connections,
            ..settings(resolvers)
        };
        on_a_node(limited, async |bench| {
            let script = format!("python3 -c '{HOLD}' {SERVER} {UDP_PORT} {TRIED}");
            let holder = container(&bench, 0, Network::Egress, &script);
            let finished = bench.run(&holder).await;
            assert_eq!(finished.output, format!("{expected}\n"), "{finished:?}");
            // Another one has its own.
            let finished = tried(&bench, 1, Network::Egress, &both(SERVER)).await;
            assert_eq!(finished.output.matches("outside sees").count(), 2);
        });
    }
}

/// An address that came while a container lives is the node's like any other. The control is the
/// same try without a network of its own.
#[test]
fn addresses_that_the_node_gets_later_cannot_be_reached() {
    on_a_node(nobody_looks, async |bench| {
        let script = format!(
            "echo ready; while ! test -e go; do sleep 0.02; done; \
             python3 -c '{TRY}' tcp {LATER} {TCP_PORT} udp {LATER} {UDP_PORT}"
        );
        let living = [Network::Egress, Network::Host].map(|network| {
            let number = u32::from(network == Network::Host);
            container(&bench, number, network, &script)
        });
        for one in &living {
            bench.start(one).await.expect("it starts");
            let told = || output(one, Stream::Stdout).contains("ready");
            eventually("it runs", told).await;
        }
        ip(&format!("addr add {LATER}/32 dev lo"));
        for (one, word) in living.iter().zip([" cannot", " node sees "]) {
            fs::write(one.directory.join("work/go"), "").expect("written");
            let finished = bench.finish(one).await;
            assert_eq!(finished.output.matches(word).count(), 2, "{finished:?}");
        }
    });
}
