//! `insula logs`: the output of a session, or of all elements of an array.

use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::elements::all_elements;
use crate::exit_codes;
use crate::failure::Failure;
use crate::follow::{Follow, Sink, follow, follow_attempts};
use crate::named::Named;
use clap::Args;
use futures::TryStreamExt as _;
use public_api::{ArrayView, ElementView, LogQuery, OutputStream, ProblemCode, SessionView};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements that are followed at the same time; the output of later ones is kept and comes after.
const FOLLOWED_LIMIT: usize = 64;

/// Print or follow the output of a session
///
/// What it wrote to standard output comes to standard output, what it wrote to standard error to
/// standard error. The elements of an array come one after the other, with --follow as they write;
/// each line begins with the index of its element.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct LogsArguments {
    /// Name or id of a session, an element (NAME.7) or an array
    session: String,
    /// Go on until the session has ended
    #[arg(short, long)]
    follow: bool,
    /// Only what was written in this last length of time, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = arguments::span)]
    since: Option<String>,
    /// The output of this attempt, from 1 [default: the last; with --follow this and later ones]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
}

fn help() -> String {
    format!(
        "Examples:\n  insula logs -f train\n  insula logs sweep.7 --attempt 1\n  insula logs train --since 10m 2>/dev/null | tail\n\n\
         Output beyond 256 MiB per stream is dropped, the oldest first; a line on stderr tells.\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Prints output.
pub(crate) async fn logs(context: Context, arguments: LogsArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let name = arguments.session.as_str();
    // The id of what is found, since something else may get the name while we follow.
    let named = Named::find(&site, name).await?;
    let (mut stdout, broken) = Sink::of(io::stdout())?;
    let (mut stderr, _) = Sink::of(io::stderr())?;
    let sinks = (&mut stdout, &mut stderr);
    let both = async {
        match &named {
            Named::Session(session) => {
                refuse_absent_attempt(session, &arguments)?;
                of_session(&site, session, &arguments, sinks).await
            }
            Named::Array(array) => of_array(&site, array, &arguments, sinks).await,
        }
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
        result = both => result?,
    }
    Ok(exit_codes::SUCCESS)
}

async fn of_session(
    site: &Site,
    session: &SessionView,
    arguments: &LogsArguments,
    sinks: (&mut Sink, &mut Sink),
) -> Result<(), Failure> {
    let query = LogQuery {
        since: arguments.since.clone(),
        follow: arguments.follow,
        attempt: arguments.attempt,
        ..LogQuery::default()
    };
    if arguments.follow && session.retry > 0 {
        let first = arguments.attempt.unwrap_or(session.attempt);
        follow_attempts(site, session, first, &query, sinks).await?;
        return Ok(());
    }
    let order = |stream| Follow {
        session: session.id.clone(),
        stream,
        query: query.clone(),
    };
    let (stdout, stderr) = sinks;
    futures::try_join!(
        follow(site, order(OutputStream::Stdout), stdout),
        follow(site, order(OutputStream::Stderr), stderr),
    )?;
    Ok(())
}

/// Nothing comes of an attempt that an ended session never had: that is not "it wrote nothing".
fn refuse_absent_attempt(session: &SessionView, arguments: &LogsArguments) -> Result<(), Failure> {
    let had = session.attempt;
    match arguments.attempt {
        Some(wanted) if session.outcome.is_some() && wanted > had.max(1) => {
            let word = if had == 1 { "attempt" } else { "attempts" };
            Err(Failure::new(format!("{} had {had} {word}", session.name)))
        }
        _ => Ok(()),
    }
}

/// One element after the other; those that are followed at the same time, as many as may be.
async fn of_array(
    site: &Site,
    array: &ArrayView,
    arguments: &LogsArguments,
    sinks: (&mut Sink, &mut Sink),
) -> Result<(), Failure> {
    let elements = all_elements(site, &array.id).await?;
    let wanted = |element: &ElementView| arguments.follow || element.attempt > 0;
    let lost = AtomicUsize::new(0);
    let lost = &lost;
    let at_once = if arguments.follow { FOLLOWED_LIMIT } else { 1 };
    let (stdout, stderr) = (&*sinks.0, &*sinks.1);
    futures::stream::iter(elements.into_iter().filter(wanted).map(Ok))
        .try_for_each_concurrent(at_once, |element| async move {
            let prefix = format!("{}: ", element.index);
            let mut stdout = stdout.with_prefix(prefix.clone());
            let mut stderr = stderr.with_prefix(prefix);
            let sinks = (&mut stdout, &mut stderr);
            let id = element.id.as_str();
            let looked = site.call(async |client| client.session(id).await).await;
            let result = match looked {
                Ok(session) => of_session(site, &session, arguments, sinks).await,
                Err(failure) => Err(failure),
            };
            stdout.finish().await;
            stderr.finish().await;
            match result {
                // It was removed meanwhile, or has no such attempt.
                Err(failure) if failure.code().is_some_and(is_absent) => Ok(()),
                Err(failure) if failure.code() == Some(ProblemCode::NoSuchFile) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                result => result,
            }
        })
        .await?;
    match lost.load(Ordering::Relaxed) {
        0 => {}
        1 => site
            .printer
            .note("the output of 1 element is no longer kept"),
        lost => site
            .printer
            .note(&format!("the output of {lost} elements is no longer kept")),
    }
    Ok(())
}

fn is_absent(code: ProblemCode) -> bool {
    matches!(code, ProblemCode::NoSuchSession | ProblemCode::WrongState)
}
