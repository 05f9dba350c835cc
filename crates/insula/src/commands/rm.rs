//! `insula rm`: removes sessions with all they left.

use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use clap::Args;
use public_api::ProblemCode;
use std::time::Duration;

/// Time between two looks whether a session is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Longest wait for a session to be gone; the removal goes on by itself.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Remove sessions with their files and output
///
/// A session that lives is refused, unless --force stops it first.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct RmArguments {
    /// Names or ids of sessions
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
        let force = arguments.force;
        let result = site
            .call(async |client| client.remove(name, force).await)
            .await;
        removed.push(result.map_err(|failure| match failure.code() {
            Some(ProblemCode::WrongState) => {
                failure.hint(format!("`insula rm --force {name}` stops it first"))
            }
            _ => failure,
        })?);
    }
    for session in &removed {
        await_gone(&site, &session.id).await?;
    }
    if arguments.json {
        printer.json(&serde_json::json!({ "removed": removed }))?;
    } else {
        for session in &removed {
            printer.line(&session.name)?;
        }
    }
    Ok(exit_codes::SUCCESS)
}

async fn await_gone(site: &Site, id: &str) -> Result<(), Failure> {
    let started = std::time::Instant::now();
    while started.elapsed() < WAIT_LIMIT {
        match site.call(async |client| client.session(id).await).await {
            Err(failure) if failure.code() == Some(ProblemCode::NoSuchSession) => return Ok(()),
            Err(failure) => return Err(failure),
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    site.printer
        .note("it is still being removed: that goes on by itself");
    Ok(())
}
