//! `insula attach`: our streams joined to a session's main command, also across the end of a
//! daemon.

use super::run::tell_outcome;
use crate::cli::Context;
use crate::daemon::{Outage, Site};
use crate::exit_codes;
use crate::failure::Failure;
use crate::follow::{Follow, follow};
use crate::relay::{Keys, Relay, Relayed};
use crate::signals::Leaving;
use crate::standard_input;
use crate::terminal::{self, Raw};
use clap::Args;
use client::{BrokenAnswer, ClientError};
use public_api::{AttachOrder, LogQuery, OutputStream, ProblemCode, SessionView};
use std::time::Duration;

/// Longest wait between two looks at a session that is about to run, or has just ended.
const LONGEST_LOOK: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  insula run -t --detach --name lab -- bash
  insula attach lab
      Joins the shell's terminal; ctrl-P ctrl-Q leaves it running.
  insula attach train
      Shows what comes from now on; ctrl-C sends SIGINT to the command, three times leaves.

Any number of clients can be attached at once. `insula logs` has what was written before.

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
    /// Only watch: do not pass standard input on
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
    let stay = Stay {
        site: &site,
        session: &session,
        in_terminal,
        lossless: false,
    };
    let mut raw = None;
    let mut leaving = Leaving::listen()?;
    let parted = tokio::select! {
        parted = stay.joined(&mut relay, &mut raw) => Ok(parted),
        exit_code = leaving.asked() => Err(exit_code),
    };
    let ended = matches!(&parted, Ok(Ok(Parted::Ended(_))));
    match raw {
        Some(raw) if !ended => raw.tidy(),
        _ => {}
    }
    let runs_on = |because: &str| {
        let name = &session.name;
        printer.note(&format!(
            "{because}: {name} runs on; `insula attach {name}` joins it again"
        ));
    };
    match parted {
        Err(exit_code) => {
            runs_on("asked to end");
            Ok(exit_code)
        }
        Ok(Ok(Parted::Ended(session))) => Ok(tell_outcome(&site, &session)),
        Ok(Ok(Parted::Detached)) => {
            runs_on("left");
            Ok(exit_codes::SUCCESS)
        }
        Ok(Ok(Parted::Interrupted)) => {
            runs_on("interrupted");
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
        let mut session = self.running().await?;
        while session.outcome.is_none() {
            let order = AttachOrder {
                stdout: relay.stdout_offset,
                stderr: relay.stderr_offset,
                terminal: self.in_terminal.then(terminal::size),
                lossless: self.lossless,
            };
            let joined = match self.site.client().attach(&session.id, order).await {
                Ok(connection) => {
                    if self.in_terminal && raw.is_none() {
                        *raw = Some(Raw::enter()?);
                    }
                    relay.carry(&self.site.printer, connection).await
                }
                Err(error) => Err(error),
            };
            match joined {
                Ok(Relayed::Detached | Relayed::Unread) => return Ok(Parted::Detached),
                Ok(Relayed::Interrupted) => return Ok(Parted::Interrupted),
                Ok(Relayed::Ended(_)) => {
                    let session = await_end(self.site, &session.id).await?;
                    return Ok(Parted::Ended(Box::new(session)));
                }
                // It has ended, or not begun again.
                Err(ClientError::Problem(problem)) if problem.code == ProblemCode::WrongState => {
                    outage.over();
                    tokio::time::sleep(LONGEST_LOOK).await;
                }
                Ok(Relayed::Closed) => {
                    let act = format!("attach {}", session.name);
                    let source = BrokenAnswer::EndedEarly;
                    let error = ClientError::Broken { act, source };
                    outage.bridge(self.site, error).await?;
                }
                Err(error) => outage.bridge(self.site, error).await?,
            }
            session = self.running().await?;
        }
        self.show_rest(relay).await?;
        Ok(Parted::Ended(Box::new(session)))
    }

    /// The session as soon as it runs, or has ended.
    async fn running(&self) -> Result<SessionView, Failure> {
        let id = self.session.id.as_str();
        let mut wait = Duration::from_millis(2);
        loop {
            let view = self
                .site
                .call(async |client| client.session(id).await)
                .await?;
            let runs = matches!(view.state.as_str(), "running" | "stopping");
            if runs || view.outcome.is_some() {
                return Ok(view);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_LOOK);
        }
    }

    /// What was written after the last byte that came.
    async fn show_rest(&self, relay: &mut Relay) -> Result<(), Failure> {
        let rest = |stream, offset: Option<u64>| {
            let query = LogQuery {
                offset: offset?,
                ..LogQuery::default()
            };
            let session = self.session.id.clone();
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
            follow(self.site, order, stdout).await?;
        }
        if let Some(order) = orders.1 {
            follow(self.site, order, stderr).await?;
        }
        Ok(())
    }
}

/// The output ends a moment before the session does.
async fn await_end(site: &Site, id: &str) -> Result<SessionView, Failure> {
    let mut wait = Duration::from_millis(2);
    loop {
        let view = site.call(async |client| client.session(id).await).await?;
        if view.outcome.is_some() {
            return Ok(view);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK);
    }
}
