//! What the agent keeps on disk, and in which order it is written.
//!
//! ```text
//! DIRECTORY/node.json                the node's id
//! DIRECTORY/obeyed                   whom the agent obeyed last, from the first time on
//! DIRECTORY/generation               the last generation of that leader, written in place
//! DIRECTORY/gone                     ids of purged members, one line each, the oldest first
//! DIRECTORY/images/                  prepared roots
//! DIRECTORY/ahead/                   a member's directory for whoever comes next; made anew by each process
//! DIRECTORY/members/.new-ID/         being made: removed by the next process
//! DIRECTORY/members/ID/              a member, see `engine_api::layout`, and
//!                      member.json   what it is; written before anything else, never changed
//!                      disk.img      its own file system, if it has one: work, home and layer are there
//!                      manifest      its uploaded files, as they were before the start
//!                      prepared      it is there: files and directories are complete
//!                      starting      another name of prepared: the engine was asked, it may have run
//!                      started       when its command started
//!                      disk-limit    it is ended for the disk: the bytes that it had there
//!                      final.json    the record that was decided; never changed
//!                      final.json.damaged   one that could not be read: it is made anew
//! DIRECTORY/members/.gone-SLOT-ID/   purged, being removed
//! DIRECTORY/members/.damaged-ID/     without a readable member.json: for the operator to look at
//! ```
//!
//! A member's directory and its final record survive a loss of power. The markers between need
//! not: a member that was not over when the machine went down is never started again.

mod ahead;
mod gone;
mod identity;
mod member;
mod member_files;
mod obeyed;

pub(crate) use ahead::Ahead;
pub(crate) use gone::GoneLog;
pub use identity::{IdentityFileError, node_identity};
pub(crate) use member::{Marker, MemberDirectory, MemberFile, make_open, own};
pub(crate) use member_files::MemberFiles;

use domain::MemberId;
use engine_api::EngineError;
use lifecycle::agent::Obeyed;
use process::WriteFileError;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The format of every file here; a higher one is refused.
pub(crate) const FORMAT: u32 = 1;
/// Largest file here that is read at once, in bytes: a specification with its environment.
const FILE_LIMIT: u64 = 8 << 20;

/// Something of the agent's own on disk could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// An act on a file failed.
    #[error("cannot {act} {path}")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be replaced.
    #[error(transparent)]
    Write(#[from] WriteFileError),
    /// A file is not what it should be.
    #[error("{path} cannot be understood")]
    Form {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The node's id cannot be read.
    #[error(
        "{path} is damaged: with it removed this machine is a new node, and sessions that ran on \
         it before are lost to the site and ended after a day"
    )]
    Identity {
        /// Which.
        path: PathBuf,
        /// In which way.
        source: Box<DirectoryError>,
    },
    /// A file system of its own could not be made.
    #[error(transparent)]
    Disk(#[from] EngineError),
    /// A file was written by a newer version.
    #[error("{path} has format {found}; this version knows up to {FORMAT}")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file is larger than any of its kind.
    #[error("{path} is larger than {FILE_LIMIT} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

pub(crate) fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_path_buf();
    move |source| DirectoryError::Act { act, path, source }
}

/// The agent's directory.
#[derive(Clone, Debug)]
pub(crate) struct NodeDirectory {
    root: PathBuf,
}

impl NodeDirectory {
    /// Makes what is missing of it.
    pub(crate) fn open(root: &Path) -> Result<Self, DirectoryError> {
        for path in [
            root.to_path_buf(),
            root.join("members"),
            root.join("images"),
        ] {
            make_private(&path)?;
        }
        Ok(Self { root: root.into() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The directory of whoever comes next.
    pub(crate) fn ahead(&self) -> PathBuf {
        self.root.join("ahead")
    }

    pub(crate) fn members(&self) -> PathBuf {
        self.root.join("members")
    }

    pub(crate) fn member(&self, member: MemberId) -> MemberDirectory {
        MemberDirectory::new(self.members().join(member.to_string()))
    }

    /// Whom the agent obeyed last.
    pub(crate) fn obeyed(&self) -> Result<Option<Obeyed>, DirectoryError> {
        let Some(obeyed) = obeyed::read(&self.root.join("obeyed"))? else {
            return Ok(None);
        };
        let later = read_small(&self.root.join("generation"))?;
        let later = later.and_then(|text| parse_generation(&text));
        Ok(Some(match later {
            Some((incarnation, epoch, generation))
                if (incarnation, epoch) == (obeyed.incarnation, obeyed.epoch) =>
            {
                Obeyed {
                    generation: obeyed.generation.max(generation),
                    ..obeyed
                }
            }
            _ => obeyed,
        }))
    }

    /// Saves a new leader, so that even a loss of power does not forget it.
    pub(crate) fn save_leader(&self, obeyed: &Obeyed) -> Result<(), DirectoryError> {
        obeyed::save(&self.root.join("obeyed"), obeyed)
    }

    /// Saves the generation of the leader that is saved already. It stands on the way of every
    /// session that starts, so it is one small write in place: whole as long as the machine keeps
    /// its power, and a new name over the old one would make ext4 write it out (37 ms were seen).
    pub(crate) fn save_generation(&self, obeyed: &Obeyed) -> Result<(), DirectoryError> {
        use std::os::unix::fs::FileExt as _;
        let path = self.root.join("generation");
        let text = format!(
            "{:020} {:020} {:020}\n",
            obeyed.incarnation, obeyed.epoch, obeyed.generation
        );
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let written = file.and_then(|file| file.write_all_at(text.as_bytes(), 0));
        written.map_err(failed("write", &path))
    }
}

/// Incarnation, epoch and generation; `None` for what a loss of power left of them.
fn parse_generation(text: &[u8]) -> Option<(u64, u64, u64)> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let mut numbers = text.split(' ').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// Makes a directory that nobody else may enter, with its parents.
pub(crate) fn make_private(path: &Path) -> Result<(), DirectoryError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create", path))?;
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(path, closed).map_err(failed("close to others", path))
}

/// A small JSON file; `None` if it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DirectoryError> {
    let Some(bytes) = read_small(path)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| DirectoryError::Form {
        path: path.into(),
        source,
    })
}

/// A small file; `None` if it is not there. Links are not followed: the guest writes some of
/// these.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, DirectoryError> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed("open", path)(error.into())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_LIMIT) {
        return Err(DirectoryError::TooLarge { path: path.into() });
    }
    Ok(Some(bytes))
}

/// Makes the entries of `path` survive a loss of power.
pub(crate) fn sync_directory(path: &Path) -> Result<(), DirectoryError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", path))
}
