//! `insula attach`: our streams joined to a session's main command, also across the end of a
//! daemon.

use super::run::{ended_by_itself, tell_outcome, tell_what_it_waits_for};
use crate::cli::Context;
use crate::daemon::{Outage, Site};
use crate::exit_codes;
use crate::failure::Failure;
use crate::follow::{Follow, await_end, follow, tell_again};
use crate::relay::{Keys, Relay, Relayed};
use crate::signals::Leaving;
use crate::standard_input;
use crate::terminal::{self, Raw};
use clap::Args;
use client::{BrokenAnswer, ClientError, ProcessReader, ProcessWriter};
use public_api::{AttachOrder, LogQuery, OutputStream, ProblemCode, SessionView};
use std::cell::Cell;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Longest wait between two looks at a session that is about to run.
const LONGEST_LOOK: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  insula run -t --detach --name lab -- bash
  insula attach lab
      Joins the shell's terminal; ctrl-P ctrl-Q leaves it running.
  insula attach train
      Shows what comes from now on; ctrl-C sends SIGINT to the command, three times leaves.
  insula attach --no-stdin train
      Only watches: the first ctrl-C leaves.

Any number of clients can be attached at once. `insula logs` has what was written before.
It waits for a session that does not run yet, and stays for its further attempts (--retry).

Exit codes:
  0-255  the session's own, as `insula run` gives it
      0  left by ctrl-P ctrl-Q: the session runs on
    125  Insula failed, or the command line is wrong
    130  left by ctrl-C: the session runs on";

/// Join the main command of a running session
///
/// With a terminal, if it was started with one (`insula run -t`); else with both output streams,
/// its input, and ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttachArguments {
    /// Name or id of the session
    session: String,
    /// Only watch: pass neither standard input nor ctrl-C on
    #[arg(long)]
    no_stdin: bool,
}

/// How we came to leave a main command.
pub(super) enum Parted {
    /// Its session has ended.
    Ended(Box<SessionView>),
    /// By the keys, or because nobody reads our output.
    Detached,
    /// By ctrl-C.
    Interrupted,
}

/// What stays the same from one connection to the next.
pub(super) struct Stay<'a> {
    pub(super) site: &'a Site,
    pub(super) session: &'a SessionView,
    /// Our terminal becomes raw while we are joined.
    pub(super) in_terminal: bool,
    /// The command waits for us rather than that output is dropped.
    pub(super) lossless: bool,
    /// We are joined now: an interrupt is the command's.
    pub(super) carrying: Cell<bool>,
}

/// Joins it until it ends or we leave.
pub(crate) async fn attach(context: Context, arguments: AttachArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let name = arguments.session.as_str();
    let session = site.call(async |client| client.session(name).await).await?;
    if session.outcome.is_some() {
        let failure = Failure::new(format!("session {} has ended", session.name));
        return Err(failure.hint(format!("`insula logs {}` has what it wrote", session.name)));
    }
    let in_terminal = session.terminal && !arguments.no_stdin && terminal::is_there();
    let with_input = session.stdin && !arguments.no_stdin && standard_input::is_there();
    let keys = if in_terminal {
        Keys::RawWithDetach
    } else {
        Keys::Plain
    };
    let mut relay = Relay::new(keys, with_input)?.leaving_unread();
    if arguments.no_stdin {
        relay = relay.leaving_at_once();
    }
    let stay = Stay {
        site: &site,
        session: &session,
        in_terminal,
        lossless: false,
        carrying: Cell::new(false),
    };
    let mut raw = None;
    let mut leaving = Leaving::listen()?;
    let interrupt = signal(SignalKind::interrupt())?;
    let parted = tokio::select! {
        parted = stay.joined(&mut relay, &mut raw) => Ok(parted),
        () = stay.interrupted(interrupt) => {
            Err((exit_codes::INTERRUPTED, "interrupted", "is left as it is"))
        }
        exit_code = leaving.asked() => Err((exit_code, "asked to end", "runs on")),
    };
    let by_itself = matches!(&parted, Ok(Ok(Parted::Ended(session))) if ended_by_itself(session));
    match raw {
        Some(raw) if !by_itself => raw.tidy(),
        _ => {}
    }
    let tell = |because: &str, what: &str| {
        let name = &session.name;
        printer.note(&format!(
            "{because}: {name} {what}; `insula attach {name}` joins it again"
        ));
    };
    match parted {
        Err((exit_code, because, what)) => {
            tell(because, what);
            Ok(exit_code)
        }
        Ok(Ok(Parted::Ended(session))) => Ok(tell_outcome(&site, &session)),
        Ok(Ok(Parted::Detached)) => {
            tell("left", "runs on");
            Ok(exit_codes::SUCCESS)
        }
        Ok(Ok(Parted::Interrupted)) => {
            tell("interrupted", "runs on");
            Ok(exit_codes::INTERRUPTED)
        }
        Ok(Err(failure)) => Err(failure),
    }
}

