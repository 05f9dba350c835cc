//! `insula up`: starts the local site.

use crate::cli::Context;
use crate::daemon::{Site, forget_aborts};
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::Tone;
use clap::Args;

/// Start the local site
///
/// Every verb that needs it does so by itself; this one also tells where it is, and tries again
/// after failures that kept it down.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct UpArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula up\n  curl -H \"Authorization: Bearer $(cat ~/.local/share/insula/api-key)\" \
         \"$(insula up --json | jq -r .address)/api/v1/sessions\"\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Starts it.
pub(crate) async fn up(context: Context, arguments: UpArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    forget_aborts(&settings);
    let (site, view) = Site::open_with_view(settings, &printer).await?;
    if arguments.json {
        printer.json(&view)?;
        return Ok(exit_codes::SUCCESS);
    }
    let socket = site.settings.socket().display().to_string();
    let rows = [
        ("site", view.site.clone()),
        ("home", view.home.clone()),
        ("socket", socket),
        (
            "address",
            view.address.clone().unwrap_or_else(|| "off".to_owned()),
        ),
        ("process", view.pid.to_string()),
        ("version", view.build.version.clone()),
        ("sessions", format!("{} living", view.living_sessions)),
    ];
    for (label, value) in rows {
        let label = printer.paint(Tone::Strong, &format!("{label:<12}"));
        printer.line(&format!("{label}{value}"))?;
    }
    Ok(exit_codes::SUCCESS)
}
