//! The command line: its verbs and the options that all of them have.

use crate::commands::{
    attach, completion, config, doctor, down, download, events, exec, image, logs, ls, node, pause,
    priority, rename, rm, run, show, stop, throttle, top, unclaimed, up, why,
};
use crate::daemon::serve_command;
use crate::exit_codes;
use crate::failure::Failure;
use crate::nearest::nearest;
use crate::printer::{Printer, shown};
use crate::settings::{Environment, Settings};
use clap::builder::styling::{AnsiColor, Effects, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    ArgAction, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
};
use std::ffi::OsString;
use std::path::PathBuf;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Start with:
  insula run train.py              run a script, its directory goes along
  insula run -- python3 -c 'print(6*7)'
  insula ls                        what runs now

Use `insula help VERB` for more about a verb.";

/// Runs programs in sandboxes, on this machine or on many.
#[derive(Debug, Parser)]
#[command(name = "insula", version, styles = STYLES, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = false, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    global: GlobalArguments,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct GlobalArguments {
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    /// Say more on stderr
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Where the local site keeps its state [env: INSULA_HOME]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::RunArguments>),
    Ls(ls::LsArguments),
    Show(show::ShowArguments),
    Logs(logs::LogsArguments),
    Exec(exec::ExecArguments),
    Attach(attach::AttachArguments),
    Download(download::DownloadArguments),
    Stop(stop::StopArguments),
    Pause(pause::PauseArguments),
    Resume(pause::ResumeArguments),
    Rm(rm::RmArguments),
    Why(why::WhyArguments),
    Top(top::TopArguments),
    Events(events::EventsArguments),
    Rename(rename::RenameArguments),
    Throttle(throttle::ThrottleArguments),
    Priority(priority::PriorityArguments),
    Image(image::ImageArguments),
    Node(node::NodeArguments),
    Up(up::UpArguments),
    Down(down::DownArguments),
    Doctor(doctor::DoctorArguments),
    Unclaimed(unclaimed::UnclaimedArguments),
    Config(config::ConfigArguments),
    Completion(completion::CompletionArguments),
    /// The daemon itself
    #[command(name = "__serve", hide = true)]
    Serve,
}

impl Verb {
    fn wants_json(&self) -> bool {
        match self {
            Self::Run(arguments) => arguments.json,
            Self::Ls(arguments) => arguments.json,
            Self::Show(arguments) => arguments.json,
            Self::Download(arguments) => arguments.json,
            Self::Stop(arguments) => arguments.json,
            Self::Pause(arguments) => arguments.wants_json(),
            Self::Resume(arguments) => arguments.wants_json(),
            Self::Rm(arguments) => arguments.json,
            Self::Why(arguments) => arguments.json,
            Self::Top(arguments) => arguments.json,
            Self::Events(arguments) => arguments.json,
            Self::Rename(arguments) => arguments.json,
            Self::Throttle(arguments) => arguments.json,
            Self::Priority(arguments) => arguments.json,
            Self::Image(arguments) => arguments.wants_json(),
            Self::Node(arguments) => arguments.json,
            Self::Up(arguments) => arguments.json,
            Self::Down(arguments) => arguments.json,
            Self::Doctor(arguments) => arguments.json,
            Self::Unclaimed(arguments) => arguments.json,
            Self::Config(arguments) => arguments.json,
            Self::Logs(_) | Self::Exec(_) | Self::Attach(_) | Self::Completion(_) | Self::Serve => {
                false
            }
        }
    }
}

/// What every verb needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where to write.
    pub(crate) printer: Printer,
    /// What the environment and the configuration say.
    pub(crate) settings: Settings,
}

/// The command line's grammar.
pub(crate) fn grammar() -> clap::Command {
    Cli::command()
}

/// Does what the command line says and gives the exit code.
pub(crate) fn run_command_line(arguments: Vec<OsString>) -> u8 {
    let environment = Environment::of_this_process();
    let no_color = environment.get("NO_COLOR").is_some();
    let colour = colour_before_parsing(&arguments, no_color);
    let parsed = grammar()
        .color(colour)
        .try_get_matches_from(&arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let mut cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return refuse(error, &arguments),
    };
    if let Verb::Run(run) = &mut cli.verb {
        run.note_dashes(&arguments);
    }
    let printer = Printer::new(cli.global.color, no_color, cli.global.verbose > 0);
    let json = cli.verb.wants_json();
    let has_codes_inside = matches!(cli.verb, Verb::Run(_) | Verb::Exec(_) | Verb::Attach(_));
    match act(cli, environment, &printer) {
        Ok(code) => code,
        Err(failure) => {
            printer.failure(&failure, json);
            if has_codes_inside && failure.exit_code <= exit_codes::USAGE {
                return exit_codes::INSULA_FAILED;
            }
            failure.exit_code
        }
    }
}

