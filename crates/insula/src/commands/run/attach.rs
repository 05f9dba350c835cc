//! A foreground run: output comes, input goes, signals are passed on, until the session has ended
//! or our terminal is gone.

use super::input::forward_input;
use super::waiting::tell_what_it_waits_for;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::follow::{Sink, follow_attempts};
use crate::signals::Signals;
use client::ClientError;
use public_api::{LogQuery, ProblemCode, SessionView, SignalOrder, StdinQuery, StopSession};
use std::cell::Cell;
use std::io;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longest time given to the site when we have to go ourselves.
const FAREWELL: Duration = Duration::from_secs(1);
/// Longest wait for the site to take an interrupt: the next one must not wait for it.
const TELL_LIMIT: Duration = Duration::from_secs(3);
/// What ctrl-C sends.
const SIGINT: i32 = 2;
/// What a program gets whose output nobody reads.
const SIGPIPE: i32 = 13;

/// How a foreground run came to its end.
pub(super) enum Attached {
    /// The session has ended.
    Ended {
        /// As it is now.
        session: Box<SessionView>,
        /// What became of our output.
        output: Output,
        /// We ordered its death at once.
        killed: bool,
    },
    /// It runs on without us.
    Left {
        /// What we exit with.
        exit_code: u8,
        /// Why we go, and what becomes of it.
        said: String,
    },
}

/// What became of our output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// It was written.
    Written,
    /// Whoever read it went away first: nobody waits for words about SIGPIPE.
    Unread,
    /// It could not be written, which was said.
    Failed,
}

/// Stays until the session has ended, or we have to go.
pub(super) async fn attach(site: &Site, session: &SessionView) -> Result<Attached, Failure> {
    let id = session.id.as_str();
    let mut signals = Signals::listen()?;
    let output = Cell::new(Output::Written);
    let (mut stdout, stdout_broken) = Sink::of(io::stdout())?;
    let (mut stderr, stderr_broken) = Sink::of(io::stderr())?;
    let to_the_end = async {
        let lossless = LogQuery {
            follow: true,
            lossless: true,
            ..LogQuery::default()
        };
        follow_attempts(site, session, 1, &lossless, (&mut stdout, &mut stderr)).await
    };
    let killed = Cell::new(false);
    let leave = async { act_on(&mut signals, site, session, &killed).await };
    tokio::select! {
        ended = to_the_end => Ok(Attached::Ended {
            session: Box::new(ended?),
            output: output.get(),
            killed: killed.get(),
        }),
        left = leave => Ok(left),
        never = when_broken(site, id, stdout_broken, &output) => match never {},
        never = when_broken(site, id, stderr_broken, &output) => match never {},
        never = forward_input(site, session) => match never {},
        never = tell_what_it_waits_for(site, session) => match never {},
    }
}

/// Like a pipe whose reader has gone: the command gets SIGPIPE, and the session goes on to its
/// end, its output thrown away.
async fn when_broken(
    site: &Site,
    id: &str,
    broken: oneshot::Receiver<io::Error>,
    output: &Cell<Output>,
) -> std::convert::Infallible {
    if let Ok(error) = broken.await {
        if error.kind() == io::ErrorKind::BrokenPipe {
            output.set(Output::Unread);
        } else {
            output.set(Output::Failed);
            site.printer
                .error(&format!("cannot write the output: {error}"));
        }
        let order = SignalOrder::last(SIGPIPE);
        if let Err(error) = site.client().signal(id, order).await {
            site.printer
                .detail(&format!("the command was not told: {error}"));
        }
    }
    std::future::pending().await
}

/// Passes interrupts on; returns when we have to go.
pub(super) async fn act_on(
    signals: &mut Signals,
    site: &Site,
    session: &SessionView,
    killed: &Cell<bool>,
) -> Attached {
    let id = session.id.as_str();
    let name = &session.name;
    let runs_on = |because: &str| {
        format!(
            "{because}: {name} runs on; `insula logs -f {name}` follows it, \
             `insula stop {name}` stops it"
        )
    };
    let mut interrupts = 0_u32;
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => {
                let number = interrupts + 1;
                let told = timeout(TELL_LIMIT, interrupt(site, id, number, killed)).await;
                interrupts = told.unwrap_or(number);
                if interrupts > 3 {
                    let said = if killed.get() {
                        format!(
                            "interrupted again: {name} is being killed; \
                             `insula show {name}` tells when it is gone"
                        )
                    } else {
                        runs_on("interrupted again")
                    };
                    return Attached::Left { exit_code: exit_codes::INTERRUPTED, said };
                }
            }
            _ = signals.terminate.recv() => {
                farewell(site, id).await;
                let exit_code = exit_codes::TERMINATED;
                return Attached::Left { exit_code, said: runs_on("asked to end") };
            }
            _ = signals.hangup.recv() => {
                farewell(site, id).await;
                let exit_code = exit_codes::HANGUP;
                return Attached::Left { exit_code, said: runs_on("the terminal is gone") };
            }
        }
    }
}

/// The first interrupt is the command's; the second stops the session, the third kills it.
/// Returns which of these it was: a session that has no command yet is stopped at once.
async fn interrupt(site: &Site, id: &str, number: u32, killed: &Cell<bool>) -> u32 {
    let printer = &site.printer;
    if number == 1 {
        match site.client().signal(id, SignalOrder::last(SIGINT)).await {
            Ok(()) => {
                if printer.is_watched() {
                    printer.note("\rSIGINT sent to the command; ctrl-C again stops the session");
                }
                return 1;
            }
            Err(ClientError::Problem(problem)) if problem.code == ProblemCode::WrongState => {
                // One that has just ended is at its end anyway: to stop its session then would
                // only change what is told of it.
                let view = site.client().session(id).await;
                if view.is_ok_and(|view| view.state == "running" || view.outcome.is_some()) {
                    return 1;
                }
            }
            Err(error) => {
                printer.warning(&format!("the command could not be told: {error}"));
                return 1;
            }
        }
    }
    let (grace, said) = match number {
        1 | 2 => (None, "stopping the session; ctrl-C again kills it"),
        3 => (Some("0s".to_owned()), "killing the session"),
        _ => return number,
    };
    // The terminal has written `^C` there.
    let start = if printer.is_watched() { "\r" } else { "" };
    printer.note(&format!("{start}{said}"));
    let order = StopSession {
        signal: None,
        grace,
    };
    match site.client().stop(id, &order).await {
        Ok(_) => killed.set(number == 3),
        Err(ClientError::Problem(problem)) if problem.code == ProblemCode::WrongState => {}
        Err(error) => printer.warning(&format!("the session could not be stopped: {error}")),
    }
    number.max(2)
}

/// Closes the command's input, since nobody is left to write to it. Best effort: we are going.
async fn farewell(site: &Site, id: &str) {
    let close = async {
        // An empty piece at 0 is answered with where the input stands.
        let asked = StdinQuery {
            offset: 0,
            close: false,
        };
        let stands = site.client().stdin(id, &asked, bytes::Bytes::new()).await?;
        let close = StdinQuery {
            offset: stands.offset,
            close: true,
        };
        site.client().stdin(id, &close, bytes::Bytes::new()).await
    };
    let _ = timeout(FAREWELL, close).await;
}
