//! Why a daemon could not start, told through memory: its log and the list of aborts lie on a disk
//! that may be full, which is a frequent reason itself.
//!
//! A file without a name is the stdout of the daemon, which writes nothing else there. A pipe would
//! not do: it breaks when the command that started the daemon has ended.

use crate::settings::{Settings, file_system_of};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;

/// Longest words that are read, in bytes.
const WORDS_LIMIT: usize = 16 << 10;
/// With less than this free a disk counts as full, in bytes: the site's store keeps a reserve of
/// its own, so little is enough to go on.
const FULL_BELOW_BYTES: u64 = 1 << 20;

/// The side of the command that starts a daemon.
#[derive(Debug)]
pub(super) struct LastWords {
    file: File,
}

impl LastWords {
    pub(super) fn new() -> io::Result<Self> {
        let file = memfd_create("insula-last-words", MemfdFlags::CLOEXEC)?;
        Ok(Self { file: file.into() })
    }

    /// The daemon's stdout.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        Ok(self.file.try_clone()?.into())
    }

    /// What failed, then its causes; empty if the daemon said nothing.
    pub(super) fn chain(&self) -> Vec<String> {
        let mut bytes = vec![0; WORDS_LIMIT];
        let length = self.file.read_at(&mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        last.and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_default()
    }
}

/// The daemon's side: the words go to stdout.
pub(super) fn say_last_words(chain: &[String]) {
    let json = serde_json::to_string(chain).expect("texts become JSON");
    // Nobody may listen.
    let _ = writeln!(io::stdout().lock(), "{json}");
}

/// What to do about a full disk, if that is why the daemon failed.
pub(super) fn full_disk_hint(settings: &Settings, chain: &[String]) -> Option<String> {
    let full = [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT];
    let told = full.map(|errno| format!("os error {}", errno.raw_os_error()));
    let free = file_system_of(&settings.home).map_or(u64::MAX, |found| found.free_bytes);
    let says_so = chain
        .iter()
        .any(|link| told.iter().any(|told| link.contains(told.as_str())));
    (says_so || free < FULL_BELOW_BYTES).then(|| {
        format!(
            "the disk of {} is full: make room there and try again",
            settings.home.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{LastWords, full_disk_hint};
    use crate::settings::{Environment, Settings};
    use std::io::Write as _;

    #[test]
    fn the_last_line_is_the_chain() {
        let words = LastWords::new().expect("made");
        assert!(words.chain().is_empty());
        let mut theirs = words.file.try_clone().expect("cloned");
        theirs
            .write_all(b"something else\n[\"cannot start\",\"no disk\"]\n")
            .expect("written");
        assert_eq!(words.chain(), ["cannot start", "no disk"]);
    }

    #[test]
    fn a_full_disk_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let settings = Settings::read(Some(home.path()), Environment::default()).expect("read");
        let error = std::io::Error::from_raw_os_error(28);
        let hint = full_disk_hint(&settings, &["cannot write".to_owned(), error.to_string()]);
        assert!(hint.is_some_and(|hint| hint.contains("is full")));
        assert_eq!(full_disk_hint(&settings, &["other".to_owned()]), None);
    }
}
