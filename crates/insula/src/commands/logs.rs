//! `insula logs`: the output of a session.

use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::follow::{Follow, Sink, follow};
use clap::Args;
use public_api::{LogQuery, OutputStream};
use std::io;

/// Print or follow the output of a session
///
/// What it wrote to standard output comes to standard output, what it wrote to standard error to
/// standard error.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct LogsArguments {
    /// Name or id of the session
    session: String,
    /// Go on until the session has ended
    #[arg(short, long)]
    follow: bool,
    /// Only what was written in this last length of time, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = arguments::span)]
    since: Option<String>,
}

fn help() -> String {
    format!(
        "Examples:\n  insula logs -f train\n  insula logs train --since 10m 2>/dev/null | tail\n\n\
         Output beyond 256 MiB per stream is dropped, the oldest first; a line on stderr tells.\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Prints output.
pub(crate) async fn logs(context: Context, arguments: LogsArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let name = arguments.session.as_str();
    // The id, since another session may get the name while we follow.
    let session = site.call(async |client| client.session(name).await).await?;
    let order = |stream| Follow {
        session: session.id.clone(),
        stream,
        query: LogQuery {
            since: arguments.since.clone(),
            follow: arguments.follow,
            ..LogQuery::default()
        },
    };
    let (mut stdout, broken) = Sink::of(io::stdout())?;
    let (mut stderr, _) = Sink::of(io::stderr())?;
    let both = async {
        futures::try_join!(
            follow(&site, order(OutputStream::Stdout), &mut stdout),
            follow(&site, order(OutputStream::Stderr), &mut stderr),
        )
    };
    // A reader who has gone has seen enough; a full disk has not.
    let broke = async {
        match broken.await {
            Ok(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(error) => Err(Failure::from(error).context("cannot write the output")),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = broke => result?,
        result = both => { result?; }
    }
    Ok(exit_codes::SUCCESS)
}
