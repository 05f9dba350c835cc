//! Insula in one executable: the command line, the daemon of a local site, and the launcher of
//! sandboxes.

mod arguments;
mod body;
mod cli;
mod commands;
mod daemon;
mod download;
mod elements;
mod exit_codes;
mod failure;
mod follow;
mod named;
mod nearest;
mod pack;
mod printer;
mod progress;
mod relay;
mod serve;
mod settings;
mod signals;
mod stalls;
mod standard_input;
mod table;
mod terminal;
mod times;
mod variables;

use std::process::ExitCode;

/// The hidden command that makes this process the launcher of sandboxes.
const LAUNCHER: &str = "__launcher";

fn main() -> ExitCode {
    // Before anything else: the launcher has one thread for ever.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == LAUNCHER)
    {
        sandbox::run_launcher();
    }
    process::keep_buffers();
    ExitCode::from(cli::run_command_line(std::env::args_os().collect()))
}
