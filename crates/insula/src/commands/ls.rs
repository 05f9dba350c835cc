//! `insula ls`: sessions as a table.

use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::{Printer, Tone};
use crate::table::{Cell, Table};
use crate::times::age;
use clap::Args;
use domain::amounts::show_bytes;
use jiff::Timestamp;
use public_api::{ListQuery, PAGE_LIMIT, SessionView};

/// Most sessions that are listed.
const LISTED_LIMIT: usize = 10_000;
/// Most waiting sessions whose reason is asked for.
const REASONS_LIMIT: usize = 20;

/// List sessions
///
/// Those that wait, start, run or stop, the newest first; with --all also those that ended.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct LsArguments {
    /// Ended sessions too
    #[arg(short, long)]
    all: bool,
    /// Only sessions of this name
    #[arg(long)]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula ls --all\n  insula ls --json | jq '.sessions[].name'\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Lists sessions.
pub(crate) async fn ls(context: Context, arguments: LsArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let sessions = all_pages(&site, &arguments).await?;
    if arguments.json {
        printer.json(&serde_json::json!({ "sessions": sessions }))?;
        return Ok(exit_codes::SUCCESS);
    }
    if sessions.is_empty() {
        let hint = if arguments.all {
            ""
        } else {
            "; `insula ls --all` lists those that ended too"
        };
        printer.note(&format!("no sessions{hint}"));
        return Ok(exit_codes::SUCCESS);
    }
    let reasons = reasons(&site, &sessions).await;
    print_table(&printer, &sessions, &reasons, Timestamp::now())?;
    Ok(exit_codes::SUCCESS)
}

async fn all_pages(site: &Site, arguments: &LsArguments) -> Result<Vec<SessionView>, Failure> {
    let mut sessions = Vec::new();
    let mut query = ListQuery {
        all: arguments.all,
        name: arguments.name.clone(),
        cursor: None,
        limit: Some(PAGE_LIMIT),
        ..ListQuery::default()
    };
    loop {
        let page = site.call(async |client| client.list(&query).await).await?;
        sessions.extend(page.sessions);
        if page.next_cursor.is_none() || sessions.len() >= LISTED_LIMIT {
            return Ok(sessions);
        }
        query.cursor = page.next_cursor;
    }
}

/// Why the first of those that wait do so; the others are left without a reason.
async fn reasons(site: &Site, sessions: &[SessionView]) -> Vec<(String, String)> {
    let waiting = sessions.iter().filter(|session| session.state == "pending");
    let asked = waiting.take(REASONS_LIMIT).map(|session| async {
        let why = site.client().why(&session.id).await.ok()?;
        Some((session.id.clone(), why.summary))
    });
    futures::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect()
}

fn print_table(
    printer: &Printer,
    sessions: &[SessionView],
    reasons: &[(String, String)],
    now: Timestamp,
) -> Result<(), Failure> {
    for line in table(sessions, reasons, now).lines(printer) {
        printer.line(&line)?;
    }
    Ok(())
}

fn table(sessions: &[SessionView], reasons: &[(String, String)], now: Timestamp) -> Table {
    let headings = ["NAME", "STATE", "WHY", "CPU", "MEMORY", "AGE", "COMMAND"];
    let mut table = Table::new(&headings, &[6, 2, 0]).dispensable(&[2, 4, 5]);
    for session in sessions {
        let waits = reasons
            .iter()
            .find(|(id, _)| *id == session.id)
            .map(|(_, why)| why.as_str());
        let ended = session
            .outcome
            .as_ref()
            .map(|outcome| outcome.reason.as_str());
        table.push(vec![
            Cell::toned(&session.name, Tone::Strong),
            Cell::toned(state_word(session), tone(session)),
            Cell::plain(ended.or(waits).unwrap_or("")),
            Cell::plain(&session.resources.cpu),
            Cell::plain(show_bytes(session.resources.memory_bytes.into())),
            Cell::plain(age(&session.created_at, now)),
            Cell::toned(session.command.join(" "), Tone::Faint),
        ]);
    }
    table
}

/// The state; for an ended session its outcome.
pub(crate) fn state_word(session: &SessionView) -> &str {
    match &session.outcome {
        _ if session.removing => "removing",
        Some(outcome) => &outcome.outcome,
        None => &session.state,
    }
}

/// How a state is to be seen.
pub(crate) fn tone(session: &SessionView) -> Tone {
    match state_word(session) {
        "running" | "succeeded" => Tone::Good,
        "failed" | "lost" | "expired" => Tone::Bad,
        "pending" | "stopping" | "removing" => Tone::Careful,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::printer::Printer;
    use clap::ColorChoice;
    use public_api::SessionView;

    fn session(change: serde_json::Value) -> SessionView {
        let mut json = serde_json::json!({
            "id": "0000000000001", "name": "train", "kind": "batch", "domain": "d", "project": "p",
            "user": "u", "state": "running", "image": "host", "command": ["python3", "train.py"],
            "workdir": "/work", "resources": {"cpu": "0.5", "memory_bytes": 536_870_912, "pids": 9},
            "network": "host", "mounts": [], "merge": false, "stdin": false, "attempt": 1,
            "members": [], "created_at": "2026-11-21T11:50:00Z",
        });
        let (all, changed) = (json.as_object_mut(), change.as_object());
        all.expect("an object")
            .extend(changed.expect("an object").clone());
        serde_json::from_value(json).expect("a session")
    }

    #[test]
    fn sessions_line_up() {
        let now = "2026-11-21T12:00:00Z".parse().expect("an instant");
        let outcome = serde_json::json!({
            "outcome": "failed", "cause": "exit_code", "exit_code": 3,
            "reason": "the command exited with 3",
        });
        let sessions = [
            session(serde_json::json!({})),
            session(
                serde_json::json!({"id": "0000000000002", "name": "waits", "state": "pending"}),
            ),
            session(serde_json::json!({"name": "gone", "state": "ended", "outcome": outcome})),
        ];
        let reasons = [(
            "0000000000002".to_owned(),
            "0.5 of 2 cpu are free".to_owned(),
        )];
        let printer = Printer::new(ColorChoice::Never, true, false);
        let lines = table(&sessions, &reasons, now).lines(&printer);
        insta::assert_snapshot!(lines.join("\n"), @r"
        NAME   STATE    WHY                        CPU  MEMORY   AGE  COMMAND
        train  running                             0.5  512 MiB  10m  python3 train.py
        waits  pending  0.5 of 2 cpu are free      0.5  512 MiB  10m  python3 train.py
        gone   failed   the command exited with 3  0.5  512 MiB  10m  python3 train.py
        ");
    }
}
