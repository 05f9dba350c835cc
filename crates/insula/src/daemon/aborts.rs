//! Daemons that ended by a failure of their own: after a few within a minute none is started any
//! more, since a daemon that dies at each start would otherwise be started for ever.
//!
//! A daemon that was killed from outside does not count: it leaves no line here.

use crate::failure::Failure;
use crate::settings::Settings;
use process::{Durability, write_file_atomic};
use serde::{Deserialize, Serialize};

/// So many aborts within [`WITHIN_SECONDS`] keep the daemon down.
pub(crate) const ABORTS_LIMIT: usize = 5;
/// See [`ABORTS_LIMIT`].
const WITHIN_SECONDS: i64 = 60;
/// So many aborts are kept for `insula doctor`.
const KEPT: usize = 20;

/// One daemon's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Abort {
    /// When, in seconds since 1970.
    pub(crate) at: i64,
    /// Which process.
    pub(crate) pid: u32,
    /// What failed, then its causes.
    pub(crate) chain: Vec<String>,
}

/// The aborts on record, the oldest first. A file that cannot be read has none: it must not keep
/// a daemon down.
pub(crate) fn read_aborts(settings: &Settings) -> Vec<Abort> {
    let text = std::fs::read_to_string(settings.aborts_file()).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Puts this process, or another one, on record.
pub(crate) fn record_abort(settings: &Settings, pid: u32, chain: Vec<String>) {
    let mut aborts = read_aborts(settings);
    let at = jiff::Timestamp::now().as_second();
    aborts.push(Abort { at, pid, chain });
    let kept = &aborts[aborts.len().saturating_sub(KEPT)..];
    let lines: String = kept
        .iter()
        .map(|abort| serde_json::to_string(abort).expect("plain fields") + "\n")
        .collect();
    // Whoever records is dying already: without the record the next one starts, no more.
    let file = settings.aborts_file();
    let _ = write_file_atomic(&file, lines.as_bytes(), 0o600, Durability::Process);
}

/// Forgets them: after an orderly end, and when the user says `insula up`.
pub(crate) fn forget_aborts(settings: &Settings) {
    let _ = std::fs::remove_file(settings.aborts_file());
}

/// An error if too many daemons ended too soon one after the other.
pub(crate) fn refuse_after_aborts(settings: &Settings) -> Result<(), Failure> {
    let aborts = read_aborts(settings);
    if !too_many(&aborts) {
        return Ok(());
    }
    let last = aborts.last().expect("there are many");
    let failure = chained(&last.chain).context(format!(
        "the daemon stays down: it failed {ABORTS_LIMIT} times within a minute"
    ));
    Err(failure.hint("`insula doctor` shows each failure; `insula up` tries again"))
}

/// A failure that says what a chain says, causes last.
pub(crate) fn chained(chain: &[String]) -> Failure {
    let mut links = chain.iter().rev().cloned();
    let root = links
        .next()
        .unwrap_or_else(|| "it did not say why".to_owned());
    links.fold(Failure::new(root), Failure::context)
}

fn too_many(aborts: &[Abort]) -> bool {
    match aborts {
        [.., first, _, _, _, last] => last.at - first.at <= WITHIN_SECONDS,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Abort, forget_aborts, read_aborts, record_abort, refuse_after_aborts, too_many};
    use crate::settings::{Environment, Settings};

    #[test]
    fn five_within_a_minute_are_too_many() {
        let at = |times: &[i64]| -> Vec<Abort> {
            let abort = |at: &i64| Abort {
                at: *at,
                pid: 1,
                chain: Vec::new(),
            };
            times.iter().map(abort).collect()
        };
        assert!(!too_many(&at(&[])));
        assert!(!too_many(&at(&[1, 2, 3, 4])));
        assert!(too_many(&at(&[1, 2, 3, 4, 61])));
        assert!(!too_many(&at(&[1, 2, 3, 4, 62])));
        assert!(too_many(&at(&[1, 100, 101, 102, 103, 104])));
    }

    #[test]
    fn the_last_chain_is_told_until_it_is_forgotten() {
        let home = tempfile::tempdir().expect("a directory");
        let settings = Settings::read(Some(home.path()), Environment::default()).expect("read");
        for _ in 0..4 {
            record_abort(&settings, 7, vec!["first".to_owned()]);
        }
        assert!(refuse_after_aborts(&settings).is_ok());
        record_abort(
            &settings,
            8,
            vec!["cannot start".to_owned(), "no disk".to_owned()],
        );
        let failure = refuse_after_aborts(&settings).expect_err("too many");
        assert_eq!(failure.causes(), ["cannot start", "no disk"]);
        for _ in 0..40 {
            record_abort(&settings, 9, Vec::new());
        }
        assert_eq!(read_aborts(&settings).len(), super::KEPT);
        forget_aborts(&settings);
        assert!(refuse_after_aborts(&settings).is_ok());
    }
}
