//! `insula down`: takes the local site down.

use crate::cli::Context;
use crate::daemon::{DownMark, Site, wait_until_gone};
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::Spinner;
use crate::serve::DaemonFile;
use crate::settings::Settings;
use clap::Args;
use client::ClientError;
use process::process_start_time;
use public_api::{ProblemCode, ShutdownMode, ShutdownOrder, SiteView};
use rustix::process::{Pid, Signal, kill_process};
use std::pin::pin;
use std::time::Duration;

/// Longest wait for the daemon to be gone; sessions that are stopped have a grace of their own.
const GONE_LIMIT: Duration = Duration::from_secs(120);

/// Take the local site down
///
/// Refuses while sessions live, unless --stop or --leave is given. Nothing stays but the home, in
/// which ended sessions, their files and output are kept.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct DownArguments {
    /// Stop living sessions first, also those that outlived their daemon
    #[arg(long, conflicts_with = "leave")]
    stop: bool,
    /// Leave living sessions running: the next daemon finds them
    #[arg(long)]
    leave: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula down\n  insula down --stop\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// The site if its daemon runs. What one left behind that did not go down, or that left sessions
/// running, can be stopped only by another one: with --stop it is started for that.
async fn find(
    settings: Settings,
    printer: &Printer,
    arguments: &DownArguments,
) -> Result<Option<(Site, SiteView)>, Failure> {
    if let Some(found) = Site::open_running(settings.clone(), printer).await? {
        return Ok(Some(found));
    }
    let is_left_over = settings.is_left_over();
    if is_left_over && arguments.stop {
        return Site::open_with_view(settings, printer).await.map(Some);
    }
    if arguments.json {
        printer.json(&serde_json::json!({ "running": false }))?;
    } else if is_left_over {
        printer.note(
            "no daemon is running, but sessions may: `insula down --stop` stops them, `insula ls` \
             starts a daemon and lists them",
        );
    } else {
        printer.note("no daemon is running");
    }
    Ok(None)
}

/// Ends a daemon that only stands by: no session depends on it, and its door takes no orders.
async fn end_standing_by(
    settings: &Settings,
    printer: &Printer,
    arguments: &DownArguments,
) -> Result<u8, Failure> {
    let daemon = DaemonFile::read(&settings.daemon_file());
    let told = || Failure::new("nothing tells which process stands by here");
    let daemon = daemon.ok_or_else(told)?;
    let lives = process_start_time(daemon.pid).ok().flatten() == Some(daemon.start_time);
    if let Some(pid) = Pid::from_raw(daemon.pid).filter(|_| lives) {
        kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
    }
    if !wait_until_gone(settings, GONE_LIMIT).await? {
        let message = format!("the daemon (process {}) is still there", daemon.pid);
        return Err(Failure::new(message).hint("`insula doctor` shows its log"));
    }
    if arguments.json {
        printer.json(&serde_json::json!({ "running": false, "pid": daemon.pid }))?;
    } else {
        printer.line("the daemon that stood by is down; the site goes on elsewhere")?;
    }
    Ok(exit_codes::SUCCESS)
}

/// Takes it down and waits until it is gone.
pub(crate) async fn down(context: Context, arguments: DownArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let found = match find(settings.clone(), &printer, &arguments).await {
        Err(failure) if failure.code() == Some(ProblemCode::StandingBy) => {
            return end_standing_by(&settings, &printer, &arguments).await;
        }
        found => found?,
    };
    let Some((site, view)) = found else {
        return Ok(exit_codes::SUCCESS);
    };
    let mode = match (arguments.stop, arguments.leave) {
        (true, _) => ShutdownMode::Stop,
        (_, true) => ShutdownMode::Leave,
        _ => ShutdownMode::Refuse,
    };
    let _spinner = Spinner::new(&printer, "taking the site down");
    // Before the daemon goes, so that no foreground run brings it back.
    let mark = DownMark::make(&site.settings).await;
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let answer = tokio::select! {
        answer = site.client().shutdown(ShutdownOrder { mode }) => answer,
        // Whoever no longer listens takes the order back.
        _ = &mut interrupt => {
            printer.note("interrupted: the site stays up; sessions that were told to stop do so");
            return Ok(exit_codes::INTERRUPTED);
        }
    };
    let living = match answer {
        Ok(answer) => answer.living_sessions,
        // It went before it could say so.
        Err(ClientError::Broken { .. } | ClientError::Connect { .. }) => view.living_sessions,
        Err(error) => return Err(error.into()),
    };
    mark.keep();
    let gone = tokio::select! {
        gone = wait_until_gone(&site.settings, GONE_LIMIT) => gone?,
        _ = &mut interrupt => {
            printer.note("interrupted: the site goes down all the same");
            return Ok(exit_codes::INTERRUPTED);
        }
    };
    if !gone {
        let message = format!("the daemon (process {}) is still there", view.pid);
        return Err(Failure::new(message).hint("`insula doctor` shows its log"));
    }
    if arguments.json {
        let told =
            serde_json::json!({ "running": false, "pid": view.pid, "living_sessions": living });
        printer.json(&told)?;
    } else if living > 0 {
        let sessions = if living == 1 {
            "1 session runs"
        } else {
            &format!("{living} sessions run")
        };
        printer.line(&format!("the site is down; {sessions} on"))?;
    } else {
        printer.line("the site is down")?;
    }
    // They were to be stopped, and were not.
    let unstopped = arguments.stop && living > 0;
    Ok(if unstopped {
        exit_codes::FAILURE
    } else {
        exit_codes::SUCCESS
    })
}
