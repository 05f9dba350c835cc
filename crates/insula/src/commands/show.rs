//! `insula show`: everything about a session, or an array.

mod array;

use super::ls::{state_word, tone};
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::printer::{Printer, Tone, printable};
use crate::stalls;
use crate::times::local;
use clap::Args;
use domain::Span;
use domain::amounts::show_bytes;
use public_api::{
    AfterNeed, AfterView, AttemptView, MountView, NetworkView, PausedView, SessionView,
    USUAL_PRIORITY, UsageView,
};
use sandbox::{NetworkTrouble, network_troubles};

/// Show everything about a session or an array
///
/// Of an array also the table of its elements with their outcomes.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct ShowArguments {
    /// Name or id of a session, an element (NAME.7) or an array
    session: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula show train\n  insula show train --json | jq .outcome.exit_code\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Shows a session.
pub(crate) async fn show(context: Context, arguments: ShowArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let name = arguments.session.as_str();
    let view = match Named::find(&site, name).await? {
        Named::Session(view) => *view,
        Named::Array(view) => return array::show(&site, &view, arguments.json).await,
    };
    if arguments.json {
        printer.json(&view)?;
        return Ok(exit_codes::SUCCESS);
    }
    // What it uses is known only while it runs; without it the rest is still worth showing.
    let usage = match view.state.as_str() {
        "running" | "stopping" => site.client().usage(&view.id).await.ok(),
        _ => None,
    };
    for (label, value) in rows(&view, usage.as_ref()) {
        let tone = if label == "state" {
            tone(&view)
        } else {
            Tone::Plain
        };
        print_row(&printer, label, &value, tone)?;
    }
    for lost in lost_networks(&site, &view) {
        print_row(&printer, "network gone", &lost, Tone::Bad)?;
    }
    Ok(exit_codes::SUCCESS)
}

/// Why members have no network any more that had `egress`, as notes of this node tell.
fn lost_networks(site: &Site, view: &SessionView) -> Vec<String> {
    let troubles = network_troubles(&site.settings.engine_directory());
    let lost = troubles.into_iter().filter_map(|trouble| match trouble {
        NetworkTrouble::Gone { member, reason } => {
            let id = member.to_string();
            let own = view.members.iter().any(|one| one.id == id);
            own.then(|| format!("{reason}; it does not come back"))
        }
        NetworkTrouble::Mended { .. } | NetworkTrouble::NotMended { .. } => None,
    });
    lost.collect()
}

fn print_row(printer: &Printer, label: &str, value: &str, tone: Tone) -> Result<(), Failure> {
    let label = printer.paint(Tone::Strong, &format!("{label:<14}"));
    printer.line(&format!(
        "{label}{}",
        printer.paint(tone, &printable(value))
    ))
}

fn rows(view: &SessionView, usage: Option<&UsageView>) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("name", view.name.clone()),
        ("id", view.id.clone()),
        ("state", state_word(view).to_owned()),
    ];
    if let Some(outcome) = &view.outcome {
        rows.push((
            "outcome",
            format!("{} (exit code {})", outcome.reason, outcome.exit_code),
        ));
    }
    rows.extend(
        view.paused
            .iter()
            .map(|paused| ("paused", paused_text(paused))),
    );
    rows.push(("command", words(&view.command)));
    rows.push(("image", image_text(view)));
    rows.push(("user inside", view.run_as.clone()));
    rows.push(("workdir", view.workdir.clone()));
    let memory = show_bytes(view.resources.memory_bytes.into());
    let (cpu, pids) = (&view.resources.cpu, view.resources.pids);
    let mut limits = format!("cpu {cpu}, memory {memory}, processes {pids}");
    if let Some(disk) = view.resources.disk_bytes {
        limits += &disk_text(disk, view.disk_measured);
    }
    rows.push(("limits", limits));
    if !view.not_enforced.is_empty() {
        let rows_lacked = limit_words(&view.not_enforced);
        let text = format!("{rows_lacked} (`insula doctor` says why)");
        rows.push(("not enforced", text));
    }
    rows.extend(priority_row(view.priority));
    if let Some(limit) = view.time_limit_ms {
        rows.push(("time limit", Span(limit).to_string()));
    }
    if let Some(usage) = usage {
        rows.push(("uses", usage_text(usage)));
    }
    let network = match view.network {
        NetworkView::None => "none",
        NetworkView::Host => "host",
        NetworkView::Egress => "egress",
    };
    rows.push(("network", network.to_owned()));
    rows.extend(view.mounts.iter().map(|mount| ("mount", mount_text(mount))));
    let owner = format!(
        "{} (project {}, domain {})",
        view.user, view.project, view.domain
    );
    rows.push(("owner", owner));
    for member in &view.members {
        rows.push((
            "member",
            format!("{} on {}: {}", member.id, member.node, member.state),
        ));
    }
    rows.extend(view.after.iter().map(|after| ("after", after_text(after))));
    rows.push(("attempt", attempt_text(view)));
    if view.retry > 0 {
        let tried = view.attempts.iter();
        rows.extend(tried.map(|tried| ("", tried_text(tried))));
    }
    rows.push(("created", local(&view.created_at)));
    rows.extend(view.started_at.iter().map(|time| ("started", local(time))));
    rows.extend(view.ended_at.iter().map(|time| ("ended", local(time))));
    rows
}

