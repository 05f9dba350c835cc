//! What a run has left on the disk, looked at by a store that was opened anew.

use crate::placements::work::Work;
use anyhow::{Context as _, Result, ensure};
use database::{EventScope, OpenOptions, SqliteStore, Store};
use domain::{NodeId, SessionState, SiteId, SlotName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Events of one page.
const PAGE: u32 = 1_000;

/// Every session is there and placed with all its members, with an event for its creation and one
/// for its placement, and no node has been given more than it offers.
pub fn check(path: &Path, work: Work) -> Result<()> {
    let options = OpenOptions {
        new_site: SiteId(2),
        reserve_bytes: 0,
        now: Timestamp(0),
    };
    let mut store = SqliteStore::open(path, options)?;
    let loaded = store.load(Timestamp(0), Timestamp(0))?;
    let asked: BTreeSet<_> = work.requests().map(|request| request.id).collect();
    let found: BTreeSet<_> = loaded.sessions.iter().map(|record| record.id).collect();
    ensure!(
        asked == found,
        "{} of {} are there",
        found.len(),
        asked.len()
    );
    let mut used: BTreeMap<(NodeId, &SlotName), u128> = BTreeMap::new();
    for record in &loaded.sessions {
        let members = u32::try_from(record.members.len());
        ensure!(
            record.state == SessionState::Placed && members == Ok(record.spec.members),
            "session {} is {} with {} members",
            record.id,
            record.state.word(),
            record.members.len()
        );
        for member in &record.members {
            for (slot, amount) in &record.spec.slots.0 {
                *used.entry((member.node, slot)).or_default() += u128::from(*amount);
            }
        }
    }
    let nodes: BTreeMap<_, _> = loaded.nodes.iter().map(|node| (node.id, node)).collect();
    for ((node, slot), amount) in used {
        let record = nodes.get(&node).context("a member is on an unknown node")?;
        let offered = u128::from(record.offers.get(slot));
        ensure!(amount <= offered, "node {node} gives {amount} of {slot}");
    }
    check_events(&mut store, work)
}

fn check_events(store: &mut SqliteStore, work: Work) -> Result<()> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = store.events(EventScope::All, after, PAGE)?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.number;
        for event in page {
            *counts.entry(event.code).or_default() += 1;
        }
    }
    for code in ["session.created", "session.placed"] {
        let count = counts.get(code).copied().unwrap_or(0);
        ensure!(count == work.sessions, "{count} events say {code}");
    }
    Ok(())
}
