//! Several sites on one node: what one takes back, another one may need.

use super::super::bench::{Bench, eventually, output};
use super::super::outside::{SERVER, TCP_PORT};
use super::{TRY, container, nobody_looks, on_a_node, traces};
use domain::Network;
use engine_api::{ContainerSpec, Engine as _};
use guest_api::Stream;
use std::fs;

fn forwarding() -> String {
    let path = "/proc/sys/net/ipv4/conf/uplink/forwarding";
    fs::read_to_string(path).expect("read").trim().to_owned()
}

/// A container that tries each time it is told to.
async fn trying(bench: &Bench, number: u32) -> ContainerSpec {
    let script = format!(
        "for round in 1 2; do while ! test -e go$round; do sleep 0.02; done; \
         python3 -c '{TRY}' tcp {SERVER} {TCP_PORT}; done"
    );
    let living = container(bench, number, Network::Egress, &script);
    bench.start(&living).await.expect("it starts");
    living
}

async fn reaches(living: &ContainerSpec, round: usize) {
    fs::write(living.directory.join(format!("work/go{round}")), "").expect("written");
    let lines = || output(living, Stream::Stdout).lines().count();
    eventually("it tried", || lines() == round).await;
    let told = output(living, Stream::Stdout);
    assert_eq!(told.matches("outside sees").count(), round, "{told}");
}

async fn end(bench: &Bench, living: &ContainerSpec) {
    bench
        .sandbox
        .signal(living.member, 9)
        .await
        .expect("killed");
    bench.finish_without_record(living).await;
    bench.remove(living).await;
    bench.sandbox.close();
}

/// Nobody looks after what is switched off, so it stays so: each site is alike to one whose daemon
/// was killed.
#[test]
fn the_site_that_goes_first_leaves_what_the_other_needs() {
    for first_goes_first in [true, false] {
        on_a_node(nobody_looks, async |first| {
            let resolvers = first.place("resolv.conf");
            fs::write(&resolvers, format!("nameserver {SERVER}\n")).expect("written");
            let second = Bench::of_another_site(nobody_looks(resolvers));
            let (one, other) = (trying(&first, 0).await, trying(&second, 1).await);
            assert_eq!(forwarding(), "1");
            for living in [&one, &other] {
                reaches(living, 1).await;
            }
            let (mut order, mut rest) = ((&first, &one), (&second, &other));
            if !first_goes_first {
                std::mem::swap(&mut order, &mut rest);
            }
            end(order.0, order.1).await;
            assert_eq!(forwarding(), "1", "the other site needs it");
            reaches(rest.1, 2).await;
            end(rest.0, rest.1).await;
            assert_eq!((forwarding().as_str(), traces().as_str()), ("0", ""));
        });
    }
}
