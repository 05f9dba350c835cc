//! A member's directory that is made before it is known whose it will be: on some file systems every
//! new file takes long; a new name or owner does not.

use super::member::{fill, give, make_open};
use super::{DirectoryError, failed};
use engine_api::UidRange;
use process::{remove_tree, temporary_of};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files of every member, each empty under the name it is written by.
const FILES: [&str; 4] = ["member.json", "prepared", "started", "final.json"];

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
        if owner.is_some() {
            return Ok(());
        }
        self.remove()?;
        let path = &self.path;
        make_open(path)?;
        fill(path, uids)?;
        for name in FILES {
            let file = made_ahead(&path.join(name));
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

    /// Gives it the name `path` and the owners `uids`, if it is there. Blocks.
    pub(crate) fn take(&self, path: &Path, uids: UidRange) -> bool {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(owner) = owner.take() else {
            return false;
        };
        let given = owner == uids || give(&self.path, uids).is_ok();
        given && fs::rename(&self.path, path).is_ok()
    }
}

/// Where the file `path` is, empty, if it was made ahead: see [`Ahead`].
pub(super) fn made_ahead(path: &Path) -> PathBuf {
    temporary_of(path).expect("it has a name")
}

#[cfg(test)]
mod tests {
    use super::Ahead;
    use engine_api::{UidRange, layout};
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn it_is_given_once_and_belongs_to_whom_it_is_given() {
        let place = tempfile::tempdir().expect("a directory");
        let (mine, other) = (UidRange { base: 0 }, UidRange { base: 65_536 });
        let ahead = Ahead::new(place.path().join("ahead"));
        let member = place.path().join("member");
        assert!(!ahead.take(&member, mine), "there is none yet");
        ahead.make(mine).expect("made");
        ahead.make(mine).expect("there already");
        assert!(ahead.take(&member, other));
        let work = member.join(layout::WORK).metadata().expect("it is there");
        if rustix::process::geteuid().is_root() {
            assert_eq!(work.uid(), other.shifted(UidRange::COMMAND));
        }
        assert!(member.join(".member.json.new").is_file());
        assert!(!ahead.take(&place.path().join("second"), other));
        ahead.make(other).expect("made");
        // Another process knows nothing of it, and begins anew.
        let next = Ahead::new(place.path().join("ahead"));
        assert!(!next.take(&place.path().join("second"), other));
        next.remove().expect("removed");
        assert!(!place.path().join("ahead").exists());
    }
}
