//! `insula ls`: sessions as a table, an array as one line of it.

use crate::cli::Context;
use crate::daemon::Site;
use crate::elements::{self, counts, ended};
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::printer::Tone;
use crate::table::{Cell, Table};
use crate::times::age;
use clap::Args;
use domain::amounts::show_bytes;
use jiff::Timestamp;
use public_api::{ArrayView, ListQuery, PAGE_LIMIT, PausedView, SessionView};

/// Most sessions that are listed.
const LISTED_LIMIT: usize = 10_000;
/// Most waiting sessions whose reason is asked for.
const REASONS_LIMIT: usize = 20;

/// List sessions and arrays
///
/// Those that wait, start, run or stop, the newest first; with --all also those that ended. An
/// array is one line with counts, unless it is named or --elements is given.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct LsArguments {
    /// An array, whose elements are listed, or a session
    #[arg(value_name = "NAME", conflicts_with_all = ["name", "elements"])]
    one: Option<String>,
    /// Elements of arrays one by one
    #[arg(short, long)]
    elements: bool,
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
        "Examples:\n  insula ls --all\n  insula ls sweep\n  insula ls --json | jq '.sessions[].name'\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Lists sessions.
pub(crate) async fn ls(context: Context, arguments: LsArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let found = find(&site, &arguments).await?;
    if arguments.json {
        printer.json(&found.json())?;
        return Ok(exit_codes::SUCCESS);
    }
    if found.sessions.is_empty() && found.arrays.is_empty() {
        let hint = if arguments.all {
            ""
        } else {
            "; `insula ls --all` lists those that ended too"
        };
        printer.note(&format!("no sessions{hint}"));
        return Ok(exit_codes::SUCCESS);
    }
    let reasons = reasons(&site, &found.sessions).await;
    for line in table(&found, &reasons, Timestamp::now()).lines(&printer) {
        printer.line(&line)?;
    }
    Ok(exit_codes::SUCCESS)
}

/// What is listed, each newest first.
#[derive(Debug, Default)]
struct Found {
    sessions: Vec<SessionView>,
    arrays: Vec<ArrayView>,
    /// The arrays are in the picture even if there is none.
    grouped: bool,
}

impl Found {
    fn json(&self) -> serde_json::Value {
        let sessions = &self.sessions;
        if self.grouped {
            return serde_json::json!({ "sessions": sessions, "arrays": self.arrays });
        }
        serde_json::json!({ "sessions": sessions })
    }
}

async fn find(site: &Site, arguments: &LsArguments) -> Result<Found, Failure> {
    let Some(name) = &arguments.one else {
        let query = ListQuery {
            all: arguments.all,
            name: arguments.name.clone(),
            grouped: !arguments.elements,
            ..ListQuery::default()
        };
        return all_pages(site, query).await;
    };
    match Named::find(site, name).await? {
        Named::Session(session) => Ok(Found {
            sessions: vec![*session],
            ..Found::default()
        }),
        Named::Array(array) => {
            let query = ListQuery {
                all: true,
                array: Some(array.id),
                ..ListQuery::default()
            };
            let mut found = all_pages(site, query).await?;
            found.sessions.sort_by_key(|session| session.array_index);
            Ok(found)
        }
    }
}

async fn all_pages(site: &Site, mut query: ListQuery) -> Result<Found, Failure> {
    let mut found = Found {
        grouped: query.grouped,
        ..Found::default()
    };
    query.limit = Some(PAGE_LIMIT);
    loop {
        let page = site.call(async |client| client.list(&query).await).await?;
        found.sessions.extend(page.sessions);
        found.arrays.extend(page.arrays);
        let listed = found.sessions.len() + found.arrays.len();
        if page.next_cursor.is_none() || listed >= LISTED_LIMIT {
            return Ok(found);
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

fn table(found: &Found, reasons: &[(String, String)], now: Timestamp) -> Table {
    let headings = ["NAME", "STATE", "WHY", "CPU", "MEMORY", "AGE", "COMMAND"];
    let mut table = Table::new(&headings, &[6, 2, 0]).dispensable(&[2, 4, 5]);
    let made = |text: &str| text.parse::<Timestamp>().ok();
    let mut arrays = found.arrays.iter().peekable();
    for session in &found.sessions {
        let at = made(&session.created_at);
        while let Some(array) = arrays.next_if(|array| made(&array.created_at) >= at) {
            table.push(array_row(array, now));
        }
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
    for array in arrays {
        table.push(array_row(array, now));
    }
    table
}

/// An array: how many of how many have ended, and the counts. CPU and memory are those of one.
fn array_row(array: &ArrayView, now: Timestamp) -> Vec<Cell> {
    vec![
        Cell::toned(&array.name, Tone::Strong),
        Cell::toned(
            format!("{}/{}", ended(array), array.size),
            elements::tone(array),
        ),
        Cell::plain(counts(array)),
        Cell::plain(&array.resources.cpu),
        Cell::plain(show_bytes(array.resources.memory_bytes.into())),
        Cell::plain(age(&array.created_at, now)),
        Cell::toned(array.command.join(" "), Tone::Faint),
    ]
}

/// The state; for an ended session its outcome.
pub(crate) fn state_word(session: &SessionView) -> &str {
    match &session.outcome {
        _ if session.removing => "removing",
        Some(outcome) => &outcome.outcome,
        None => living_word(&session.state, session.paused.as_ref(), session.resuming),
    }
}

/// The state of what lives: `pausing` and `resuming` until its node has told that it is so.
pub(crate) fn living_word<'a>(
    state: &'a str,
    paused: Option<&PausedView>,
    resuming: bool,
) -> &'a str {
    match paused {
        Some(paused) if paused.in_force => "paused",
        Some(_) => "pausing",
        None if resuming => "resuming",
        None => state,
    }
}

/// How a state is to be seen.
pub(crate) fn tone(session: &SessionView) -> Tone {
    match state_word(session) {
        "running" | "succeeded" => Tone::Good,
        "failed" | "lost" | "expired" => Tone::Bad,
        "pending" | "stopping" | "removing" | "paused" | "pausing" | "resuming" => Tone::Careful,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, table};
    use crate::elements::tests::array;
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
        let sessions = vec![
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
        let counts = r#"{"running": 4, "pending": 159}"#;
        let found = Found {
            sessions,
            arrays: vec![array(counts, r#"{"succeeded": 35, "failed": 2}"#)],
            grouped: true,
        };
        let lines = table(&found, &reasons, now).lines(&printer);
        insta::assert_snapshot!(lines.join("\n"), @r"
        NAME   STATE    WHY                                             CPU  MEMORY   AGE  COMMAND
        sweep  37/200   4 running, 159 waiting, 35 succeeded, 2 failed  0.5  128 MiB  5m   python3 train.py
        train  running                                                  0.5  512 MiB  10m  python3 train.py
        waits  pending  0.5 of 2 cpu are free                           0.5  512 MiB  10m  python3 train.py
        gone   failed   the command exited with 3                       0.5  512 MiB  10m  python3 train.py
        ");
    }
}
