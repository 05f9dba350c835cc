//! `insula stop`: asks sessions to end, and waits until they have.

use super::ls::state_word;
use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::elements::{await_all_ended, counts};
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::printer::Printer;
use crate::progress::Spinner;
use clap::Args;
use public_api::{ListQuery, PAGE_LIMIT, ProblemCode, StopSession};
use std::time::Duration;

/// Longest wait between two looks.
const LONGEST_LOOK: Duration = Duration::from_millis(200);

/// Stop sessions and arrays
///
/// The command gets a signal, and SIGKILL if it still runs after the grace; of an array every
/// element. Returns when each session has ended; one that has ended already is no error. If one
/// cannot be stopped, the others are all the same.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct StopArguments {
    /// Names or ids of sessions, elements (NAME.7) or arrays
    #[arg(required_unless_present = "all", value_name = "SESSION")]
    sessions: Vec<String>,
    /// Everything that has not ended
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
            Ok(stopped) => stopping.push(stopped),
            Err(failure) => {
                printer.failure(&failure, arguments.json);
                code = failure.exit_code;
            }
        }
    }
    if !arguments.no_wait {
        let _spinner = Spinner::new(&printer, "stopping");
        for stopped in &mut stopping {
            *stopped = await_end(&site, stopped).await?;
        }
    }
    tell(&printer, &stopping, arguments.json)?;
    if names.is_empty() && !arguments.json {
        printer.note("no session lives");
    }
    Ok(code)
}

fn tell(printer: &Printer, stopped: &[Named], json: bool) -> Result<(), Failure> {
    if json {
        return printer.json(&as_json(stopped));
    }
    for named in stopped {
        let (name, words) = match named {
            Named::Session(session) => (&session.name, state_word(session).to_owned()),
            Named::Array(array) => (&array.name, counts(array)),
        };
        printer.line(&format!("{name}: {words}"))?;
    }
    Ok(())
}

/// Sessions, and where there are any, arrays.
pub(super) fn as_json(all: &[Named]) -> serde_json::Value {
    let (mut sessions, mut arrays) = (Vec::new(), Vec::new());
    for named in all {
        match named {
            Named::Session(session) => sessions.push(session),
            Named::Array(array) => arrays.push(array),
        }
    }
    let mut json = serde_json::json!({ "sessions": sessions });
    if !arrays.is_empty() {
        json["arrays"] = serde_json::to_value(arrays).expect("an array has string keys");
    }
    json
}

/// The ids of everything that has not ended; of elements only their arrays'.
async fn living(site: &Site) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    let mut query = ListQuery {
        limit: Some(PAGE_LIMIT),
        grouped: true,
        ..ListQuery::default()
    };
    loop {
        let page = site.call(async |client| client.list(&query).await).await?;
        ids.extend(page.sessions.into_iter().map(|session| session.id));
        ids.extend(page.arrays.into_iter().map(|array| array.id));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(ids),
        }
    }
}

async fn ask(site: &Site, name: &str, order: &StopSession) -> Result<Named, Failure> {
    let session = match Named::find(site, name).await? {
        Named::Session(session) => session,
        Named::Array(array) => {
            let id = array.id.as_str();
            let array = match site
                .call(async |client| client.stop_array(id, order).await)
                .await
            {
                // All of its elements have ended.
                Err(failure) if failure.code() == Some(ProblemCode::WrongState) => {
                    site.call(async |client| client.array(id).await).await?
                }
                result => result?,
            };
            return Ok(Named::Array(Box::new(array)));
        }
    };
    let id = session.id.as_str();
    let stopped = match site.call(async |client| client.stop(id, order).await).await {
        Err(failure) if failure.code() == Some(ProblemCode::WrongState) => {
            let view = site.call(async |client| client.session(id).await).await?;
            if view.outcome.is_none() {
                return Err(failure);
            }
            view
        }
        result => result?,
    };
    Ok(Named::Session(Box::new(stopped)))
}

async fn await_end(site: &Site, stopped: &Named) -> Result<Named, Failure> {
    let id = match stopped {
        Named::Session(session) => &session.id,
        Named::Array(array) => {
            let array = await_all_ended(site, &array.id).await?;
            return Ok(Named::Array(Box::new(array)));
        }
    };
    let mut wait = Duration::from_millis(5);
    loop {
        let view = site.call(async |client| client.session(id).await).await?;
        if view.outcome.is_some() {
            return Ok(Named::Session(Box::new(view)));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK);
    }
}
