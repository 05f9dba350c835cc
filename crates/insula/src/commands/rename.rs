//! `insula rename`: gives a session another name.

use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use clap::Args;
use public_api::ChangeSession;

/// Give a session another name
///
/// The name must be free among your living sessions. Inside, the session keeps the name that it
/// was started with.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct RenameArguments {
    /// Name or id of the session
    session: String,
    /// The new name
    #[arg(value_name = "NEW", value_parser = arguments::name)]
    name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula rename python3-2 baseline\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Renames a session.
pub(crate) async fn rename(context: Context, arguments: RenameArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let name = arguments.session.as_str();
    // By id: the request may have to be made twice, and then the old name leads nowhere.
    let session = site.call(async |client| client.session(name).await).await?;
    let change = ChangeSession {
        name: arguments.name.clone(),
    };
    let view = site
        .call(async |client| client.change(&session.id, &change).await)
        .await?;
    if arguments.json {
        printer.json(&view)?;
    } else {
        printer.line(&format!("{} is now called {}", session.name, view.name))?;
    }
    Ok(exit_codes::SUCCESS)
}
