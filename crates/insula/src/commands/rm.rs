//! `insula rm`: removes sessions with all they left.

use super::stop::as_json;
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use clap::Args;
use client::Client;
use public_api::ProblemCode;
use std::time::Duration;

/// Time between two looks whether a session is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Longest wait for a session to be gone; the removal goes on by itself.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Remove sessions and arrays with their files and output
///
/// What lives is refused, unless --force stops it first. If one cannot be removed, the others are
/// all the same.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct RmArguments {
    /// Names or ids of sessions, elements (NAME.7) or arrays
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
    /// Stop those that live first
    #[arg(short, long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula rm train\n  insula rm --force night noon\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Removes sessions.
pub(crate) async fn rm(context: Context, arguments: RmArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let mut asked = Vec::new();
    let mut code = exit_codes::SUCCESS;
    let mut tell = |failure: Failure| {
        printer.failure(&failure, arguments.json);
        code = failure.exit_code;
    };
    for name in &arguments.sessions {
        match remove(&site, name, arguments.force).await {
            Ok(named) => asked.push(named),
            Err(failure) if failure.code() == Some(ProblemCode::WrongState) => {
                tell(failure.hint(format!("`insula rm --force {name}` stops it first")));
            }
            Err(failure) => tell(failure),
        }
    }
    let mut removed = Vec::new();
    for named in asked {
        match await_gone(&site, &named).await {
            Ok(()) => removed.push(named),
            Err(failure) => tell(failure),
        }
    }
    if arguments.json {
        let mut json = as_json(&removed);
        json["removed"] = json["sessions"].take();
        json.as_object_mut().expect("an object").remove("sessions");
        printer.json(&json)?;
        return Ok(code);
    }
    for named in &removed {
        printer.line(named.name())?;
    }
    Ok(code)
}

/// Asks for a removal. If what was found is not there any more, it has been removed: by us, whose
/// answer was lost, or by somebody else.
async fn remove(site: &Site, name: &str, force: bool) -> Result<Named, Failure> {
    let found = Named::find(site, name).await?;
    let asked = match &found {
        Named::Session(session) => {
            let ask = async |client: &Client| client.remove(&session.id, force).await;
            let asked = site.call(ask).await;
            asked.map(|session| Named::Session(Box::new(session)))
        }
        Named::Array(array) => {
            let ask = async |client: &Client| client.remove_array(&array.id, force).await;
            let asked = site.call(ask).await;
            asked.map(|array| Named::Array(Box::new(array)))
        }
    };
    match asked {
        Err(failure) if is_gone(&failure) => Ok(found),
        asked => asked,
    }
}

fn is_gone(failure: &Failure) -> bool {
    let gone = [ProblemCode::NoSuchSession, ProblemCode::NoSuchArray];
    failure.code().is_some_and(|code| gone.contains(&code))
}

async fn await_gone(site: &Site, named: &Named) -> Result<(), Failure> {
    let started = std::time::Instant::now();
    while started.elapsed() < WAIT_LIMIT {
        let looked = match named {
            Named::Session(session) => {
                let look = async |client: &Client| client.session(&session.id).await.map(drop);
                site.call(look).await
            }
            Named::Array(array) => {
                let look = async |client: &Client| client.array(&array.id).await.map(drop);
                site.call(look).await
            }
        };
        match looked {
            Err(failure) if is_gone(&failure) => return Ok(()),
            Err(failure) => return Err(failure),
            Ok(()) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    site.printer
        .note("it is still being removed: that goes on by itself");
    Ok(())
}
