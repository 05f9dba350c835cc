//! `insula node`: the site's machines, and what operators order of them.

use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::{Printer, Tone};
use crate::table::{Cell, Table};
use crate::times;
use clap::{Args, Subcommand};
use domain::amounts::show_bytes;
use public_api::{DrainNode, DrainedView, NodeView, StopSession};

/// Most sessions that one line names.
const SHOWN_LIMIT: usize = 5;

/// Show the site's machines, and drain or remove them
///
/// A drained node is given nothing new; what runs there goes on. A removed one no longer belongs to
/// the site; if it comes back, it is drained until you take it back. For operators.
#[derive(Debug, Args)]
#[command(after_long_help = help(), arg_required_else_help = true)]
pub(crate) struct NodeArguments {
    #[command(subcommand)]
    act: Act,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// List them
    #[command(
        after_help = "Examples:\n  insula node ls\n  insula node ls --json | jq -r '.nodes[].name'"
    )]
    Ls,
    /// Show one: what it offers, what it can do, and what lives there
    #[command(after_help = "Examples:\n  insula node show gpu3\n  insula node show gpu3 --json")]
    Show {
        /// Name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Give it nothing new; what runs there goes on
    #[command(
        after_help = "Examples:\n  insula node drain gpu3 --reason 'a new disk'\n  \
        insula node drain gpu3 --stop --grace 1m"
    )]
    Drain {
        /// Name or id
        #[arg(value_name = "NODE")]
        node: String,
        /// Why; those whose sessions wait are told
        #[arg(
            short,
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        reason: String,
        /// Also end the sessions that live there
        #[arg(long)]
        stop: bool,
        /// With --stop: from the first signal to SIGKILL [default: 10s]
        #[arg(short, long, value_name = "DURATION", value_parser = arguments::span)]
        #[arg(requires = "stop")]
        grace: Option<String>,
    },
    /// Give it new sessions again
    #[command(after_help = "Example:\n  insula node undrain gpu3")]
    Undrain {
        /// Name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Take it out of the site
    ///
    /// Refused while its agent is connected, or while something may live there.
    #[command(after_help = "Examples:\n  insula node rm gpu3\n  insula node rm gpu3 --lost")]
    Rm {
        /// Name or id
        #[arg(value_name = "NODE")]
        node: String,
        /// Its machine is gone for ever: what it had is given up, and tried again where that was
        /// asked for. If that is not true, a session may run twice
        #[arg(long)]
        lost: bool,
    },
}

