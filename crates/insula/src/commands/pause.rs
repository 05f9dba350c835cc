//! `insula pause` and `insula resume`: sessions stand still, and go on.

use super::ls::state_word;
use super::stop::as_json;
use crate::cli::Context;
use crate::daemon::Site;
use crate::elements::{all_elements, counts};
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::progress::Spinner;
use clap::Args;
use client::Client;
use public_api::{Hold, PausedView, SessionView};
use std::time::{Duration, Instant};

/// Longest wait between two looks at a session.
const LONGEST_LOOK: Duration = Duration::from_millis(200);
/// Longest wait between two looks at an array, which has up to 10,000 elements.
const LONGEST_LOOK_AT_ARRAY: Duration = Duration::from_secs(2);

/// Longest wait; what was asked for stands, and the site goes on trying.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Pause sessions and arrays
///
/// All processes of a session stand still where they are, until it is resumed; of an array those
/// elements that run. A paused session keeps its place, its memory and its files, so that no other
/// session gets them; its time limit does not run. Its output can be read. No further command can
/// be started in it. Returns when each session stands still; one that does already is no error.
#[derive(Debug, Args)]
#[command(after_long_help = help("pause"))]
pub(crate) struct PauseArguments {
    #[command(flatten)]
    named: HoldArguments,
}

/// Let paused sessions and arrays go on
///
/// Of an array all paused elements. Returns when each session goes on; one that was not paused is
/// no error.
#[derive(Debug, Args)]
#[command(after_long_help = help("resume"))]
pub(crate) struct ResumeArguments {
    #[command(flatten)]
    named: HoldArguments,
}

#[derive(Debug, Args)]
struct HoldArguments {
    /// Names or ids of sessions, elements (NAME.7) or arrays
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
    /// Return as soon as the site knows
    #[arg(long)]
    no_wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl PauseArguments {
    pub(crate) fn wants_json(&self) -> bool {
        self.named.json
    }
}

impl ResumeArguments {
    pub(crate) fn wants_json(&self) -> bool {
        self.named.json
    }
}

fn help(verb: &str) -> String {
    format!(
        "Examples:\n  insula {verb} train\n  insula {verb} sweep sweep-2.7\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Pauses sessions.
pub(crate) async fn pause(context: Context, arguments: PauseArguments) -> Result<u8, Failure> {
    hold(context, arguments.named, Hold::Pause).await
}

/// Lets sessions go on.
pub(crate) async fn resume(context: Context, arguments: ResumeArguments) -> Result<u8, Failure> {
    hold(context, arguments.named, Hold::Resume).await
}

async fn hold(context: Context, arguments: HoldArguments, hold: Hold) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let mut held = Vec::new();
    let mut code = exit_codes::SUCCESS;
    for name in &arguments.sessions {
        match ask(&site, name, hold).await {
            Ok(named) => held.push(named),
            Err(failure) => {
                printer.failure(&failure, arguments.json);
                code = failure.exit_code;
            }
        }
    }
    if !arguments.no_wait {
        let _spinner = Spinner::new(&printer, "waiting for the node");
        for named in &mut held {
            let result = match named {
                Named::Session(session) => await_session(&site, session, hold).await,
                Named::Array(array) => await_array(&site, &array.id, hold).await,
            };
            match result {
                Ok(now) => *named = now,
                Err(failure) => {
                    printer.failure(&failure, arguments.json);
                    code = failure.exit_code;
                }
            }
        }
    }
    if arguments.json {
        printer.json(&as_json(&held))?;
        return Ok(code);
    }
    for named in &held {
        let (name, words) = match named {
            Named::Session(session) => (&session.name, state_word(session).to_owned()),
            Named::Array(array) => (&array.name, counts(array)),
        };
        printer.line(&format!("{name}: {words}"))?;
    }
    Ok(code)
}

async fn ask(site: &Site, name: &str, hold: Hold) -> Result<Named, Failure> {
    Ok(match Named::find(site, name).await? {
        Named::Session(session) => {
            let asked = async |client: &Client| client.hold(&session.id, hold).await;
            Named::Session(Box::new(site.call(asked).await?))
        }
        Named::Array(array) => {
            let asked = async |client: &Client| client.hold_array(&array.id, hold).await;
            Named::Array(Box::new(site.call(asked).await?))
        }
    })
}

/// Whether what was asked is so, as its nodes tell. One that has ended, or of which somebody else
/// asks the contrary, is waited for no longer.
fn is_done(hold: Hold, state: &str, paused: Option<&PausedView>, resuming: bool) -> bool {
    let so = match hold {
        Hold::Pause => paused.is_none_or(|paused| paused.in_force),
        Hold::Resume => !resuming,
    };
    so || state != "running"
}

/// A pause that failed: it is tried again, so it is told with what takes it back.
fn failed(name: &str, problem: &str) -> Failure {
    Failure::new(format!("session {name} could not be paused: {problem}")).hint(format!(
        "it is tried again every few seconds; `insula resume {name}` takes it back"
    ))
}

/// It takes longer than anybody waits for: its node may be gone.
fn late(name: &str, hold: Hold) -> Failure {
    let lacks = match hold {
        Hold::Pause => "stand still",
        Hold::Resume => "go on",
    };
    let waited = WAIT_LIMIT.as_secs();
    Failure::new(format!("{name} does not {lacks} after {waited} s")).hint(format!(
        "the site knows what is wanted, and goes on trying; `insula show {name}` tells when it is so"
    ))
}

async fn await_session(site: &Site, session: &SessionView, hold: Hold) -> Result<Named, Failure> {
    let id = session.id.as_str();
    let began = Instant::now();
    let mut wait = Duration::from_millis(5);
    loop {
        let view = site.call(async |client| client.session(id).await).await?;
        let paused = view.paused.as_ref();
        if is_done(hold, &view.state, paused, view.resuming) {
            return Ok(Named::Session(Box::new(view)));
        }
        if let Some(problem) = paused.and_then(|paused| paused.problem.as_deref()) {
            return Err(failed(&view.name, problem));
        }
        if began.elapsed() >= WAIT_LIMIT {
            return Err(late(&view.name, hold));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK);
    }
}

async fn await_array(site: &Site, id: &str, hold: Hold) -> Result<Named, Failure> {
    let mut wait = Duration::from_millis(10);
    let began = Instant::now();
    loop {
        let elements = all_elements(site, id).await?;
        let array = site.call(async |client| client.array(id).await).await?;
        let mut waiting = elements
            .iter()
            .filter(|element| {
                let paused = element.paused.as_ref();
                !is_done(hold, &element.state, paused, element.resuming)
            })
            .peekable();
        if waiting.peek().is_none() {
            return Ok(Named::Array(Box::new(array)));
        }
        let mut problems = waiting.filter_map(|element| {
            let problem = element.paused.as_ref()?.problem.as_deref()?;
            Some((element.index, problem))
        });
        if let Some((index, problem)) = problems.next() {
            return Err(failed(&format!("{}.{index}", array.name), problem));
        }
        if began.elapsed() >= WAIT_LIMIT {
            return Err(late(&array.name, hold));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK_AT_ARRAY);
    }
}