impl Stay<'_> {
    /// Stays joined until the session has ended or the user leaves. `raw` is given back by the
    /// caller, who may stop waiting for us at any time.
    pub(super) async fn joined(
        &self,
        relay: &mut Relay,
        raw: &mut Option<Raw>,
    ) -> Result<Parted, Failure> {
        let mut outage = Outage::default();
        let mut attempt = None;
        loop {
            let site = &silenced_if(self.site, raw.as_ref());
            let session = self.running(site, attempt.unwrap_or(0)).await?;
            let first = attempt.unwrap_or(session.attempt);
            catch_up(site, relay, first, &session).await?;
            attempt = Some(session.attempt);
            if session.outcome.is_some() {
                return Ok(Parted::Ended(Box::new(session)));
            }
            let joined = match self.connect(&session, relay).await {
                Ok(Some(connection)) => {
                    if self.in_terminal && raw.is_none() {
                        *raw = Some(Raw::enter()?);
                    }
                    self.carrying.set(true);
                    let relayed = relay.carry(&self.site.printer, connection).await;
                    self.carrying.set(false);
                    relayed.map(Some)
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            match joined {
                // It went on to the next attempt meanwhile.
                Ok(None) => {}
                Ok(Some(Relayed::Detached | Relayed::Unread)) => return Ok(Parted::Detached),
                Ok(Some(Relayed::Interrupted)) => return Ok(Parted::Interrupted),
                Ok(Some(Relayed::Ended(_))) => {
                    let view = await_end(self.site, &session.id, session.attempt).await?;
                    if view.outcome.is_some() {
                        return Ok(Parted::Ended(Box::new(view)));
                    }
                    tell_again(self.site, &view, session.attempt);
                    relay.begin_anew();
                    attempt = Some(session.attempt + 1);
                }
                // It has ended, or not begun again.
                Err(ClientError::Problem(problem)) if problem.code == ProblemCode::WrongState => {
                    outage.over();
                    tokio::time::sleep(LONGEST_LOOK).await;
                }
                Ok(Some(Relayed::Closed)) => {
                    let act = format!("attach {}", session.name);
                    let source = BrokenAnswer::EndedEarly;
                    let error = ClientError::Broken { act, source };
                    outage
                        .bridge(&silenced_if(self.site, raw.as_ref()), error)
                        .await?;
                }
                Err(error) => {
                    outage
                        .bridge(&silenced_if(self.site, raw.as_ref()), error)
                        .await?
                }
            }
        }
    }

    /// Joins its current attempt; nothing if another attempt came first.
    async fn connect(
        &self,
        session: &SessionView,
        relay: &Relay,
    ) -> Result<Option<(ProcessReader, ProcessWriter)>, ClientError> {
        let order = AttachOrder {
            stdout: relay.stdout_offset,
            stderr: relay.stderr_offset,
            terminal: self.in_terminal.then(terminal::size),
            lossless: self.lossless,
        };
        let client = self.site.client();
        let connection = client.attach(&session.id, order).await?;
        let retries = session.retry > 0;
        if retries && client.session(&session.id).await?.attempt != session.attempt {
            return Ok(None);
        }
        Ok(Some(connection))
    }

    /// Waits for an interrupt that means us, since nothing is joined to which it could be passed.
    async fn interrupted(&self, mut interrupt: Signal) {
        loop {
            interrupt.recv().await;
            if !self.carrying.get() {
                return;
            }
        }
    }

    /// The session as soon as this attempt of it, or a later one, runs, or it has ended. Tells what
    /// it waits for.
    async fn running(&self, site: &Site, attempt: u32) -> Result<SessionView, Failure> {
        let id = self.session.id.as_str();
        let running = async {
            let mut wait = Duration::from_millis(2);
            loop {
                let view = site.call(async |client| client.session(id).await).await?;
                let runs = matches!(view.state.as_str(), "running" | "stopping");
                if (runs && view.attempt >= attempt) || view.outcome.is_some() {
                    return Ok(view);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_LOOK);
            }
        };
        tokio::select! {
            found = running => found,
            never = tell_what_it_waits_for(site, self.session) => match never {},
        }
    }
}

/// The site, about which nothing is said while our terminal is a program's: words would break what
/// that shows.
fn silenced_if(site: &Site, raw: Option<&Raw>) -> Site {
    if raw.is_some() {
        site.silenced()
    } else {
        site.clone()
    }
}

/// Writes what attempt `first` wrote after the last byte that came, and all that those after it did
/// which nobody was joined to; of the one that `session` is at only once that has ended.
async fn catch_up(
    site: &Site,
    relay: &mut Relay,
    first: u32,
    session: &SessionView,
) -> Result<(), Failure> {
    for attempt in first..session.attempt {
        show_rest(site, relay, session, attempt).await?;
        tell_again(site, session, attempt);
        relay.begin_anew();
    }
    if session.outcome.is_some() && session.attempt >= first {
        show_rest(site, relay, session, session.attempt).await?;
    }
    Ok(())
}

/// What an attempt wrote after the last byte that came.
async fn show_rest(
    site: &Site,
    relay: &mut Relay,
    session: &SessionView,
    attempt: u32,
) -> Result<(), Failure> {
    let rest = |stream, offset: Option<u64>| {
        let query = LogQuery {
            offset: offset?,
            attempt: (session.retry > 0).then_some(attempt),
            ..LogQuery::default()
        };
        let session = session.id.clone();
        Some(Follow {
            session,
            stream,
            query,
        })
    };
    let orders = (
        rest(OutputStream::Stdout, relay.stdout_offset),
        rest(OutputStream::Stderr, relay.stderr_offset),
    );
    let (stdout, stderr) = relay.sinks();
    if let Some(order) = orders.0 {
        follow(site, order, stdout).await?;
    }
    if let Some(order) = orders.1 {
        follow(site, order, stderr).await?;
    }
    Ok(())
}
