//! What a foreground run says and does when its session has ended.

use crate::daemon::Site;
use crate::download::{Fetch, Returned, fetch};
use crate::exit_codes;
use crate::failure::Failure;
use crate::pack::Manifest;
use public_api::{FilesQuery, OutcomeView, SessionView};
use std::path::{Path, PathBuf};

/// So many files are named in the summary.
const NAMED: usize = 3;

/// Says why it failed, unless the exit code says it all or nobody wants words; gives the exit code.
pub(super) fn tell(site: &Site, session: &SessionView, quiet: bool) -> u8 {
    let Some(outcome) = &session.outcome else {
        return exit_codes::INSULA_FAILED;
    };
    if !quiet && !speaks_for_itself(outcome) {
        site.printer.error(&outcome.reason);
        if let Some(hint) = hint(outcome, &session.name) {
            site.printer.hint(&hint);
        }
    }
    outcome.exit_code
}

/// The command ended by itself: its exit code is what its user expects.
fn speaks_for_itself(outcome: &OutcomeView) -> bool {
    outcome.outcome == "succeeded" || outcome.cause == "exit_code"
}

fn hint(outcome: &OutcomeView, name: &str) -> Option<String> {
    match outcome.cause.as_str() {
        "out_of_memory" => Some("give it more with --memory".to_owned()),
        "expired" => Some("give it longer with --time".to_owned()),
        "command_not_found" => {
            Some("what the image lacks cannot be run; --upload sends files along".to_owned())
        }
        "command_not_runnable" | "signal" | "stopped" | "cancelled" => None,
        _ => Some(format!("`insula why {name}` tells more")),
    }
}

/// Brings new and changed files back to where the upload came from.
pub(super) async fn bring_files(
    site: &Site,
    session: &SessionView,
    directory: PathBuf,
    sent: Manifest,
) -> Result<(), Failure> {
    if session.started_at.is_none() {
        return Ok(());
    }
    let order = Fetch {
        session: session.id.clone(),
        session_name: session.name.clone(),
        query: FilesQuery {
            path: String::new(),
            changed: true,
        },
        directory,
        sent,
    };
    let returned = Box::pin(fetch(site, order)).await?;
    tell_returned(site, &returned);
    Ok(())
}

/// One line about what came back; a line for each file that needs a look.
pub(crate) fn tell_returned(site: &Site, returned: &Returned) {
    let printer = &site.printer;
    if (printer.is_watched() || printer.is_verbose())
        && let Some(line) = summary(returned)
    {
        printer.note(&line);
    }
    for (path, other) in &returned.beside {
        let (path, other) = (path.display(), other.display());
        printer.warning(&format!(
            "{path} changed meanwhile: what came back is in {other}"
        ));
    }
    for (path, reason) in &returned.skipped {
        printer.warning(&format!("{} did not come back: {reason}", path.display()));
    }
}

fn summary(returned: &Returned) -> Option<String> {
    let files: Vec<&Path> = returned
        .written
        .iter()
        .map(PathBuf::as_path)
        .chain(returned.beside.iter().map(|(_, other)| other.as_path()))
        .collect();
    let named: Vec<String> = files
        .iter()
        .take(NAMED)
        .map(|path| path.display().to_string())
        .collect();
    let more = if files.len() > NAMED { " …" } else { "" };
    match files.len() {
        0 => None,
        1 => Some(format!("1 file came back: {}", named.join(""))),
        count => Some(format!(
            "{count} files came back: {}{more}",
            named.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{speaks_for_itself, summary};
    use crate::download::Returned;
    use public_api::OutcomeView;

    #[test]
    fn a_plain_exit_code_needs_no_words() {
        let outcome = |outcome: &str, cause: &str| OutcomeView {
            outcome: outcome.to_owned(),
            cause: cause.to_owned(),
            reason: String::new(),
            exit_code: 1,
        };
        assert!(speaks_for_itself(&outcome("succeeded", "succeeded")));
        assert!(speaks_for_itself(&outcome("failed", "exit_code")));
        assert!(!speaks_for_itself(&outcome("failed", "out_of_memory")));
        assert!(!speaks_for_itself(&outcome("stopped", "stopped")));
    }

    #[test]
    fn what_came_back_is_said_in_one_line() {
        let returned = |count: usize| Returned {
            written: (0..count)
                .map(|number| format!("out/{number}").into())
                .collect(),
            ..Returned::default()
        };
        assert_eq!(summary(&returned(0)), None);
        assert_eq!(
            summary(&returned(1)).as_deref(),
            Some("1 file came back: out/0")
        );
        let many = summary(&returned(4));
        assert_eq!(
            many.as_deref(),
            Some("4 files came back: out/0, out/1, out/2 …")
        );
    }
}