fn act(cli: Cli, environment: Environment, printer: &Printer) -> Result<u8, Failure> {
    if let Verb::Completion(arguments) = cli.verb {
        return completion::completion(&arguments, printer);
    }
    let settings = Settings::read(cli.global.home.as_deref(), environment)?;
    if let Verb::Serve = cli.verb {
        return serve_command(settings);
    }
    let context = Context {
        printer: printer.clone(),
        settings,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(async {
        match cli.verb {
            Verb::Run(arguments) => Box::pin(run::run(context, *arguments)).await,
            Verb::Ls(arguments) => Box::pin(ls::ls(context, arguments)).await,
            Verb::Show(arguments) => Box::pin(show::show(context, arguments)).await,
            Verb::Logs(arguments) => Box::pin(logs::logs(context, arguments)).await,
            Verb::Exec(arguments) => Box::pin(exec::exec(context, arguments)).await,
            Verb::Attach(arguments) => Box::pin(attach::attach(context, arguments)).await,
            Verb::Download(arguments) => Box::pin(download::download(context, arguments)).await,
            Verb::Stop(arguments) => Box::pin(stop::stop(context, arguments)).await,
            Verb::Pause(arguments) => Box::pin(pause::pause(context, arguments)).await,
            Verb::Resume(arguments) => Box::pin(pause::resume(context, arguments)).await,
            Verb::Rm(arguments) => Box::pin(rm::rm(context, arguments)).await,
            Verb::Why(arguments) => Box::pin(why::why(context, arguments)).await,
            Verb::Top(arguments) => Box::pin(top::top(context, arguments)).await,
            Verb::Events(arguments) => Box::pin(events::events(context, arguments)).await,
            Verb::Rename(arguments) => Box::pin(rename::rename(context, arguments)).await,
            Verb::Throttle(arguments) => Box::pin(throttle::throttle(context, arguments)).await,
            Verb::Priority(arguments) => Box::pin(priority::priority(context, arguments)).await,
            Verb::Image(arguments) => Box::pin(image::image(context, arguments)).await,
            Verb::Node(arguments) => Box::pin(node::node(context, arguments)).await,
            Verb::Up(arguments) => Box::pin(up::up(context, arguments)).await,
            Verb::Down(arguments) => Box::pin(down::down(context, arguments)).await,
            Verb::Unclaimed(arguments) => Box::pin(unclaimed::unclaimed(context, arguments)).await,
            Verb::Doctor(arguments) => Box::pin(doctor::doctor(context, arguments)).await,
            Verb::Config(arguments) => config::config(&context, &arguments),
            Verb::Completion(_) | Verb::Serve => unreachable!("handled before"),
        }
    });
    // A thread that reads our standard input may wait for ever: it ends with the process.
    runtime.shutdown_background();
    code
}

/// Tells what is wrong with the command line, or prints help or version.
fn refuse(error: clap::Error, arguments: &[OsString]) -> u8 {
    // Nobody can be told that our own streams are gone.
    let code = error.exit_code();
    let _ = match not_utf_8(&error, arguments) {
        Some(error) => error.print(),
        None => with_nearest_verb(error).print(),
    };
    let with_codes_inside = ["run", "exec", "attach"];
    let mut words = arguments.iter().skip(1);
    let has_codes_inside = words.any(|word| with_codes_inside.iter().any(|verb| word == verb));
    match code {
        0 => exit_codes::SUCCESS,
        _ if has_codes_inside => exit_codes::INSULA_FAILED,
        _ => exit_codes::USAGE,
    }
}

/// Names the argument that is not UTF-8, which the grammar itself does not.
fn not_utf_8(error: &clap::Error, arguments: &[OsString]) -> Option<clap::Error> {
    if error.kind() != ErrorKind::InvalidUtf8 {
        return None;
    }
    let (number, argument) = arguments
        .iter()
        .enumerate()
        .find(|(_, argument)| argument.to_str().is_none())?;
    let message = format!("argument {number} is not UTF-8: {}\n", shown(argument));
    Some(clap::Error::raw(ErrorKind::InvalidUtf8, message))
}

/// Adds the verb that was probably meant, where the grammar itself did not find one.
fn with_nearest_verb(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) {
        let grammar = grammar();
        let verbs = grammar.get_subcommands().filter(|verb| !verb.is_hide_set());
        if let Some(near) = nearest(wrong, verbs.map(clap::Command::get_name)) {
            let near = ContextValue::Strings(vec![near.to_owned()]);
            error.insert(ContextKind::SuggestedSubcommand, near);
        }
    }
    error
}

/// `--color` has to be known before the command line is understood: its errors are coloured too.
fn colour_before_parsing(arguments: &[OsString], no_color: bool) -> ColorChoice {
    let before_dashes = arguments.iter().take_while(|argument| *argument != "--");
    let words: Vec<&str> = before_dashes
        .filter_map(|argument| argument.to_str())
        .collect();
    let after = words
        .iter()
        .position(|word| *word == "--color")
        .and_then(|at| words.get(at + 1));
    let joined = words.iter().find_map(|word| word.strip_prefix("--color="));
    match joined.or(after.copied()) {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ if no_color => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests;
