//! `insula download`: files of a session, while it runs and after.

use super::run::tell_returned;
use crate::cli::Context;
use crate::daemon::Site;
use crate::download::{Fetch, fetch};
use crate::exit_codes;
use crate::failure::Failure;
use crate::pack::Manifest;
use clap::Args;
use public_api::FilesQuery;
use std::path::{Path, PathBuf};

/// Bring files of a session here
///
/// A file that is here already is replaced only if it is one that came from a session and was not
/// changed since; else the new one is put beside it as NAME.insula-SESSION.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct DownloadArguments {
    /// Name or id of the session
    session: String,
    /// A file or directory, relative to /work [default: all of it]
    path: Option<String>,
    /// Where to put it [default: with PATH here, else a directory named like the session]
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
    /// Only files that are new or differ from what was uploaded
    #[arg(long)]
    changed: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula download train\n  insula download train out/model.json --to .\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Brings files here.
pub(crate) async fn download(
    context: Context,
    arguments: DownloadArguments,
) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let here = settings.environment.current_directory.clone();
    let site = Site::open(settings, &printer).await?;
    let name = arguments.session.as_str();
    let session = site.call(async |client| client.session(name).await).await?;
    let directory = match (&arguments.to, &arguments.path) {
        (Some(to), _) => here.join(to),
        (None, Some(_)) => here.clone(),
        (None, None) => here.join(&session.name),
    };
    make(&directory)?;
    let order = Fetch {
        session: session.id.clone(),
        session_name: session.name.clone(),
        query: FilesQuery {
            path: arguments.path.clone().unwrap_or_default(),
            changed: arguments.changed,
        },
        directory: directory.clone(),
        sent: Manifest::new(),
    };
    let returned = Box::pin(fetch(&site, order)).await?;
    if arguments.json {
        printer.json(&serde_json::json!({
            "directory": directory,
            "written": returned.written,
            "beside": returned.beside,
            "skipped": returned.skipped,
        }))?;
    } else {
        tell_returned(&site, &returned);
    }
    Ok(exit_codes::SUCCESS)
}

fn make(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|error| {
        Failure::from(error).context(format!("cannot make {}", directory.display()))
    })
}
