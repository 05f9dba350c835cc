//! Output of a session that may have several attempts, each of which has streams of its own.

use super::{Follow, Sink, follow};
use crate::daemon::Site;
use crate::failure::Failure;
use public_api::{LogQuery, OutputStream, SessionView};
use std::time::Duration;

/// Longest wait between two looks at a session whose output has ended.
const LONGEST_LOOK: Duration = Duration::from_millis(200);

/// Writes both streams of `session` from attempt `first` on, until it has ended; gives it as it is
/// then. `query` says the rest. Safe to drop, as [`follow`].
pub(crate) async fn follow_attempts(
    site: &Site,
    session: &SessionView,
    first: u32,
    query: &LogQuery,
    sinks: (&mut Sink, &mut Sink),
) -> Result<SessionView, Failure> {
    let (stdout, stderr) = sinks;
    let mut attempt = first.max(1);
    loop {
        let order = |stream| Follow {
            session: session.id.clone(),
            stream,
            query: LogQuery {
                // One that gets no further attempt need not be asked for by number.
                attempt: (session.retry > 0).then_some(attempt),
                ..query.clone()
            },
        };
        futures::try_join!(
            follow(site, order(OutputStream::Stdout), stdout),
            follow(site, order(OutputStream::Stderr), stderr),
        )?;
        let view = await_end(site, &session.id, attempt).await?;
        if view.outcome.is_some() {
            return Ok(view);
        }
        tell_again(site, &view, attempt);
        attempt += 1;
    }
}

/// The session once it, or this attempt of it, has ended: output ends a moment before.
pub(crate) async fn await_end(site: &Site, id: &str, attempt: u32) -> Result<SessionView, Failure> {
    let mut wait = Duration::from_millis(2);
    loop {
        let view = site.call(async |client| client.session(id).await).await?;
        let over = |view: &SessionView| {
            let tried = &view.attempts;
            let ended = tried
                .iter()
                .any(|tried| tried.attempt == attempt && tried.outcome.is_some());
            ended || view.attempt > attempt
        };
        if view.outcome.is_some() || (view.retry > 0 && over(&view)) {
            return Ok(view);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK);
    }
}

/// Says that an attempt failed which another one follows.
pub(crate) fn tell_again(site: &Site, view: &SessionView, attempt: u32) {
    let tried = view.attempts.iter().find(|tried| tried.attempt == attempt);
    let reason = tried
        .and_then(|tried| tried.outcome.as_ref())
        .map_or("it failed", |outcome| outcome.reason.as_str());
    let of = view.retry + 1;
    site.printer.note(&format!(
        "{}: attempt {attempt} of {of}: {reason}; it is tried again",
        view.name
    ));
}
