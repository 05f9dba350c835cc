//! `insula priority`: who goes first among those that wait.

use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::printer::printable;
use clap::Args;
use public_api::{PRIORITY_LIMIT, PriorityOrder};

/// Give a session or an array another priority
///
/// Among sessions that wait for a place one of a higher priority goes first, and of the same
/// priority the older one; a low one may wait for as long as there is work of a higher one. Nothing
/// that runs is stopped. Of an array it is the priority of all its elements.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct PriorityArguments {
    /// Name or id of a session or an array
    session: String,
    /// The new one, 0 to 100; whoever does not say has 50
    #[arg(allow_negative_numbers = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=i64::from(PRIORITY_LIMIT)))]
    priority: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula priority train 90\n  insula priority sweep 10\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Changes a priority.
pub(crate) async fn priority(
    context: Context,
    arguments: PriorityArguments,
) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let priority = arguments.priority;
    let order = PriorityOrder { priority };
    let (name, priority, json) = match Named::find(&site, &arguments.session).await? {
        Named::Session(session) => {
            let id = session.id.as_str();
            let asked = async |client: &client::Client| client.prioritize(id, order).await;
            let view = site.call(asked).await?;
            let json = serde_json::to_value(&view).map_err(anyhow::Error::from)?;
            (view.name, view.priority, json)
        }
        Named::Array(array) => {
            let id = array.id.as_str();
            let asked = async |client: &client::Client| client.prioritize_array(id, order).await;
            let view = site.call(asked).await?;
            let json = serde_json::to_value(&view).map_err(anyhow::Error::from)?;
            (view.name, view.priority, json)
        }
    };
    if arguments.json {
        printer.json(&json)?;
    } else {
        printer.line(&format!("{}: priority {priority}", printable(&name)))?;
    }
    Ok(exit_codes::SUCCESS)
}
