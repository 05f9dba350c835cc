//! A file that is there whole or not at all.

use rustix::fs::{Mode, OFlags, fchmod, fstat, fsync, ftruncate, open, rename};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What a written file outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process, but perhaps not a loss of power. No fsync: microseconds.
    Process,
    /// A loss of power: the file and its directory are synced.
    Power,
}

/// A file could not be replaced.
#[derive(Debug, thiserror::Error)]
pub enum WriteFileError {
    /// The path does not end in a name.
    #[error("{path} has no file name")]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// An act failed.
    #[error("cannot {act} {path}")]
    Act {
        /// `create`, `write`, `sync`, `rename to`.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `bytes` to `.NAME.new` beside `path` and renames it, so that a reader sees the old file
/// or the new one. `mode` is set exactly, whatever the umask is. Two writers of one path must be
/// kept apart by the caller: they would share the temporary name, which is fixed so that a crash
/// leaves at most one.
pub fn write_file_atomic(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), WriteFileError> {
    let (Some(directory), Some(temporary)) = (path.parent(), temporary_of(path)) else {
        return Err(WriteFileError::NoName { path: path.into() });
    };
    let failed = |act, path: &Path| {
        let path = path.to_path_buf();
        move |error: io::Error| WriteFileError::Act {
            act,
            path,
            source: error,
        }
    };
    let result = write_temporary(&temporary, bytes, mode, durability)
        .and_then(|()| rename(&temporary, path).map_err(|e| failed("rename to", path)(e.into())));
    if let Err(error) = result {
        // The first error is the one to tell; a temporary left behind is overwritten next time.
        let _ = rustix::fs::unlink(&temporary);
        return Err(error);
    }
    if durability == Durability::Power {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(directory, flags, Mode::empty())
            .and_then(fsync)
            .map_err(|error| failed("sync", directory)(error.into()))?;
    }
    Ok(())
}

/// Where [`write_file_atomic`] writes what gets the name `path` at last. A file that is there is
/// used: where making one takes long, it can be made ahead.
pub fn temporary_of(path: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name()?);
    name.push(".new");
    Some(path.with_file_name(name))
}

fn write_temporary(
    temporary: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), WriteFileError> {
    let failed = |act| {
        move |error: io::Error| WriteFileError::Act {
            act,
            path: temporary.into(),
            source: error,
        }
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(mode);
    let made = open(temporary, flags, mode).and_then(|file| {
        fchmod(&file, mode)?;
        // Not by opening it: at its close ext4 begins to write out what was truncated to nothing,
        // also if nothing was in it before.
        if fstat(&file)?.st_size > 0 {
            ftruncate(&file, 0)?;
        }
        Ok(file)
    });
    let file = made.map_err(|error| failed("create")(error.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes).map_err(failed("write"))?;
    if durability == Durability::Power {
        file.sync_all().map_err(failed("sync"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Durability, temporary_of, write_file_atomic};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        for (text, durability) in [("one", Durability::Process), ("two", Durability::Power)] {
            write_file_atomic(&path, text.as_bytes(), 0o640, durability).expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
        }
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(std::fs::read_dir(&directory).expect("listed").count(), 1);
    }

    #[test]
    fn what_a_killed_writer_left_is_written_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        for left in ["", "much longer than what comes next"] {
            let temporary = temporary_of(&path).expect("it has a name");
            std::fs::write(temporary, left).expect("written");
            write_file_atomic(&path, b"short", 0o600, Durability::Process).expect("written");
            assert_eq!(std::fs::read(&path).expect("read"), b"short");
        }
    }

    #[test]
    fn a_failed_write_says_on_what() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("absent/state.json");
        let error = write_file_atomic(&path, b"x", 0o600, Durability::Process).expect_err("fails");
        assert!(error.to_string().starts_with("cannot create"), "{error}");
    }
}
