//! What a foreground run says and does when its session has ended.

use crate::daemon::Site;
use crate::download::{Fetch, Fetched, Limits, Returned, fetch};
use crate::exit_codes;
use crate::failure::Failure;
use crate::pack::{BYTES_LIMIT, FILES_LIMIT, Manifest};
use crate::printer::{printable, shown};
use domain::amounts::show_bytes;
use public_api::{FilesQuery, OutcomeView, SessionView};
use std::path::{Path, PathBuf};

/// So many files are named in the summary.
const NAMED: usize = 3;
/// So many files that need a look are named one by one.
const TOLD_LIMIT: usize = 20;
/// What comes back by itself: as much as goes along.
pub(super) const RETURN_LIMITS: Limits = Limits {
    bytes: BYTES_LIMIT,
    files: FILES_LIMIT,
};

/// Says why it failed, unless the exit code says it all or nobody wants words; gives the exit code.
/// `here` is the file that the command may have meant, if there is one.
pub(super) fn tell(site: &Site, session: &SessionView, quiet: bool, here: Option<&str>) -> u8 {
    let Some(outcome) = &session.outcome else {
        return exit_codes::INSULA_FAILED;
    };
    if !quiet && !speaks_for_itself(outcome) {
        site.printer.error(&outcome.reason);
        if let Some(hint) = hint(outcome, &session.name, here) {
            site.printer.hint(&hint);
        }
    }
    outcome.exit_code
}

/// Says how a session ended that others started; gives the exit code.
pub(crate) fn tell_outcome(site: &Site, session: &SessionView) -> u8 {
    tell(site, session, false, None)
}

/// Somebody stopped it, so that it has no exit code of its own.
pub(super) fn was_stopped(session: &SessionView) -> bool {
    let ended = session.outcome.as_ref();
    ended.is_some_and(|outcome| matches!(outcome.outcome.as_str(), "stopped" | "cancelled"))
}

/// Its command ended by itself, and had the time to put its terminal in order.
pub(crate) fn ended_by_itself(session: &SessionView) -> bool {
    session.outcome.as_ref().is_some_and(speaks_for_itself)
}

/// The command ended by itself: its exit code is what its user expects.
fn speaks_for_itself(outcome: &OutcomeView) -> bool {
    outcome.outcome == "succeeded" || outcome.cause == "exit_code"
}

fn hint(outcome: &OutcomeView, name: &str, here: Option<&str>) -> Option<String> {
    match outcome.cause.as_str() {
        "node_out_of_memory" => {
            Some("its node has more to do than memory for it: see `insula top`".to_owned())
        }
        "out_of_memory" => Some("give it more with --memory".to_owned()),
        "expired" => Some("give it longer with --time".to_owned()),
        "command_not_found" => Some(match here {
            Some(file) => format!(
                "`{}` lies here but did not go along; `--upload .` sends this directory",
                printable(file)
            ),
            None => "what the image lacks cannot be run; --upload sends files along".to_owned(),
        }),
        "command_not_runnable" | "signal" | "stopped" | "cancelled" => None,
        _ => Some(format!("`insula why {name}` tells more")),
    }
}

/// Brings new and changed files back to where the upload came from. Gives an exit code if a signal
/// ended that.
pub(super) async fn bring_files(
    site: &Site,
    session: &SessionView,
    directory: PathBuf,
    sent: Manifest,
) -> Result<Option<u8>, Failure> {
    if session.started_at.is_none() {
        return Ok(None);
    }
    let order = Fetch {
        session: session.id.clone(),
        session_name: session.name.clone(),
        query: FilesQuery {
            path: String::new(),
            changed: true,
            ..FilesQuery::default()
        },
        directory,
        sent,
        limits: Some(RETURN_LIMITS),
    };
    let name = &session.name;
    match Box::pin(fetch(site, order)).await? {
        Fetched::Done(returned) => {
            tell_returned(site, name, &returned);
            Ok(None)
        }
        Fetched::Interrupted { exit_code } => {
            site.printer.note(&format!(
                "interrupted while files came back: `insula download {name}` brings the rest"
            ));
            Ok(Some(exit_code))
        }
    }
}

