//! What the node's neighbours can do while a container has the network `egress`: no more than
//! before. Each control is the same with the rules taken away.

use super::super::bench::{eventually, output};
use super::super::outside::{Neighbour, nft, serve_names};
use super::{both, container, nobody_looks, on_a_node, table, tried};
use domain::Network;
use guest_api::Stream;
use std::fs;
use std::net::Ipv4Addr;

fn forwarding(device: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{device}/forwarding")
}

/// The node's `lan` did not forward, so it does not become a way to what is behind other devices:
/// neither one that forwarded before nor one that came later, nor another site's containers.
#[test]
fn the_node_is_no_router_for_its_neighbours() {
    on_a_node(nobody_looks, async |bench| {
        let switch_on = |device| fs::write(forwarding(device), "1").expect("written");
        let lan = Neighbour::new("lan", 66);
        let behind = Neighbour::new("behind", 77);
        switch_on("behind");
        assert!(!lan.reaches(behind.address), "it did not forward");
        let living = container(&bench, 0, Network::Egress, "exec sleep 100");
        bench.start(&living).await.expect("it starts");
        let later = Neighbour::new("later", 88);
        switch_on("later");
        let other_site = Neighbour::new("insffffff0", 99);
        switch_on("insffffff0");
        let forwards = fs::read_to_string(forwarding("lan")).expect("read");
        assert_eq!(forwards.trim(), "1", "a container needs it");
        for neighbour in [&behind, &later, &other_site] {
            assert!(!lan.reaches(neighbour.address), "{}", neighbour.address);
        }
        // Answers pass: to the other site's containers, and to ours.
        assert!(other_site.reaches(lan.address));
        let words = both(lan.address);
        let finished = tried(&bench, 1, Network::Egress, &words).await;
        assert_eq!(finished.output.matches("neighbour sees").count(), 2);
        nft(&format!("flush chain {} onward", table()));
        for neighbour in [&behind, &later, &other_site] {
            assert!(lan.reaches(neighbour.address), "{}", neighbour.address);
        }
        bench.remove(&living).await;
    });
}

/// The kernel takes what is sent to any of the node's addresses, on whichever device it comes in.
#[test]
fn names_are_looked_up_for_containers_and_for_nobody_else() {
    let loopback = |resolvers: std::path::PathBuf| {
        fs::write(&resolvers, "nameserver 127.0.0.1\n").expect("written");
        nobody_looks(resolvers)
    };
    on_a_node(loopback, async |bench| {
        serve_names((Ipv4Addr::LOCALHOST, 53).into());
        let lan = Neighbour::new("lan", 66);
        let script = "getent ahostsv4 any.example > /dev/null || exit 1; \
            sed -n 's/nameserver //p' /etc/resolv.conf; exec sleep 100";
        let living = container(&bench, 0, Network::Egress, script);
        bench.start(&living).await.expect("it starts");
        let told = || output(&living, Stream::Stdout);
        eventually("names are found inside", || told().ends_with('\n')).await;
        let gateway = told().trim().parse().expect("an address");
        assert!(!lan.finds_names(gateway));
        nft(&format!("flush chain {} node", table()));
        assert!(lan.finds_names(gateway), "the control");
        bench.remove(&living).await;
    });
}
