//! The manager's store of images: manifests and the layers' archives, by their digests.
//!
//! ```text
//! DIRECTORY/manifests/HEX   canonical manifests, named by the image's id
//! DIRECTORY/blobs/HEX       layers as they are kept, named by their digest
//! DIRECTORY/new/N           what is being written; emptied by `open`
//! ```
//!
//! A file gets its name when it is whole and on the disk, a manifest after its layers, so a crash
//! leaves at most blobs that no manifest names, which [`BlobStore::prune`] removes.

mod temporary;

use crate::errors::failed;
use crate::import::Import;
use crate::manifest::{canonical, digest_of, image_id};
use crate::{ImportError, ImportOptions, Imported, Progress, StoreError};
use domain::image::{Digest, ImageId, Manifest};
use process::{Durability, write_file_atomic};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use temporary::Temporaries;
pub(crate) use temporary::{FileReader, Temporary};

/// Images of a site. One process opens a store at a time; within it, all methods may be called
/// from several threads.
#[derive(Debug)]
pub struct BlobStore {
    blobs: PathBuf,
    manifests: PathBuf,
    temporaries: Temporaries,
    /// Held while names appear and disappear: an import that finds a blob there relies on it.
    names: Mutex<()>,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Images.
    pub images: u64,
    /// Layers.
    pub blobs: u64,
    /// Bytes of all layers as they are stored.
    pub bytes: u64,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images.
    pub images: Vec<ImageId>,
    /// Layers.
    pub blobs: Vec<Digest>,
    /// Bytes of the layers.
    pub bytes: u64,
}