/// One line about what came back; a line for each file that needs a look.
pub(crate) fn tell_returned(site: &Site, session: &str, returned: &Returned) {
    let printer = &site.printer;
    if (printer.is_watched() || printer.is_verbose())
        && let Some(line) = summary(returned)
    {
        printer.note(&line);
    }
    tell_warnings(site, session, returned);
}

/// A line for each file that needs a look.
pub(crate) fn tell_warnings(site: &Site, session: &str, returned: &Returned) {
    for line in warnings(session, returned) {
        site.printer.warning(&line);
    }
}

fn warnings(session: &str, returned: &Returned) -> Vec<String> {
    let beside = returned.beside.iter().map(|beside| {
        let (path, other) = (shown(&beside.path), shown(&beside.other));
        format!("{path} {}: what came back is in {other}", beside.reason)
    });
    let skipped = returned
        .skipped
        .iter()
        .map(|(path, reason)| format!("{} did not come back: {reason}", shown(path)));
    let count = returned.beside.len() + returned.skipped.len();
    let mut lines: Vec<String> = beside.chain(skipped).take(TOLD_LIMIT).collect();
    if count > TOLD_LIMIT {
        lines.push(format!("and {} more", count - TOLD_LIMIT));
    }
    let too_much = &returned.too_much;
    if let Some((largest, size)) = &too_much.largest {
        let at_least = if too_much.broke_off { "at least " } else { "" };
        lines.push(format!(
            "{at_least}{files} of what came back did not fit into {bytes} MB and {limit} files, \
             the largest {largest} ({size}): `insula download {session} {path}` brings it",
            files = too_much.files,
            bytes = RETURN_LIMITS.bytes / 1_000_000,
            limit = RETURN_LIMITS.files,
            largest = shown(largest),
            size = show_bytes((*size).into()),
            path = quoted(&shown(largest)),
        ));
    }
    lines
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "_-./+,=@".contains(character);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn summary(returned: &Returned) -> Option<String> {
    let files: Vec<&Path> = returned
        .written
        .iter()
        .map(PathBuf::as_path)
        .chain(returned.beside.iter().map(|beside| beside.other.as_path()))
        .collect();
    let named: Vec<String> = files.iter().take(NAMED).map(shown).collect();
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
    use super::{hint, quoted, speaks_for_itself, summary, warnings};
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

    #[test]
    fn what_did_not_fit_is_named_with_the_command_that_brings_it() {
        let mut returned = Returned::default();
        assert_eq!(warnings("job", &returned), [""; 0]);
        returned.too_much.files = 2;
        returned.too_much.largest = Some(("out/big one".into(), 1 << 40));
        assert_eq!(
            warnings("job", &returned),
            [
                "2 of what came back did not fit into 200 MB and 10000 files, the largest \
              out/big one (1 TiB): `insula download job 'out/big one'` brings it"
            ]
        );
        returned.skipped = vec![("a\u{1b}[2J".into(), "no"); 30];
        let lines = warnings("job", &returned);
        assert_eq!(lines.len(), 22);
        assert_eq!(lines[0], "a�[2J did not come back: no");
        assert_eq!(lines[20], "and 10 more");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_command_that_lies_here_is_said_to_need_an_upload() {
        let outcome = OutcomeView {
            outcome: "failed".to_owned(),
            cause: "command_not_found".to_owned(),
            reason: String::new(),
            exit_code: 127,
        };
        let said = |here| hint(&outcome, "job", here).expect("a hint");
        assert!(said(Some("simulate")).contains("`--upload .`"));
        assert!(!said(None).contains("lies here"));
    }
}
