//! Whole-file locks that die with their holder.
//!
//! These are flock(2) locks: they belong to the open file description, are inherited by children
//! that keep the descriptor, and are released by the kernel when the last copy is closed. So a
//! lock that is held proves that its holder lives, which a number in a file never does.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Who else may hold the lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody.
    Exclusive,
    /// Others with the same mode.
    Shared,
}

/// A lock could not be asked for. That somebody else holds it is no error.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file could not be opened.
    #[error("cannot open the lock file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system has no locks, or the kernel refused.
    #[error("cannot lock {path}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A lock that is held until this is dropped (and every inherited copy is closed).
#[derive(Debug)]
pub struct FileLock {
    file: OwnedFd,
}

impl FileLock {
    /// Takes the lock if it is free now; `None` if somebody else holds it. The file is made with
    /// mode 0600 if it is missing, and never removed: removing a lock file lets two hold "it".
    pub fn try_lock(path: &Path, mode: LockMode) -> Result<Option<Self>, LockError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            open(path, flags, Mode::from_raw_mode(0o600)).map_err(|error| LockError::Open {
                path: path.into(),
                source: error.into(),
            })?;
        Ok(try_flock(&file, path, mode)?.then_some(Self { file }))
    }

    /// Whether somebody holds the lock exclusively. An absent file is not locked. The answer is
    /// found by taking a shared lock for a moment, so a [`FileLock::try_lock`] of somebody else
    /// in that moment fails: whoever locks while others look must try more than once.
    pub fn is_locked(path: &Path) -> Result<bool, LockError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match open(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(error) => {
                return Err(LockError::Open {
                    path: path.into(),
                    source: error.into(),
                });
            }
        };
        Ok(!try_flock(&file, path, LockMode::Shared)?)
    }

    /// The descriptor, to be inherited by a child who shall hold the lock on.
    pub fn into_fd(self) -> OwnedFd {
        self.file
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn try_flock(file: &OwnedFd, path: &Path, mode: LockMode) -> Result<bool, LockError> {
    let operation = match mode {
        LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        LockMode::Shared => FlockOperation::NonBlockingLockShared,
    };
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(LockError::Lock {
                    path: path.into(),
                    source: error.into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FileLock, LockMode};

    #[test]
    fn an_exclusive_lock_keeps_others_out_until_it_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        assert!(!FileLock::is_locked(&path).expect("asked"));
        let held = FileLock::try_lock(&path, LockMode::Exclusive)
            .expect("asked")
            .expect("free");
        assert!(FileLock::is_locked(&path).expect("asked"));
        for mode in [LockMode::Exclusive, LockMode::Shared] {
            assert!(FileLock::try_lock(&path, mode).expect("asked").is_none());
        }
        drop(held);
        assert!(!FileLock::is_locked(&path).expect("asked"));
    }

    #[test]
    fn shared_locks_stand_beside_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let lock = |mode| FileLock::try_lock(&path, mode).expect("asked");
        let (one, two) = (lock(LockMode::Shared), lock(LockMode::Shared));
        assert!(one.is_some() && two.is_some());
        assert!(lock(LockMode::Exclusive).is_none());
        assert!(
            !FileLock::is_locked(&path).expect("asked"),
            "not exclusively"
        );
    }
}
