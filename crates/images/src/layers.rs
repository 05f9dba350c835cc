//! The node's store of layers: each unpacked once, in a directory of its own.
//!
//! ```text
//! DIRECTORY/HEX/root        the layer's files, named by the digest of its uncompressed archive
//! DIRECTORY/HEX/layer.json  what it is
//! DIRECTORY/HEX/unlisted    directories that the archive leads through and does not list
//! DIRECTORY/.new-N          what is being unpacked; removed by `open`
//! ```
//!
//! A layer gets its name when it is whole and on the disk. Whiteouts are character devices 0/0 (a
//! user without privileges may make these), opaque directories have `user.overlay.opaque`: the
//! sandbox mounts overlayfs with `userxattr`.

mod beneath;
mod folding;
mod turns;
mod unpacking;

use crate::check::{Budget, Rules};
use crate::decode::Decoder;
use crate::errors::failed;
use crate::fault::{Fault, Input};
use crate::streams::{Digesting, Watching};
use crate::walk::{Walked, walk};
use crate::{LayerError, Limits, NameRule, Progress, Refusal, Report, Stage, StoreError};
use domain::image::{Digest, Layer};
use process::{Durability, write_file_atomic};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use turns::Turns;
use unpacking::Unpacking;

/// The directory of the files in a layer's directory.
const ROOT: &str = "root";
/// What a layer is.
const FACTS: &str = "layer.json";
/// Paths of directories that the archive leads through and does not list, each ended by a zero
/// byte; absent where there are none.
const UNLISTED: &str = "unlisted";
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
    names: NameRule,
    turns: Turns,
    next: AtomicU64,
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
    /// removes what was being unpacked when a crash came, and finds out whether it folds case.
    pub fn open(directory: &Path, ownership: Ownership) -> Result<Self, StoreError> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        made.map_err(failed("create", directory))?;
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
            names: folding::name_rule(directory)?,
            turns: Turns::default(),
            next: AtomicU64::new(1),
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
        layer: &Layer,
        reader: impl Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Unpacked, LayerError> {
        let _turn = self.turns.take(layer.diff_id);
        let path = self.path(layer);
        if self.has(layer) {
            return Ok(Unpacked {
                path,
                already: true,
                report: Report::default(),
            });
        }
        let new = New::create(self)?;
        let root = new.path.join(ROOT);
        fs::create_dir(&root).map_err(failed("create", &root))?;
        let mut unpacking = Unpacking::new(&root, self.ownership)?;
        let walked = fill(&mut unpacking, self.names, (layer, reader), progress)?;
        let unlisted = unpacking.finish()?;
        new.keep(layer, &unlisted, &self.directory_of(layer.diff_id))?;
        let report = Report {
            dropped: walked.dropped,
            ..Report::default()
        };
        Ok(Unpacked {
            path,
            already: false,
            report,
        })
    }

    /// The directories of a layer that its archive leads through and does not list, by their paths
    /// below its root. What they shall be a lower layer says, if one has them. Blocks.
    pub fn unlisted(&self, layer: &Layer) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        let path = self.directory_of(layer.diff_id).join(UNLISTED);
        match fs::read(&path) {
            Ok(text) => {
                let paths = text.split(|byte| *byte == 0);
                let paths = paths.filter(|path| !path.is_empty());
                Ok(paths.map(<[u8]>::to_vec).collect())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(failed("read", &path)(error)),
        }
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
        let _turn = self.turns.take(diff_id);
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
        process::crash_point("prune.node-layer-moved");
        process::remove_tree(&away)?;
        Ok(true)
    }

    /// To whom unpacked files belong here.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Which names are the same on the file system of this store.
    pub fn names(&self) -> NameRule {
        self.names
    }

    fn directory_of(&self, diff_id: Digest) -> PathBuf {
        self.directory.join(diff_id.hex())
    }
}

/// A directory in which a layer is being unpacked, removed unless it is kept.
struct New {
    path: PathBuf,
    kept: bool,
}

impl New {
    fn create(store: &LayerStore) -> Result<Self, StoreError> {
        let number = store.next.fetch_add(1, Ordering::Relaxed);
        let path = store.directory.join(format!("{NEW}{number}"));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(failed("create", &path))?;
        Ok(Self { path, kept: false })
    }

    /// Gives it its name; its files are on the disk.
    fn keep(mut self, layer: &Layer, unlisted: &[Vec<u8>], name: &Path) -> Result<(), StoreError> {
        let facts = serde_json::to_vec(layer).expect("a layer has only text and numbers");
        write_file_atomic(&self.path.join(FACTS), &facts, 0o600, Durability::Power)?;
        if !unlisted.is_empty() {
            let mut text = unlisted.join(&0);
            text.push(0);
            write_file_atomic(&self.path.join(UNLISTED), &text, 0o600, Durability::Power)?;
        }
        process::crash_point("prepare.layer-unpacked");
        fs::rename(&self.path, name).map_err(failed("rename to", name))?;
        process::crash_point("prepare.layer-named");
        self.kept = true;
        let directory = name.parent().expect("it lies in the store");
        fs::File::open(directory)
            .and_then(|opened| opened.sync_all())
            .map_err(failed("sync", directory))
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed when the store is opened next.
            let _ = process::remove_tree(&self.path);
        }
    }
}

/// Unpacks the stored bytes of a layer, and compares what it is with what it shall be.
fn fill(
    unpacking: &mut Unpacking,
    names: NameRule,
    (layer, reader): (&Layer, impl Read),
    progress: &mut dyn FnMut(Progress),
) -> Result<Walked, LayerError> {
    let mut told = |bytes| {
        progress(Progress {
            stage: Stage::Layer {
                number: 1,
                count: 1,
            },
            bytes,
            total: Some(layer.stored_bytes),
        });
    };
    let watched = Watching {
        // One byte more would show that there is more.
        inner: Input(reader).take(layer.stored_bytes.saturating_add(1)),
        bytes: 0,
        watcher: &mut told,
    };
    let limits = Limits {
        image_bytes: layer.bytes,
        entries: layer.entries,
        ..Limits::default()
    };
    let rules = Rules {
        limits,
        names,
        is_root: false,
    };
    let mut stored = Digesting::new(watched);
    let decoder = Decoder::new(&mut stored, &limits)?;
    let mut plain = Digesting::new(decoder);
    let walked = walk(&mut plain, rules, &mut Budget::default(), unpacking);
    let walked = walked.map_err(|error| folding::explained(error, names))?;
    plain.inner().finish()?;
    let (diff_id, _) = plain.result();
    drop(plain);
    let (digest, stored_bytes) = stored.result();
    let compared = compare(layer.stored_bytes, stored_bytes)
        .and_then(|()| compare(layer.bytes, walked.bytes))
        .and_then(|()| compare(layer.entries, walked.entries))
        .and_then(|()| compare_digests(layer.digest, digest))
        .and_then(|()| compare_digests(layer.diff_id, diff_id));
    compared.map_err(Fault::from)?;
    Ok(walked)
}

fn compare(expected: u64, found: u64) -> Result<(), Refusal> {
    if expected == found {
        Ok(())
    } else {
        Err(Refusal::Size { expected, found })
    }
}

fn compare_digests(expected: Digest, found: Digest) -> Result<(), Refusal> {
    if expected == found {
        Ok(())
    } else {
        Err(Refusal::Digest { expected, found })
    }
}
