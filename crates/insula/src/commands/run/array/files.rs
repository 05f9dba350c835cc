//! Files of an array on their way back, those of element I into `I/`.

use super::super::ending::{RETURN_LIMITS, tell_warnings};
use crate::daemon::Site;
use crate::download::{FetchElements, Fetched, fetch_elements, together};
use crate::exit_codes;
use crate::failure::Failure;
use public_api::{ArrayView, ElementView, FilesQuery};
use std::path::PathBuf;

/// Brings new and changed files back; gives the exit code, which is `code` if nothing goes wrong.
pub(super) async fn bring_files(
    site: &Site,
    array: &ArrayView,
    elements: &[ElementView],
    root: PathBuf,
    code: u8,
) -> Result<u8, Failure> {
    let printer = &site.printer;
    let name = &array.name;
    let order = FetchElements {
        array: name.clone(),
        query: FilesQuery {
            changed: true,
            ..FilesQuery::default()
        },
        directory: root,
        limits: Some(RETURN_LIMITS),
    };
    let all = fetch_elements(site, &order, elements).await;
    let came = together(&all).written.len();
    let mut code = code;
    for from in all {
        match from.result {
            Ok(Fetched::Done(returned)) => tell_warnings(site, &from.name, &returned),
            Ok(Fetched::Interrupted { exit_code }) => {
                printer.note(&format!(
                    "interrupted while files came back: `insula download {name}` brings them all"
                ));
                return Ok(exit_code);
            }
            Err(failure) => {
                let hint = format!("`insula download {}` tries again", from.name);
                printer.failure(&failure.hint(hint), false);
                if code == exit_codes::SUCCESS {
                    code = exit_codes::INSULA_FAILED;
                }
            }
        }
    }
    if came > 0 && (printer.is_watched() || printer.is_verbose()) {
        let files = if came == 1 { "file" } else { "files" };
        printer.note(&format!(
            "{came} {files} came back, those of element I into I/"
        ));
    }
    Ok(code)
}
