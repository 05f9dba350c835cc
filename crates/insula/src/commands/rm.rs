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
/// What lives is refused, unless --force stops it first.
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
    let mut removed = Vec::new();
    for name in &arguments.sessions {
        let result = remove(&site, name, arguments.force).await;
        removed.push(result.map_err(|failure| match failure.code() {
            Some(ProblemCode::WrongState) => {
                failure.hint(format!("`insula rm --force {name}` stops it first"))
            }
            _ => failure,
        })?);
    }
    for named in &removed {
        await_gone(&site, named).await?;
    }
    if arguments.json {
        let mut json = as_json(&removed);
        json["removed"] = json["sessions"].take();
        json.as_object_mut().expect("an object").remove("sessions");
        printer.json(&json)?;
        return Ok(exit_codes::SUCCESS);
    }
    for named in &removed {
        printer.line(named.name())?;
    }
    Ok(exit_codes::SUCCESS)
}

async fn remove(site: &Site, name: &str, force: bool) -> Result<Named, Failure> {
    Ok(match Named::find(site, name).await? {
        Named::Session(session) => {
            let asked = async |client: &Client| client.remove(&session.id, force).await;
            Named::Session(Box::new(site.call(asked).await?))
        }
        Named::Array(array) => {
            let asked = async |client: &Client| client.remove_array(&array.id, force).await;
            Named::Array(Box::new(site.call(asked).await?))
        }
    })
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
        let gone = [ProblemCode::NoSuchSession, ProblemCode::NoSuchArray];
        match looked {
            Err(failure) if failure.code().is_some_and(|code| gone.contains(&code)) => {
                return Ok(());
            }
            Err(failure) => return Err(failure),
            Ok(()) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    site.printer
        .note("it is still being removed: that goes on by itself");
    Ok(())
}
