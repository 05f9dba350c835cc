//! `insula download`: files of a session, while it runs and after.

use super::run::{tell_returned, tell_warnings};
use crate::cli::Context;
use crate::daemon::Site;
use crate::download::{Fetch, FetchElements, Fetched, Returned, fetch, fetch_elements, together};
use crate::elements::all_elements;
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::pack::Manifest;
use crate::printer::shown;
use clap::Args;
use public_api::{ArrayView, FilesQuery};
use std::path::{Path, PathBuf};

/// Bring files of a session or an array here
///
/// Of an array the files of element I come into a directory I of their own.
///
/// A file that is here already is replaced only if it is one that came from a session and was not
/// changed since; else the new one is put beside it as NAME.insula-SESSION.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct DownloadArguments {
    /// Name or id of a session, an element (NAME.7) or an array
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
    let named = Named::find(&site, name).await?;
    let directory = match (&arguments.to, &arguments.path) {
        (Some(to), _) => here.join(to),
        (None, Some(_)) => here.clone(),
        (None, None) => here.join(named.name()),
    };
    make(&directory)?;
    let session = match named {
        Named::Session(session) => session,
        Named::Array(array) => return of_array(&site, &array, &arguments, directory).await,
    };
    let order = Fetch {
        session: session.id.clone(),
        session_name: session.name.clone(),
        query: FilesQuery {
            path: arguments.path.clone().unwrap_or_default(),
            changed: arguments.changed,
            ..FilesQuery::default()
        },
        directory: directory.clone(),
        sent: Manifest::new(),
        limits: None,
    };
    let returned = match Box::pin(fetch(&site, order)).await? {
        Fetched::Done(returned) => returned,
        Fetched::Interrupted { exit_code } => {
            printer.note("interrupted: the same command again brings the rest");
            return Ok(exit_code);
        }
    };
    if arguments.json {
        printer.json(&as_json(&directory, &returned))?;
    } else {
        tell_returned(&site, &session.name, &returned);
    }
    Ok(exit_codes::SUCCESS)
}

async fn of_array(
    site: &Site,
    array: &ArrayView,
    arguments: &DownloadArguments,
    directory: PathBuf,
) -> Result<u8, Failure> {
    let elements = all_elements(site, &array.id).await?;
    let order = FetchElements {
        array: array.name.clone(),
        query: FilesQuery {
            path: arguments.path.clone().unwrap_or_default(),
            changed: arguments.changed,
            ..FilesQuery::default()
        },
        directory: directory.clone(),
        limits: None,
    };
    let all = fetch_elements(site, &order, &elements).await;
    let returned = together(&all);
    let mut code = exit_codes::SUCCESS;
    for from in all {
        match from.result {
            Ok(Fetched::Done(returned)) if !arguments.json => {
                tell_warnings(site, &from.name, &returned);
            }
            Ok(Fetched::Done(_)) => {}
            Ok(Fetched::Interrupted { exit_code }) => {
                let said = "interrupted: the same command again brings the rest";
                site.printer.note(said);
                return Ok(exit_code);
            }
            Err(failure) => {
                let failure = failure.context(format!("no files of {}", from.name));
                site.printer.failure(&failure, arguments.json);
                code = exit_codes::FAILURE;
            }
        }
    }
    if arguments.json {
        site.printer.json(&as_json(&directory, &returned))?;
    } else {
        let told = match returned.written.len() {
            0 => "no files came".to_owned(),
            1 => "1 file came, into the directory I/ of its element I".to_owned(),
            count => format!("{count} files came, those of element I into I/"),
        };
        site.printer.note(&told);
    }
    Ok(code)
}

/// Names that are not UTF-8 are shown as near as they can be.
fn as_json(directory: &Path, returned: &Returned) -> serde_json::Value {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let written: Vec<String> = returned.written.iter().map(text).collect();
    let beside: Vec<[String; 3]> = returned
        .beside
        .iter()
        .map(|beside| {
            let reason = beside.reason.to_owned();
            [text(&beside.path), text(&beside.other), reason]
        })
        .collect();
    let skipped: Vec<(String, &str)> = returned
        .skipped
        .iter()
        .map(|(path, reason)| (text(path), *reason))
        .collect();
    serde_json::json!({
        "directory": directory.to_string_lossy(),
        "written": written,
        "beside": beside,
        "skipped": skipped,
    })
}

fn make(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::from(error).context(format!("cannot make {}", shown(directory))))
}

#[cfg(test)]
mod tests {
    use super::as_json;
    use crate::download::Returned;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    #[test]
    fn names_that_are_not_utf_8_are_told_all_the_same() {
        let returned = Returned {
            written: vec![OsStr::from_bytes(b"caf\xe9").into()],
            ..Returned::default()
        };
        let json = as_json(Path::new(OsStr::from_bytes(b"/d\xff")), &returned);
        assert_eq!(json["written"][0], "caf\u{fffd}");
        assert_eq!(json["directory"], "/d\u{fffd}");
    }
}
