//! `insula completion`: completions for a shell.

use crate::cli::grammar;
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::Printer;
use clap::Args;
use clap_complete::Shell;

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct CompletionArguments {
    /// The shell
    shell: Shell,
}

fn help() -> String {
    format!(
        "Examples:\n  source <(insula completion bash)\n  \
         insula completion fish > ~/.config/fish/completions/insula.fish\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Prints them.
pub(crate) fn completion(
    arguments: &CompletionArguments,
    printer: &Printer,
) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut grammar(), "insula", &mut script);
    printer.bytes(&script)?;
    Ok(exit_codes::SUCCESS)
}
