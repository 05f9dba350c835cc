//! `insula unclaimed`: what runs on nodes and belongs to no session.

use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::table::{Cell, Table};
use clap::{Args, Subcommand};
use public_api::{StopSession, UnclaimedView};

/// Show what runs on nodes and belongs to no session
///
/// A node has such members after the site's store was lost or restored from an older copy. They run
/// on, for a day, until an operator ends them: nothing is stopped because it is not known.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct UnclaimedArguments {
    #[command(subcommand)]
    act: Option<Act>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// End them, and keep what they leave on the node
    Stop {
        /// Ids of members
        #[arg(required = true, value_name = "MEMBER")]
        members: Vec<String>,
        /// The first signal: a name or a number [default: TERM]
        #[arg(short, long, value_parser = arguments::signal)]
        signal: Option<i32>,
        /// From the first signal to SIGKILL [default: 10s]
        #[arg(short, long, value_name = "DURATION", value_parser = arguments::span)]
        grace: Option<String>,
    },
    /// End them if they live, and remove all they leave
    Rm {
        /// Ids of members
        #[arg(required = true, value_name = "MEMBER")]
        members: Vec<String>,
    },
}

fn help() -> String {
    format!(
        "Examples:\n  insula unclaimed\n  insula unclaimed stop MEMBER\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Lists them, or has them ended.
pub(crate) async fn unclaimed(
    context: Context,
    arguments: UnclaimedArguments,
) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let told = match arguments.act {
        None => {
            let all = site.call(async |client| client.unclaimed().await).await?;
            if arguments.json {
                printer.json(&serde_json::json!({ "unclaimed": all }))?;
            } else if all.is_empty() {
                printer.note("every member belongs to a session");
            } else {
                for line in table(&all).lines(&printer) {
                    printer.line(&line)?;
                }
            }
            return Ok(exit_codes::SUCCESS);
        }
        Some(Act::Stop {
            members,
            signal,
            grace,
        }) => {
            let order = StopSession { signal, grace };
            for member in &members {
                site.call(async |client| client.stop_unclaimed(member, &order).await)
                    .await?;
            }
            members
        }
        Some(Act::Rm { members }) => {
            for member in &members {
                site.call(async |client| client.remove_unclaimed(member).await)
                    .await?;
            }
            members
        }
    };
    if arguments.json {
        printer.json(&serde_json::json!({ "told": told }))?;
    } else {
        for member in &told {
            printer.line(&format!("{member}: its node is told"))?;
        }
    }
    Ok(exit_codes::SUCCESS)
}

fn table(all: &[UnclaimedView]) -> Table {
    let headings = ["MEMBER", "NODE", "STATE", "NAME", "USER", "COMMAND"];
    let mut table = Table::new(&headings, &[5]).dispensable(&[4, 3]);
    for member in all {
        table.push(vec![
            Cell::plain(&member.id),
            Cell::plain(&member.node),
            Cell::plain(&member.state),
            Cell::plain(member.name.as_deref().unwrap_or("?")),
            Cell::plain(member.user.as_deref().unwrap_or("?")),
            Cell::plain(member.command.join(" ")),
        ]);
    }
    table
}
