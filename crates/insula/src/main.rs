//! Insula in one executable: the command line, the daemon of a local site, and the launcher of
//! sandboxes.

mod arguments;
mod cli;
mod commands;
mod daemon;
mod download;
mod exit_codes;
mod failure;
mod follow;
mod nearest;
mod pack;
mod printer;
mod progress;
mod serve;
mod settings;
mod table;
mod times;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::run_command_line(std::env::args_os().collect()))
}
