//! What the daemon, its nodes and their engines say.

use super::Check;
use crate::daemon::{Site, read_aborts, refuse_after_aborts};
use crate::settings::Settings;
use domain::amounts::show_bytes;
use public_api::{NodeView, SiteView};

/// Most failures of the daemon that are shown.
const ABORTS_SHOWN: usize = 5;

/// Looks at a site that answers.
pub(super) async fn checks(site: &Site, view: &SiteView) -> Vec<Check> {
    let mut checks = vec![daemon(site, view)];
    checks.push(Check::ok("log", view.log_file.clone()));
    let address = view.address.clone().unwrap_or_else(|| "off".to_owned());
    checks.push(Check::ok("address", address));
    checks.push(Check::ok(
        "sessions",
        format!("{} living", view.living_sessions),
    ));
    for reason in &view.refused_nodes {
        let remedy = "put back the site.db that the node knows; or, to give up what runs there, \
                      take the site down and remove node/obeyed in its home";
        checks.push(Check::fail("refused node", reason.clone(), remedy));
    }
    match site.client().nodes().await {
        Ok(nodes) => checks.extend(nodes.iter().flat_map(node)),
        Err(error) => {
            checks.push(Check::fail(
                "nodes",
                error.to_string(),
                format!("see {}", view.log_file),
            ));
        }
    }
    checks
}

fn daemon(site: &Site, view: &SiteView) -> Check {
    let found = format!("process {}, version {}", view.pid, view.build.version);
    let ours = &site.settings.build;
    if view.build.id == ours.id {
        return Check::ok("daemon", found);
    }
    let (age, remedy) = if view.build.made_at <= ours.made_at {
        ("older", "the next command replaces it; sessions run on")
    } else {
        ("newer", "use the newer executable")
    };
    Check::warn(
        "daemon",
        format!("{found}, of an {age} build").replace("an newer", "a newer"),
        remedy,
    )
}

fn node(node: &NodeView) -> Vec<Check> {
    let name = format!("node {}", node.name);
    let (offers, used) = (&node.offers, &node.used);
    let amounts = format!(
        "cpu {} of {} used, memory {} of {}",
        used.cpu,
        offers.cpu,
        show_bytes(used.memory_bytes.into()),
        show_bytes(offers.memory_bytes.into()),
    );
    let mut checks = vec![if node.connected {
        Check::ok(&name, amounts)
    } else {
        Check::fail(
            &name,
            "its agent is not connected",
            "wait a moment; see the site's log",
        )
    }];
    if let Some(drained) = &node.drained {
        let remedy = format!("`insula node undrain {}` takes it back", node.name);
        checks.push(Check::warn(
            "  drained",
            crate::commands::node::drained(drained),
            remedy,
        ));
    }
    let has: Vec<&str> = node
        .capabilities
        .iter()
        .filter(|row| row.has)
        .map(|row| row.name.as_str())
        .collect();
    if !has.is_empty() {
        checks.push(Check::ok("  can", has.join(", ")));
    }
    for (reason, rows) in lacks(node) {
        checks.push(Check::warn("  cannot", rows.join(", "), reason));
    }
    for member in &node.unclaimed {
        let remedy =
            "no session claims it: it runs on for a day; `insula unclaimed` lists and ends them";
        checks.push(Check::warn("  unclaimed", member.clone(), remedy));
    }
    checks
}

/// What its engine does not have: each reason once, in the order of the rows, with its rows.
fn lacks(node: &NodeView) -> Vec<(String, Vec<&str>)> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for row in node.capabilities.iter().filter(|row| !row.has) {
        let reason = row.reason.as_deref();
        let reason = reason.unwrap_or("this engine does not have it");
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, rows)) => rows.push(&row.name),
            None => reasons.push((reason.to_owned(), vec![&row.name])),
        }
    }
    reasons
}

/// No daemon runs: whether the next command will start one.
pub(super) fn down(settings: &Settings) -> Check {
    match refuse_after_aborts(settings) {
        Ok(()) => Check::ok("daemon", "none runs; the next command starts it"),
        Err(failure) => {
            let remedy = "mend what failed, then `insula up` tries again";
            Check::fail("daemon", format!("{:#}", failure.error), remedy)
        }
    }
}

/// The last failures of the daemon, with the whole chain of each.
pub(super) fn aborts(settings: &Settings) -> Vec<Check> {
    let aborts = read_aborts(settings);
    let shown = &aborts[aborts.len().saturating_sub(ABORTS_SHOWN)..];
    let remedy = format!(
        "its log is {}; `insula up` tries again",
        settings.log_file().display()
    );
    shown
        .iter()
        .map(|abort| {
            let at = jiff::Timestamp::from_second(abort.at).map_or_else(
                |_| abort.at.to_string(),
                |at| crate::times::local(&at.to_string()),
            );
            let found = format!("{at}, process {}: {}", abort.pid, abort.chain.join(": "));
            Check::warn("daemon failed", found, remedy.clone())
        })
        .collect()
}