/// A priority that somebody asked for.
fn priority_row(priority: u32) -> Option<(&'static str, String)> {
    (priority != USUAL_PRIORITY).then(|| ("priority", priority.to_string()))
}

/// Who asked for a pause, since when, and whether it is so.
fn paused_text(paused: &PausedView) -> String {
    let text = format!("by {} since {}", paused.by, local(&paused.since));
    match &paused.problem {
        _ if paused.in_force => text,
        Some(problem) => format!("{text}, but it could not be yet: {problem}"),
        None => format!("{text}, which its node has not told yet"),
    }
}

/// Rows of limits in the words that people have for them: `cpu, memory and processes`.
pub(crate) fn limit_words(rows: &[String]) -> String {
    let words: Vec<&str> = rows
        .iter()
        .map(|row| match row.as_str() {
            "limit.pids" => "processes",
            row => row.strip_prefix("limit.").unwrap_or(row),
        })
        .collect();
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        Some((only, _)) => (*only).to_owned(),
        None => String::new(),
    }
}

/// The disk limit and what keeps it.
fn disk_text(bytes: u64, measured: bool) -> String {
    let form = if measured {
        "measured"
    } else {
        "a file system of its own"
    };
    format!(", disk {} ({form})", show_bytes(bytes.into()))
}

fn usage_text(usage: &UsageView) -> String {
    let mut text = format!(
        "cpu {} so far, memory {} (peak {}), processes {}",
        Span(usage.cpu_micros / 1_000),
        show_bytes(usage.memory_bytes.into()),
        show_bytes(usage.memory_peak_bytes.into()),
        usage.pids,
    );
    if let Some(disk) = usage.disk_bytes {
        text += &format!(", disk {}", show_bytes(disk.into()));
    }
    if let Some(waits) = usage.pressure.and_then(stalls::all) {
        text += &format!(", waits {waits}");
    }
    if usage.out_of_memory_kills > 0 {
        text += &format!(", out-of-memory kills {}", usage.out_of_memory_kills);
    }
    text
}

fn attempt_text(view: &SessionView) -> String {
    if view.retry == 0 {
        return view.attempt.to_string();
    }
    let mut text = format!("{} of at most {}", view.attempt, view.retry + 1);
    if let Some(at) = &view.retry_at {
        text += &format!(", the next not before {}", local(at));
    }
    text
}

fn tried_text(tried: &AttemptView) -> String {
    let outcome = tried.outcome.as_ref();
    let outcome = outcome.map_or("it goes on", |outcome| outcome.reason.as_str());
    format!("{} on {}: {outcome}", tried.attempt, tried.node)
}

fn after_text(after: &AfterView) -> String {
    let need = match after.need {
        AfterNeed::Succeeded => "has to succeed",
        AfterNeed::Ended => "has to end",
    };
    format!("{} {need}: {}", after.name, after.state)
}

/// The image as it was asked for, and which one that was.
fn image_text(view: &SessionView) -> String {
    match &view.image_id {
        Some(id) => format!("{} ({})", view.image, super::image::short(id)),
        None => view.image.clone(),
    }
}

fn mount_text(mount: &MountView) -> String {
    let mode = if mount.read_only { " (read-only)" } else { "" };
    format!("{} at {}{mode}", mount.source, mount.target)
}

/// Words as one would type them.
fn words(command: &[String]) -> String {
    let quoted = command.iter().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{limit_words, words};

    #[test]
    fn limits_are_told_in_words() {
        let rows = ["limit.cpu", "limit.memory", "limit.pids"].map(str::to_owned);
        assert_eq!(limit_words(&rows), "cpu, memory and processes");
        assert_eq!(limit_words(&rows[2..]), "processes");
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        let command = ["sh", "-c", "echo 'a b'", "", "x=1"].map(str::to_owned);
        assert_eq!(words(&command), r"sh -c 'echo '\''a b'\''' '' x=1");
    }
}
