//! How a leader learns that its store is an older copy of itself: a small file beside it.
//!
//! The mark says which file the store is and how far it had come. Whoever puts a backup in the
//! store's place leaves another file there, or an earlier state, or no mark at all. A file system
//! or a virtual machine that is set back as a whole takes the mark along, and nothing is noticed
//! here: then nodes tell that were not set back with it, or an operator removes the mark.
//!
//! To take a store for a copy that is none costs little: what waits is placed when all nodes have
//! told what they have. So whatever is odd about a mark counts as a restoration, and a mark that
//! cannot be written is no reason to stop.

use lifecycle::rows::SiteRow;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The name of the file, in the store's directory.
pub const MARK_FILE: &str = "site.mark";
/// Its size in bytes: one sector, so that it is written whole or not at all.
const SIZE: usize = 512;
/// Only for its owner, as the store.
const MODE: u32 = 0o600;

/// See the module.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    /// Of the store's file; `None` where the file system does not tell.
    identity: Option<Identity>,
    file: Option<File>,
    written: Option<State>,
    /// That it cannot be written was told.
    told: bool,
}

/// Which file a store is: a copy has another inode, or was made at another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    inode: u64,
    made_seconds: i64,
    made_nanoseconds: u32,
}

/// How far the store had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    store: Option<Identity>,
    incarnation: u64,
    epoch: u64,
    next_event: u64,
}

impl State {
    /// Ascends as long as a store is not set back.
    fn progress(&self) -> (u64, u64, u64) {
        (self.incarnation, self.epoch, self.next_event)
    }
}

impl Mark {
    /// The mark of the store at `store`, which is there.
    pub(super) fn of(store: &Path) -> Self {
        let path = store.with_file_name(MARK_FILE);
        let written = read(&path).unwrap_or_else(|error| {
            let path = path.display();
            tracing::warn!(%error, "the store's mark {path} cannot be read");
            None
        });
        Self {
            identity: identity(store).ok(),
            path,
            file: None,
            written,
            told: false,
        }
    }

    /// Whether the store, of which this is the site's row, is an older copy: then the highest
    /// incarnation that is known of it, 0 if none is.
    pub(super) fn restored(&self, row: &SiteRow) -> Option<u64> {
        // Nobody has ever led a new one.
        if row.epoch == 0 {
            return None;
        }
        let found = self.state(row);
        let Some(written) = &self.written else {
            return Some(0);
        };
        let is_set_back = written.progress() > found.progress();
        let is_other = written.store != found.store;
        (is_set_back || is_other).then_some(written.incarnation)
    }

    /// Takes note of what was committed.
    pub(super) fn follow(&mut self, row: &SiteRow) {
        let state = self.state(row);
        if self.written == Some(state) {
            return;
        }
        match self.write(&state) {
            Ok(()) => self.written = Some(state),
            Err(error) if !self.told => {
                self.told = true;
                let path = self.path.display();
                tracing::warn!(%error, "the store's mark {path} cannot be written");
            }
            Err(_) => {}
        }
    }

    fn state(&self, row: &SiteRow) -> State {
        State {
            store: self.identity,
            incarnation: row.incarnation,
            epoch: row.epoch,
            next_event: row.next_event,
        }
    }

    /// Overwrites the file in place. Only a new leader waits for the disk: a mark that a power cut
    /// takes back by some events is behind its store, and a store that is ahead is no copy.
    fn write(&mut self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec(state)?;
        text.resize(SIZE, b' ');
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(false);
                options.mode(MODE).open(&self.path)?
            }
        };
        file.write_all_at(&text, 0)?;
        let is_new = self
            .written
            .is_none_or(|written| written.epoch != state.epoch || written.store != state.store);
        if is_new {
            file.sync_all()?;
        }
        self.file = Some(file);
        Ok(())
    }
}

/// What stands in the file; `None` if it is missing or is not a mark.
fn read(path: &Path) -> io::Result<Option<State>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(SIZE as u64).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

fn identity(store: &Path) -> io::Result<Identity> {
    let found = statx(
        CWD,
        store,
        AtFlags::empty(),
        StatxFlags::INO | StatxFlags::BTIME,
    )?;
    Ok(Identity {
        inode: found.stx_ino,
        made_seconds: found.stx_btime.tv_sec,
        made_nanoseconds: found.stx_btime.tv_nsec,
    })
}
