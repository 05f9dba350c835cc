//! What a container can see and reach.

use super::bench::{Bench, ensure};
use super::{Plan, Verdict, Violation, Work};
use crate::container::UidRange;
use domain::Network;

pub(super) async fn network_none_has_only_loopback(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let Some(text) = shown(bench, "network.none", Work::ShowNetwork).await? else {
        return Ok(Verdict::NotSupported {
            row: "network.none",
        });
    };
    let devices: Vec<&str> = text.split_whitespace().collect();
    ensure("there is lo and no other", devices == ["lo"], &devices)?;
    Ok(Verdict::Passed)
}

pub(super) async fn network_host_is_the_nodes(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let row = "network.host";
    if !bench.has(row).await? {
        return Ok(Verdict::NotSupported { row });
    }
    let node = bench.harness.node_network();
    for (number, network) in [(0, Network::Host), (1, Network::None)] {
        if network == Network::None && !bench.has("network.none").await? {
            continue;
        }
        let plan = Plan {
            network,
            ..bench.plan(number, Work::NameNetwork)
        };
        let (container, _) = bench.run(&plan).await?;
        let name = bench.text(&container).await;
        let same = name.trim() == node;
        let seen = (network, name, &node);
        let expected = network == Network::Host;
        ensure("only `host` is the node's network", same == expected, &seen)?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn network_egress_has_a_device_of_its_own(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let row = "network.egress";
    if !bench.has(row).await? {
        return Ok(Verdict::NotSupported { row });
    }
    let plan = Plan {
        network: Network::Egress,
        ..bench.plan(0, Work::ShowNetwork)
    };
    let (container, _) = bench.run(&plan).await?;
    let text = bench.text(&container).await;
    let devices: Vec<&str> = text.split_whitespace().collect();
    let own = devices.len() == 2 && devices.contains(&"lo");
    ensure("there is lo and one other", own, &devices)?;
    Ok(Verdict::Passed)
}

pub(super) async fn the_root_cannot_be_written(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let Some(text) = shown(bench, "root.read-only", Work::ShowRoot).await? else {
        return Ok(Verdict::NotSupported {
            row: "root.read-only",
        });
    };
    let read_only = text.trim().split(',').any(|option| option == "ro");
    ensure("the root is mounted read-only", read_only, &text)?;
    Ok(Verdict::Passed)
}

pub(super) async fn user_ids_are_its_own(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    const ROW: &str = "identity.range";
    if !bench.has(ROW).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    let mut ranges = Vec::new();
    for number in 0..2 {
        let (container, _) = bench.run(&bench.plan(number, Work::ShowIdentity)).await?;
        let text = bench.text(&container).await;
        let map: Vec<u32> = text
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let expect = [0, container.uids.base, UidRange::LENGTH];
        ensure(
            "its ids are the range it was given",
            map == expect,
            &(text, expect),
        )?;
        ensure(
            "no user of the node is in it",
            container.uids.base >= UidRange::LENGTH,
            &map,
        )?;
        ranges.push(container.uids);
    }
    ensure(
        "two containers share no id",
        ranges[0] != ranges[1],
        &ranges,
    )?;
    Ok(Verdict::Passed)
}

pub(super) async fn system_calls_are_filtered(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let row = "system-calls.filtered";
    let Some(text) = shown(bench, row, Work::ShowFilter).await? else {
        return Ok(Verdict::NotSupported { row });
    };
    ensure("a filter is in force", text.trim() == "2", &text)?;
    Ok(Verdict::Passed)
}

/// What a container may have in `/dev`.
const HARMLESS: &[&str] = &["full", "null", "random", "tty", "urandom", "zero"];

pub(super) async fn only_harmless_devices_can_be_opened(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let row = "devices.filtered";
    let Some(text) = shown(bench, row, Work::OpenDevices).await? else {
        return Ok(Verdict::NotSupported { row });
    };
    let names: Vec<&str> = text.split_whitespace().collect();
    let all_harmless = names.iter().all(|name| HARMLESS.contains(name));
    ensure("there is no other device", all_harmless, &names)?;
    let usual = names.contains(&"null") && names.contains(&"zero");
    ensure("what programs rely on is there", usual, &names)?;
    Ok(Verdict::Passed)
}

/// What `work` writes under this engine, if it has the row.
async fn shown(bench: &Bench<'_>, row: &str, work: Work) -> Result<Option<String>, Violation> {
    if !bench.has(row).await? {
        return Ok(None);
    }
    let plan = Plan {
        read_only: true,
        ..bench.plan(0, work)
    };
    let (container, _) = bench.run(&plan).await?;
    Ok(Some(bench.text(&container).await))
}
