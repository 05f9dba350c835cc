//! `insula exec`: a further command in a session that runs.

use crate::arguments;
use crate::cli::Context;
use crate::daemon::{Site, is_outage};
use crate::exit_codes;
use crate::failure::Failure;
use crate::relay::{Keys, Relay, Relayed};
use crate::settings::Environment;
use crate::signals::Leaving;
use crate::terminal::{self, Raw};
use crate::variables::{self, Variable, with_values};
use clap::{ArgAction, Args};
use client::ClientError;
use public_api::{ExecOrder, ProcessEnd};

const EXAMPLES: &str = "\
Examples:
  insula exec -it train
      A shell in the session, in a terminal of its own.
  insula exec train -- nvidia-smi
      One command; its output and exit code are ours.
  tar c data | insula exec -i train -- tar x
      Input goes along.
  insula exec --root train -- apt-get install -y gdb
      As root, in a session on an image that can be written.

The command runs beside the main one, within the same limits, and ends with the session. It is
hung up when this command goes, unless --detach is given: also when the daemon ends.

Exit codes:
  0-255  the command's own
    125  Insula failed, or the command line is wrong
    126  the command cannot be run
    127  the command was not found
  128+n  signal n ended the command";

/// Run a command in a running session
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "insula exec [OPTIONS] SESSION [-- COMMAND [ARGUMENT]...]")]
pub(crate) struct ExecArguments {
    /// Name or id of the session
    session: String,
    /// The command; the image's shell if absent
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal, with input
    #[arg(short, long, visible_alias = "tty")]
    terminal: bool,
    /// Leave it running and return once it runs; its output is thrown away
    #[arg(short, long, conflicts_with_all = ["interactive", "terminal"])]
    detach: bool,
    /// Set a variable in its environment, or by its NAME pass ours on; may be given more than once
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variables::variable, action = ArgAction::Append)]
    env: Vec<Variable>,
    /// Working directory inside [default: the session's]
    #[arg(short, long, value_name = "PATH", value_parser = arguments::absolute_inside)]
    workdir: Option<String>,
    /// Run as this user inside, by name or number [default: the session's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Run as root inside; the same as --user root
    #[arg(long, conflicts_with = "user")]
    root: bool,
}

/// Runs it and gives its exit code.
pub(crate) async fn exec(context: Context, arguments: ExecArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    expect_terminal(arguments.terminal)?;
    let order = order_of(&arguments, &settings.environment)?;
    let site = Site::open(settings, &printer).await?;
    let session = arguments.session.as_str();
    let mut leaving = Leaving::listen()?;
    // Asked first, and as often as it takes: the command itself is asked for once.
    let view = site.call(async |client| client.session(session).await);
    let id = view.await?.id;
    let keys = if arguments.terminal {
        Keys::Raw
    } else {
        Keys::Plain
    };
    let connection = site.client().exec(&id, order).await?;
    let raw = arguments.terminal.then(Raw::enter).transpose()?;
    let with_input = arguments.interactive || arguments.terminal;
    let mut relay = Relay::new(keys, with_input)?;
    let relayed = tokio::select! {
        relayed = relay.carry(&site.printer, connection) => relayed,
        exit_code = leaving.asked() => {
            tidy(raw);
            printer.note("asked to end: the command is hung up");
            return Ok(exit_code);
        }
    };
    match relayed {
        Ok(Relayed::Ended(end)) => {
            if ended_by_itself(&end) {
                drop(raw);
            } else {
                tidy(raw);
            }
            Ok(tell(&site, &end))
        }
        Ok(Relayed::Closed) if arguments.detach => Ok(exit_codes::SUCCESS),
        Ok(Relayed::Interrupted | Relayed::Detached | Relayed::Unread) => {
            tidy(raw);
            printer.note("interrupted: the command is hung up");
            Ok(exit_codes::INTERRUPTED)
        }
        Ok(Relayed::Closed) => {
            tidy(raw);
            Err(cut_off())
        }
        Err(ClientError::Problem(problem)) => {
            tidy(raw);
            Err(problem.into())
        }
        Err(error) => {
            tidy(raw);
            let is_outage = is_outage(&error);
            let failure = Failure::from(error);
            Err(if is_outage {
                failure.context("the daemon went away, and the command was hung up with it").hint(
                    "the session runs on; `insula exec --detach` is for commands that should stay",
                )
            } else {
                failure
            })
        }
    }
}

fn cut_off() -> Failure {
    Failure::new("the connection ended before the command did, which was hung up with it")
        .hint("the session runs on; `insula exec --detach` is for commands that should stay")
}

/// It had the time to put its terminal in order.
fn ended_by_itself(end: &ProcessEnd) -> bool {
    end.cause == "exit_code" && !end.with_session
}

fn tidy(raw: Option<Raw>) {
    if let Some(raw) = raw {
        raw.tidy();
    }
}

/// A terminal inside needs one here.
pub(super) fn expect_terminal(wanted: bool) -> Result<(), Failure> {
    if wanted && !terminal::is_there() {
        return Err(
            Failure::new("-t needs a terminal: standard input or output is none")
                .hint("leave it away; -i passes input on without one"),
        );
    }
    Ok(())
}

/// The kind of our terminal, unless the user says another.
pub(super) fn with_terminal_kind(
    env: &[(String, String)],
    environment: &Environment,
) -> Option<(String, String)> {
    let said = env.iter().any(|(name, _)| name == "TERM");
    let kind = environment.text("TERM").filter(|_| !said)?;
    Some(("TERM".to_owned(), kind.to_owned()))
}

fn order_of(arguments: &ExecArguments, environment: &Environment) -> Result<ExecOrder, Failure> {
    let env = with_values(&arguments.env, environment)?;
    let kind = with_terminal_kind(&env, environment);
    let kind = kind.filter(|_| arguments.terminal);
    Ok(ExecOrder {
        command: arguments.command.clone(),
        env: env.into_iter().chain(kind).collect(),
        workdir: arguments.workdir.clone(),
        user: arguments
            .user
            .clone()
            .or(arguments.root.then(|| "root".to_owned())),
        terminal: arguments.terminal.then(terminal::size),
        stdin: arguments.interactive,
        detach: arguments.detach,
    })
}

/// Says why it ended, unless the exit code says it all.
fn tell(site: &Site, end: &ProcessEnd) -> u8 {
    if end.with_session {
        site.printer.note("the session ended");
    } else if !matches!(end.cause.as_str(), "exit_code" | "signal") {
        site.printer.error(&end.reason);
    }
    end.exit_code
}
