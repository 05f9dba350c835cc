//! What an upload left in the working directory, so that what changed since can be told.

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// The format of the file.
const FORMAT: u32 = 1;

/// The list of uploaded files could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// An act on the file failed.
    #[error("cannot {act} {path}")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be written as MessagePack.
    #[error("cannot write {path}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rmp_serde::encode::Error,
    },
    /// It is not what it should be.
    #[error("{path} cannot be understood")]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rmp_serde::decode::Error,
    },
}

/// What tells one version of a file from another. The change time cannot be set by programs, so
/// a file that was written and whose times were set back is still seen to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    path: ByteBuf,
    facts: Facts,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestFile {
    format: u32,
    entries: Vec<Entry>,
}

/// Every entry of an upload by its path below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: BTreeMap<Vec<u8>, Facts>,
}

impl Facts {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields' types differ between architectures"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            inode: stat.st_ino as u64,
        }
    }
}

impl Manifest {
    pub(super) fn note(&mut self, path: Vec<u8>, stat: &Stat) {
        self.entries.insert(path, Facts::of(stat));
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// It has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The upload had this path, whatever became of it.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.entries.contains_key(path)
    }

    /// It is new, or not what the upload left there.
    pub(super) fn differs(&self, path: &[u8], stat: &Stat) -> bool {
        self.entries.get(path) != Some(&Facts::of(stat))
    }

    /// Keeps it at `path`.
    pub fn save(&self, path: &Path) -> Result<(), ManifestError> {
        let failed = |act| {
            move |source| ManifestError::Act {
                act,
                path: path.into(),
                source,
            }
        };
        let entries = self.entries.iter().map(|(name, facts)| Entry {
            path: ByteBuf::from(name.clone()),
            facts: *facts,
        });
        let file = ManifestFile {
            format: FORMAT,
            entries: entries.collect(),
        };
        let mut out = BufWriter::new(File::create(path).map_err(failed("create"))?);
        rmp_serde::encode::write(&mut out, &file).map_err(|source| ManifestError::Encode {
            path: path.into(),
            source,
        })?;
        out.flush().map_err(failed("write"))
    }

    /// Reads it from `path`; empty if there is none: then everything is new.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(ManifestError::Act {
                    act: "open",
                    path: path.into(),
                    source,
                });
            }
        };
        let read: Result<ManifestFile, _> = rmp_serde::decode::from_read(BufReader::new(file));
        let file = read.map_err(|source| ManifestError::Decode {
            path: path.into(),
            source,
        })?;
        let entries = file.entries.into_iter();
        Ok(Self {
            entries: entries
                .map(|entry| (entry.path.into_vec(), entry.facts))
                .collect(),
        })
    }
}