fn help() -> String {
    format!(
        "Examples:\n  insula node ls\n  insula node drain gpu3 --reason 'a new disk'\n  \
         insula node drain gpu3 --stop --grace 1m\n  insula node undrain gpu3\n  \
         insula node rm gpu3\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Lists them, or does what is ordered of one.
pub(crate) async fn node(context: Context, arguments: NodeArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let json = arguments.json;
    match arguments.act {
        Act::Ls => {
            let all = site.call(async |client| client.nodes().await).await?;
            list(&all, json, &printer)?;
        }
        Act::Show { node } => {
            let shown = site.call(async |client| client.node(&node).await).await?;
            show(&shown, json, &printer)?;
        }
        Act::Drain {
            node,
            reason,
            stop,
            grace,
        } => {
            let signal = None;
            let stop = stop.then_some(StopSession { signal, grace });
            let order = DrainNode { reason, stop };
            let call = async |client: &client::Client| client.drain_node(&node, &order).await;
            let shown = site.call(call).await?;
            tell(&shown, &left(&shown, order.stop.is_some()), json, &printer)?;
        }
        Act::Undrain { node } => {
            let shown = site
                .call(async |client| client.undrain_node(&node).await)
                .await?;
            tell(&shown, "it gets new sessions", json, &printer)?;
        }
        Act::Rm { node, lost } => {
            site.call(async |client| client.remove_node(&node, lost).await)
                .await?;
            if json {
                printer.json(&serde_json::json!({ "removed": node }))?;
            } else {
                printer.line(&format!("{node}: it no longer belongs to the site"))?;
            }
        }
    }
    Ok(exit_codes::SUCCESS)
}

fn list(all: &[NodeView], json: bool, printer: &Printer) -> Result<(), Failure> {
    if json {
        return printer.json(&serde_json::json!({ "nodes": all }));
    }
    if all.is_empty() {
        printer.note("no node has connected to this site yet");
        return Ok(());
    }
    for line in table(all).lines(printer) {
        printer.line(&line)?;
    }
    Ok(())
}

fn tell(node: &NodeView, what: &str, json: bool, printer: &Printer) -> Result<(), Failure> {
    if json {
        printer.json(node)
    } else {
        printer.line(&format!("{}: {what}", node.name))
    }
}

/// What a drain leaves on a node.
fn left(node: &NodeView, stops: bool) -> String {
    let what = match (node.sessions.is_empty(), stops) {
        (true, _) => return "it is drained, and no session lives there".to_owned(),
        (false, false) => "these go on",
        (false, true) => "these were asked to end",
    };
    format!("it is drained; {what}: {}", names(&node.sessions))
}

/// Names in one line, the first few of many.
fn names(all: &[String]) -> String {
    let shown = &all[..all.len().min(SHOWN_LIMIT)];
    match all.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `by ann since ...: a new disk`.
pub(crate) fn drained(drained: &DrainedView) -> String {
    let mut text = format!("by {} since {}", drained.by, times::local(&drained.since));
    if !drained.reason.is_empty() {
        text.push_str(&format!(": {}", drained.reason));
    }
    text
}

fn state(node: &NodeView) -> (&'static str, Tone) {
    match (node.connected, node.drained.is_some()) {
        (true, false) => ("connected", Tone::Plain),
        (true, true) => ("drained", Tone::Careful),
        (false, false) => ("not connected", Tone::Bad),
        (false, true) => ("drained, not connected", Tone::Bad),
    }
}

fn table(all: &[NodeView]) -> Table {
    let headings = ["NAME", "POOL", "STATE", "CPU", "MEMORY", "SESSIONS", "ID"];
    let mut table = Table::new(&headings, &[0]).dispensable(&[6, 1]);
    for node in all {
        let (word, tone) = state(node);
        let (used, offers) = (&node.used, &node.offers);
        table.push(vec![
            Cell::plain(&node.name),
            Cell::plain(&node.pool),
            Cell::toned(word, tone),
            Cell::plain(format!("{} of {}", used.cpu, offers.cpu)),
            Cell::plain(memory(node)),
            Cell::plain(node.sessions.len().to_string()),
            Cell::plain(&node.id),
        ]);
    }
    table
}

fn memory(node: &NodeView) -> String {
    let bytes = |resources: &public_api::ResourcesView| show_bytes(resources.memory_bytes.into());
    format!("{} of {}", bytes(&node.used), bytes(&node.offers))
}

fn show(node: &NodeView, json: bool, printer: &Printer) -> Result<(), Failure> {
    if json {
        return printer.json(node);
    }
    for (key, value) in facts(node) {
        printer.line(&format!("{key:<10}{value}"))?;
    }
    Ok(())
}

fn facts(node: &NodeView) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("name", node.name.clone()),
        ("id", node.id.clone()),
        ("pool", node.pool.clone()),
        ("state", state(node).0.to_owned()),
    ];
    facts.extend(node.drained.iter().map(|order| ("drained", drained(order))));
    let (used, offers) = (&node.used, &node.offers);
    facts.push(("cpu", format!("{} of {} given", used.cpu, offers.cpu)));
    facts.push(("memory", format!("{} given", memory(node))));
    if !node.sessions.is_empty() {
        facts.push(("sessions", node.sessions.join(", ")));
    }
    if !node.unclaimed.is_empty() {
        facts.push(("unclaimed", node.unclaimed.join(", ")));
    }
    let rows = |has| {
        let rows = node.capabilities.iter().filter(move |row| row.has == has);
        let names: Vec<&str> = rows.map(|row| row.name.as_str()).collect();
        names.join(", ")
    };
    for (key, text) in [("can", rows(true)), ("cannot", rows(false))] {
        if !text.is_empty() {
            facts.push((key, text));
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::{facts, left, names};
    use public_api::{DrainedView, NodeView, ResourcesView};

    fn node() -> NodeView {
        let resources = |cpu: &str, memory_bytes| ResourcesView {
            cpu: cpu.to_owned(),
            memory_bytes,
            pids: 0,
            disk_bytes: None,
        };
        NodeView {
            id: "n1".to_owned(),
            name: "gpu3".to_owned(),
            pool: "default".to_owned(),
            connected: true,
            offers: resources("8", 16 << 30),
            used: resources("2", 1 << 30),
            capabilities: Vec::new(),
            unclaimed: Vec::new(),
            drained: None,
            sessions: vec!["train".to_owned(), "eval".to_owned()],
        }
    }

    #[test]
    fn a_drain_tells_what_it_leaves() {
        let mut node = node();
        assert_eq!(
            left(&node, false),
            "it is drained; these go on: train, eval"
        );
        assert_eq!(
            left(&node, true),
            "it is drained; these were asked to end: train, eval"
        );
        node.sessions.clear();
        assert_eq!(
            left(&node, true),
            "it is drained, and no session lives there"
        );
        let many: Vec<String> = (0..7).map(|number| number.to_string()).collect();
        assert_eq!(names(&many), "0, 1, 2, 3, 4 and 2 more");
    }

    #[test]
    fn a_node_is_shown_with_its_drain() {
        let mut node = node();
        node.drained = Some(DrainedView {
            by: "ann".to_owned(),
            since: "2026-11-21T12:00:00Z".to_owned(),
            reason: "a new disk".to_owned(),
        });
        let facts = facts(&node);
        let fact = |key| facts.iter().find(|(known, _)| *known == key);
        assert_eq!(fact("state").expect("shown").1, "drained");
        let drained = &fact("drained").expect("shown").1;
        assert!(drained.starts_with("by ann since ") && drained.ends_with(": a new disk"));
        assert_eq!(fact("cpu").expect("shown").1, "2 of 8 given");
        assert_eq!(fact("can"), None, "nothing is said of nothing");
    }
}
