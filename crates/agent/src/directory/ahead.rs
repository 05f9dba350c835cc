//! A member's directory that is made before it is known whose it will be: on some file systems every
//! new file takes long, a new name does not.

use super::member::{fill, make_open};
use super::{DirectoryError, failed};
use engine_api::UidRange;
use process::{remove_tree, temporary_of};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files of every member, each empty under the name it is written by.
const FILES: [&str; 5] = [
    "member.json",
    "prepared",
    "starting",
    "started",
    "final.json",
];

/// Where it is, if it is there, and whose ids its parts belong to.
#[derive(Debug)]
pub(crate) struct Ahead {
    path: PathBuf,
    owner: Mutex<Option<UidRange>>,
}

impl Ahead {
    /// One at `path`, where an earlier process may have left its own.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            owner: Mutex::new(None),
        }
    }

    /// Makes it, unless it is there. Blocks.
    pub(crate) fn make(&self, uids: UidRange) -> Result<(), DirectoryError> {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if *owner == Some(uids) {
            return Ok(());
        }
        *owner = None;
        self.remove()?;
        let path = &self.path;
        make_open(path)?;
        fill(path, uids)?;
        for name in FILES {
            let file = temporary_of(&path.join(name)).expect("it has a name");
            let mut options = fs::OpenOptions::new();
            let options = options.write(true).create_new(true).mode(0o600);
            options.open(&file).map_err(failed("create", &file))?;
        }
        *owner = Some(uids);
        Ok(())
    }

    /// Removes what is there. Blocks.
    pub(crate) fn remove(&self) -> Result<(), DirectoryError> {
        let removed = remove_tree(&self.path);
        removed.map_err(|error| failed("remove", &self.path)(io::Error::other(error)))
    }

    /// Gives it the name `path`, if it has the right owners.
    pub(crate) fn take(&self, path: &Path, uids: UidRange) -> bool {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = *owner == Some(uids);
        if fits {
            *owner = None;
        }
        fits && fs::rename(&self.path, path).is_ok()
    }
}

/// The path of a file that is there, empty, if it was made ahead: see [`Ahead`].
pub(super) fn made_ahead(path: &Path) -> Option<PathBuf> {
    temporary_of(path).filter(|ahead| fs::symlink_metadata(ahead).is_ok())
}

#[cfg(test)]
mod tests {
    use super::{Ahead, made_ahead};
    use engine_api::{UidRange, layout};

    #[test]
    fn it_is_given_once_and_only_to_whom_it_belongs() {
        let place = tempfile::tempdir().expect("a directory");
        let (mine, other) = (UidRange { base: 0 }, UidRange { base: 65_536 });
        let ahead = Ahead::new(place.path().join("ahead"));
        let member = place.path().join("member");
        assert!(!ahead.take(&member, mine), "there is none yet");
        ahead.make(mine).expect("made");
        ahead.make(mine).expect("there already");
        assert!(!ahead.take(&member, other));
        assert!(ahead.take(&member, mine));
        assert!(member.join(layout::WORK).is_dir());
        assert!(made_ahead(&member.join("prepared")).is_some());
        assert!(!ahead.take(&place.path().join("second"), mine));
        ahead.make(other).expect("made");
        // Another process knows nothing of it, and begins anew.
        let next = Ahead::new(place.path().join("ahead"));
        assert!(!next.take(&place.path().join("second"), other));
        next.remove().expect("removed");
        assert!(!place.path().join("ahead").exists());
    }
}
