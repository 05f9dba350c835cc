//! `insula stop`: asks sessions to end, and waits until they have.

use super::ls::state_word;
use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::progress::Spinner;
use clap::Args;
use public_api::{ListQuery, PAGE_LIMIT, ProblemCode, SessionView, StopSession};
use std::time::Duration;

/// Longest wait between two looks.
const LONGEST_LOOK: Duration = Duration::from_millis(200);

/// Stop sessions
///
/// The command gets a signal, and SIGKILL if it still runs after the grace. Returns when each
/// session has ended; one that has ended already is no error. If one cannot be stopped, the others
/// are all the same.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct StopArguments {
    /// Names or ids of sessions
    #[arg(required_unless_present = "all", value_name = "SESSION")]
    sessions: Vec<String>,
    /// Every session that has not ended
    #[arg(short, long, conflicts_with = "sessions")]
    all: bool,
    /// The first signal: a name or a number [default: TERM]
    #[arg(short, long, value_parser = arguments::signal)]
    signal: Option<i32>,
    /// From the first signal to SIGKILL [default: 10s]
    #[arg(short, long, value_name = "DURATION", value_parser = arguments::span)]
    grace: Option<String>,
    /// Return as soon as the site knows
    #[arg(long)]
    no_wait: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula stop train\n  insula stop --signal INT --grace 1m night noon\n  insula stop --all\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Stops sessions.
pub(crate) async fn stop(context: Context, arguments: StopArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let order = StopSession {
        signal: arguments.signal,
        grace: arguments.grace.clone(),
    };
    let names = if arguments.all {
        living(&site).await?
    } else {
        arguments.sessions.clone()
    };
    let mut stopping = Vec::new();
    let mut code = exit_codes::SUCCESS;
    for name in &names {
        match ask(&site, name, &order).await {
            Ok(session) => stopping.push(session),
            Err(failure) => {
                printer.failure(&failure, arguments.json);
                code = failure.exit_code;
            }
        }
    }
    if !arguments.no_wait {
        let _spinner = Spinner::new(&printer, "stopping");
        for session in &mut stopping {
            *session = await_end(&site, &session.id).await?;
        }
    }
    if arguments.json {
        printer.json(&serde_json::json!({ "sessions": stopping }))?;
    } else {
        for session in &stopping {
            printer.line(&format!("{}: {}", session.name, state_word(session)))?;
        }
        if names.is_empty() {
            printer.note("no session lives");
        }
    }
    Ok(code)
}

/// The ids of all sessions that have not ended.
async fn living(site: &Site) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    let mut query = ListQuery {
        limit: Some(PAGE_LIMIT),
        ..ListQuery::default()
    };
    loop {
        let page = site.call(async |client| client.list(&query).await).await?;
        ids.extend(page.sessions.into_iter().map(|session| session.id));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(ids),
        }
    }
}

async fn ask(site: &Site, name: &str, order: &StopSession) -> Result<SessionView, Failure> {
    match site
        .call(async |client| client.stop(name, order).await)
        .await
    {
        Err(failure) if failure.code() == Some(ProblemCode::WrongState) => {
            let view = site.call(async |client| client.session(name).await).await?;
            if view.outcome.is_some() {
                Ok(view)
            } else {
                Err(failure)
            }
        }
        result => result,
    }
}

async fn await_end(site: &Site, id: &str) -> Result<SessionView, Failure> {
    let mut wait = Duration::from_millis(5);
    loop {
        let view = site.call(async |client| client.session(id).await).await?;
        if view.outcome.is_some() {
            return Ok(view);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK);
    }
}