impl BlobStore {
    /// Opens the store in `directory`, makes it if there is none, and removes what an import that
    /// was cut off left.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let part = |name: &str| -> Result<PathBuf, StoreError> {
            let path = directory.join(name);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
            Ok(path)
        };
        Ok(Self {
            blobs: part("blobs")?,
            manifests: part("manifests")?,
            temporaries: Temporaries::open(&directory.join("new"))?,
            names: Mutex::new(()),
        })
    }

    /// Takes an archive of any form. It is read to its end, in memory that does not grow with it,
    /// and may come from a pipe. Every entry of every layer is checked, and every digest that it
    /// names. When this returns the image outlives a loss of power; on an error nothing is left.
    pub fn import(
        &self,
        reader: impl Read,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, ImportError> {
        Import::new(self, options, progress).run(reader)
    }

    /// The manifest of `id`.
    pub fn manifest(&self, id: ImageId) -> Result<Manifest, StoreError> {
        let path = self.manifests.join(id.0.hex());
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoImage { id });
            }
            read => read.map_err(failed("read", &path))?,
        };
        if digest_of(&bytes) != id.0 {
            return Err(StoreError::Damaged { path });
        }
        serde_json::from_slice(&bytes).map_err(|_| StoreError::Damaged { path })
    }

    /// A layer as it is stored, to be sent to a node, which checks its digest.
    pub fn blob(&self, digest: Digest) -> Result<File, StoreError> {
        let path = self.blobs.join(digest.hex());
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NoBlob { digest })
            }
            opened => opened.map_err(failed("open", &path)),
        }
    }

    /// The store has the image.
    pub fn has(&self, id: ImageId) -> bool {
        self.manifests.join(id.0.hex()).exists()
    }

    /// All images.
    pub fn images(&self) -> Result<Vec<ImageId>, StoreError> {
        let digests = digests_in(&self.manifests)?;
        Ok(digests.into_iter().map(ImageId).collect())
    }

    /// What there is.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let _held = self.hold();
        let mut sizes = Sizes {
            images: count(self.images()?.len()),
            ..Sizes::default()
        };
        for digest in digests_in(&self.blobs)? {
            sizes.blobs += 1;
            sizes.bytes += self.blob_bytes(digest)?;
        }
        Ok(sizes)
    }

    /// Removes an image, and those of its layers that neither another image of this store nor
    /// `keep` names. That it is absent is no error.
    pub fn remove(&self, id: ImageId, keep: &BTreeSet<Digest>) -> Result<Pruned, StoreError> {
        let _held = self.hold();
        let layers = match self.manifest(id) {
            Ok(manifest) => manifest.layers,
            Err(StoreError::NoImage { .. }) => return Ok(Pruned::default()),
            // Nobody can run it. Its layers are found by `prune`.
            Err(StoreError::Damaged { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        self.remove_manifest(id)?;
        let mut pruned = Pruned {
            images: vec![id],
            ..Pruned::default()
        };
        let mut named = self.named()?;
        named.extend(keep);
        let layers: BTreeSet<Digest> = layers.iter().map(|layer| layer.digest).collect();
        for digest in layers.difference(&named) {
            self.remove_blob(*digest, &mut pruned)?;
        }
        Ok(pruned)
    }

    /// Removes every image that `keep` does not name, and every layer that then no image names:
    /// what the catalogue does not know because a crash came between the two. No import may be
    /// between its end and its row in the catalogue meanwhile.
    pub fn prune(&self, keep: &BTreeSet<ImageId>) -> Result<Pruned, StoreError> {
        let _held = self.hold();
        let mut pruned = Pruned::default();
        for id in self.images()? {
            if !keep.contains(&id) {
                self.remove_manifest(id)?;
                process::crash_point("prune.manifest-removed");
                pruned.images.push(id);
            }
        }
        let named = self.named()?;
        for digest in digests_in(&self.blobs)? {
            if !named.contains(&digest) {
                self.remove_blob(digest, &mut pruned)?;
                process::crash_point("prune.layer-removed");
            }
        }
        Ok(pruned)
    }

    /// A new file that has no name yet.
    pub(crate) fn temporary(&self) -> Result<Temporary, StoreError> {
        self.temporaries.create()
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.names.lock().expect("no holder panics")
    }

    /// The layers that images of this store name. A damaged manifest names none.
    fn named(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut named = BTreeSet::new();
        for id in self.images()? {
            match self.manifest(id) {
                Ok(manifest) => named.extend(manifest.layers.iter().map(|layer| layer.digest)),
                Err(StoreError::Damaged { .. } | StoreError::NoImage { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(named)
    }

    fn remove_manifest(&self, id: ImageId) -> Result<(), StoreError> {
        let path = self.manifests.join(id.0.hex());
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed("remove", &path)),
        }
    }

    fn remove_blob(&self, digest: Digest, pruned: &mut Pruned) -> Result<(), StoreError> {
        let path = self.blobs.join(digest.hex());
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            facts => facts.map_err(failed("inspect", &path))?.len(),
        };
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        pruned.blobs.push(digest);
        pruned.bytes += bytes;
        Ok(())
    }

    fn blob_bytes(&self, digest: Digest) -> Result<u64, StoreError> {
        let path = self.blobs.join(digest.hex());
        let facts = fs::metadata(&path).map_err(failed("inspect", &path))?;
        Ok(facts.len())
    }

    /// Gives the layers their names, then the manifest its own. Whether it was there before.
    pub(crate) fn commit(
        &self,
        manifest: &Manifest,
        layers: Vec<Temporary>,
    ) -> Result<(ImageId, bool), StoreError> {
        let id = image_id(manifest);
        let _held = self.hold();
        for (layer, file) in manifest.layers.iter().zip(layers) {
            file.keep(&self.blobs.join(layer.digest.hex()))?;
        }
        temporary::sync_directory(&self.blobs)?;
        let path = self.manifests.join(id.0.hex());
        let already = path.exists();
        write_file_atomic(&path, &canonical(manifest), 0o600, Durability::Power)?;
        Ok((id, already))
    }
}

/// The digests that name files of `directory`; other names are not ours.
fn digests_in(directory: &Path) -> Result<Vec<Digest>, StoreError> {
    let list = fs::read_dir(directory).map_err(failed("list", directory))?;
    let mut digests = Vec::new();
    for entry in list {
        let name = entry.map_err(failed("list", directory))?.file_name();
        digests.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
    }
    digests.sort_unstable();
    Ok(digests)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits")
}
