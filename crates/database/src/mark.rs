//! How a leader learns that its store is an older copy of itself: a small file in its home.
//!
//! The mark says how far the store had come, and of a file of SQLite, beside which it lies, also
//! which file it is. Whoever puts a backup in the store's place leaves an earlier state there, or
//! another file, or no mark at all. A file system or a virtual machine that is set back as a whole
//! takes the mark along, and nothing is noticed here: then nodes tell that were not set back with
//! it, or an operator removes the mark.
//!
//! A database of PostgreSQL has a mark in the home of each manager, which follows it while the
//! manager leads and while it stands by. A home without one has never seen the database, which says
//! nothing of a restoration; nor does it matter where the database is: only that it knows less.
//!
//! To take a store for a copy that is none costs little where all nodes can tell what they have. So
//! whatever is odd about the mark of a file counts as a restoration, a mark of a database that cannot be
//! read too, and a mark that cannot be written is no reason to stop.

use domain::SiteId;
use lifecycle::rows::SiteRow;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The name of the file, in the directory of a store of SQLite.
pub const MARK_FILE: &str = "site.mark";
/// Its size in bytes: one sector, so that it is written whole or not at all.
const SIZE: usize = 512;
/// Only for its owner, as the store.
const MODE: u32 = 0o600;

/// See the module.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    kind: Kind,
    file: Option<File>,
    written: Option<State>,
    /// There is a file, and what it says cannot be read.
    is_damaged: bool,
    /// That it cannot be written was told.
    told: bool,
}

/// What the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// This file; `None` where the file system does not tell.
    File(Option<Identity>),
    /// A database of a server.
    Server,
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
    /// Of a database of a server.
    #[serde(default)]
    site: Option<SiteId>,
    incarnation: u64,
    epoch: u64,
    next_event: u64,
}

impl State {
    /// Knows something that `other` does not. In one incarnation both numbers only rise: a copy
    /// that somebody has led since has a higher epoch, and still fewer events.
    fn is_ahead_of(&self, other: &Self) -> bool {
        match self.incarnation.cmp(&other.incarnation) {
            Ordering::Less => false,
            Ordering::Equal => self.epoch > other.epoch || self.next_event > other.next_event,
            Ordering::Greater => true,
        }
    }
}

impl Mark {
    /// The mark of the store at `store`, which is there.
    pub(crate) fn of_file(store: &Path) -> Self {
        let kind = Kind::File(identity(store).ok());
        Self::at(store.with_file_name(MARK_FILE), kind)
    }

    /// The mark at `path` of a database of a server.
    pub(crate) fn of_server(path: PathBuf) -> Self {
        Self::at(path, Kind::Server)
    }

    fn at(path: PathBuf, kind: Kind) -> Self {
        let (written, is_damaged) = match read(&path) {
            Ok(written) => (written, false),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, "the store's mark {path} cannot be read");
                (None, true)
            }
        };
        Self {
            path,
            kind,
            file: None,
            written,
            is_damaged,
            told: false,
        }
    }

    /// Whether the store, of which this is the site's row, is an older copy: then the highest
    /// incarnation that is known of it, 0 if none is.
    pub(crate) fn restored(&self, row: &SiteRow) -> Option<u64> {
        // Nobody has ever led a new one.
        if row.epoch == 0 {
            return None;
        }
        let found = self.state(row);
        let written = match (&self.written, self.kind) {
            (Some(written), _) => written,
            (None, Kind::File(_)) => return Some(0),
            (None, Kind::Server) => return self.is_damaged.then_some(0),
        };
        let is_set_back = written.is_ahead_of(&found);
        let odd = match self.kind {
            Kind::File(_) => is_set_back || written.store != found.store,
            Kind::Server => is_set_back && written.site == found.site,
        };
        odd.then_some(written.incarnation)
    }

    /// Takes note of what was committed.
    pub(crate) fn follow(&mut self, row: &SiteRow) {
        let state = self.state(row);
        let is_known = self.written.is_some_and(|written| {
            // Who stands by may see a copy that its leader has not taken note of yet.
            let is_behind = written.site == state.site && written.is_ahead_of(&state);
            written == state || self.kind == Kind::Server && is_behind
        });
        if is_known {
            return;
        }
        match self.write(&state) {
            Ok(()) => (self.written, self.is_damaged) = (Some(state), false),
            Err(error) if !self.told => {
                self.told = true;
                let path = self.path.display();
                tracing::warn!(%error, "the store's mark {path} cannot be written");
            }
            Err(_) => {}
        }
    }

    fn state(&self, row: &SiteRow) -> State {
        let (store, site) = match self.kind {
            Kind::File(identity) => (identity, None),
            Kind::Server => (None, Some(row.id)),
        };
        State {
            store,
            site,
            incarnation: row.incarnation,
            epoch: row.epoch,
            next_event: row.next_event,
        }
    }

    /// Overwrites the file in place; the first one gets its name when it is on the disk. Only a new
    /// leader waits for that: a mark that a power cut takes back by some events is behind its store,
    /// and a store that is ahead is no copy.
    fn write(&mut self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec(state)?;
        text.resize(SIZE, b' ');
        let unnamed = self.path.with_extension("mark.new");
        let (file, opened) = match self.file.take() {
            Some(file) => (file, Opened::Before),
            None => self.open(&unnamed)?,
        };
        file.write_all_at(&text, 0)?;
        let is_new = self
            .written
            .is_none_or(|written| written.epoch != state.epoch || written.store != state.store);
        if is_new {
            file.sync_all()?;
        }
        if opened == Opened::Unnamed {
            fs::rename(&unnamed, &self.path)?;
        }
        if is_new && opened != Opened::Before {
            // Its name, too.
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// The file, or a new one at `unnamed`.
    fn open(&self, unnamed: &Path) -> io::Result<(File, Opened)> {
        match OpenOptions::new().write(true).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true);
                Ok((options.mode(MODE).open(unnamed)?, Opened::Unnamed))
            }
            file => Ok((file?, Opened::Now)),
        }
    }
}

/// Where the file of a mark comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    /// It was open.
    Before,
    Now,
    /// It is new, and has not got its name yet.
    Unnamed,
}

/// What stands in the file; `None` if it is missing.
fn read(path: &Path) -> io::Result<Option<State>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(SIZE as u64).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
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
