//! The ids of purged members: what makes sure that they are never run again.

use super::{DirectoryError, failed, read_small};
use domain::{MemberId, Timestamp};
use lifecycle::agent::GONE_LIMIT;
use process::{Durability, write_file_atomic};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Lines that are added before the file is written anew with the newest [`GONE_LIMIT`] only. A
/// line has at most about 60 bytes, so the file stays below 8 MiB.
const LINES_LIMIT: usize = GONE_LIMIT + GONE_LIMIT / 2;

/// The file `gone`: `ID MICROSECONDS` by line, in the order of purging.
#[derive(Debug)]
pub(crate) struct GoneLog {
    path: PathBuf,
    lines: Mutex<VecDeque<(MemberId, i64)>>,
}

impl GoneLog {
    /// Reads the file. A line that was cut by a loss of power is passed over: its member's
    /// directory is still there.
    pub(crate) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let text = read_small(path)?.unwrap_or_default();
        let lines = String::from_utf8_lossy(&text)
            .lines()
            .filter_map(parse_line)
            .collect();
        Ok(Self {
            path: path.into(),
            lines: Mutex::new(lines),
        })
    }

    /// The ids, the longest gone first.
    pub(crate) fn members(&self) -> Vec<MemberId> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let from = lines.len().saturating_sub(GONE_LIMIT);
        lines.iter().skip(from).map(|(member, _)| *member).collect()
    }

    /// Remembers `member`, so that even a loss of power does not forget it. Blocks.
    pub(crate) fn add(&self, member: MemberId, at: Timestamp) -> Result<(), DirectoryError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.iter().any(|(known, _)| *known == member) {
            return Ok(());
        }
        if lines.len() >= LINES_LIMIT {
            let from = lines.len() - GONE_LIMIT;
            lines.drain(..from);
            let mut text = String::new();
            for (member, at) in lines.iter() {
                writeln!(text, "{member} {at}").expect("writing to a string works");
            }
            write_file_atomic(&self.path, text.as_bytes(), 0o600, Durability::Power)?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(failed("open", &self.path))?;
        // The line break comes first, too: a cut line before this one must not swallow it.
        let line = format!("\n{member} {}\n", at.0);
        file.write_all(line.as_bytes())
            .map_err(failed("append to", &self.path))?;
        file.sync_data().map_err(failed("sync", &self.path))?;
        lines.push_back((member, at.0));
        Ok(())
    }
}

fn parse_line(line: &str) -> Option<(MemberId, i64)> {
    let (member, at) = line.split_once(' ')?;
    Some((member.parse().ok()?, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::GoneLog;
    use domain::{MemberId, SessionId, Timestamp};
    use std::io::Write as _;

    #[test]
    fn ids_are_remembered_in_order_and_a_cut_line_harms_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gone");
        let id = |number| MemberId {
            session: SessionId(number),
            attempt: 1,
            index: 0,
        };
        let log = GoneLog::open(&path).expect("absent is empty");
        for number in [7, 3, 7] {
            log.add(id(number), Timestamp(1)).expect("added");
        }
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("there");
        file.write_all(b"000000000").expect("cut");
        let log = GoneLog::open(&path).expect("read");
        log.add(id(5), Timestamp(2)).expect("added");
        assert_eq!(
            GoneLog::open(&path).expect("read").members(),
            [id(7), id(3), id(5)]
        );
    }
}
