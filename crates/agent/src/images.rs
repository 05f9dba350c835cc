//! The imported images of this node: which layers are there, who uses them, how far they are.
//!
//! ```text
//! DIRECTORY/manifests/HEX    manifests of images that the node has had, named by their ids
//! DIRECTORY/layers/          their layers, unpacked; see `images::LayerStore`
//! ```
//!
//! A member claims its image before the first layer is fetched and until its container is gone.
//! What no claim and no image of the site needs is removed by `background::images`, never while
//! something is fetched.

mod collect;
mod fetch;
mod merged;
mod root;
mod unlisted;
mod users;

pub(crate) use collect::collect;
pub(crate) use fetch::{FetchError, provide};
pub(crate) use root::{MemberRoot, RootError, member_root};
use unlisted::Restored;
pub(crate) use unlisted::{UnlistedError, restore};
pub(crate) use users::Identity;

use crate::directory::{DirectoryError, NodeDirectory, failed, make_private};
use crate::shared::locked;
use ::images::{LayerStore, Ownership, StoreError};
use domain::image::{Digest, Manifest};
use domain::{ImageId, MemberId};
use node_api::Preparation;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, RwLock};

/// The images of a node.
#[derive(Debug)]
pub(crate) struct NodeImages {
    manifests: PathBuf,
    store: Arc<LayerStore>,
    /// Held shared while layers are looked at and fetched, alone while some are removed.
    gate: RwLock<()>,
    /// Held while a manifest is kept.
    keeping: Mutex<()>,
    claims: Mutex<BTreeMap<MemberId, ImageId>>,
    flights: Mutex<BTreeMap<Digest, Arc<Flight>>>,
    waiting: Mutex<BTreeMap<MemberId, Waiting>>,
    /// What sessions on an image get in their writable layer.
    restored: Mutex<BTreeMap<ImageId, Arc<Restored>>>,
    /// A claim was given up: something may be garbage now.
    released: Notify,
}

/// A layer that is being fetched and unpacked by one member, for all that want it.
#[derive(Debug, Default)]
struct Flight {
    lock: tokio::sync::Mutex<()>,
    /// Bytes of it that have come, as stored.
    bytes: AtomicU64,
}

/// What a member waits for.
#[derive(Debug)]
struct Waiting {
    layer: u32,
    layers: u32,
    total_bytes: u64,
    flight: Arc<Flight>,
}

/// The images of a node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenImagesError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the layers of images cannot be opened")]
    Store(#[from] StoreError),
}

impl NodeImages {
    /// Removes what was being unpacked when a crash came. Blocks.
    pub(crate) fn open(directory: &NodeDirectory) -> Result<Self, OpenImagesError> {
        let manifests = directory.root().join("manifests");
        make_private(&manifests)?;
        let layers = directory.root().join("layers");
        make_private(&layers)?;
        let ownership = if rustix::process::geteuid().is_root() {
            Ownership::AsIs
        } else {
            Ownership::CurrentUser
        };
        Ok(Self {
            manifests,
            store: Arc::new(LayerStore::open(&layers, ownership)?),
            gate: RwLock::default(),
            keeping: Mutex::default(),
            claims: Mutex::default(),
            flights: Mutex::default(),
            waiting: Mutex::default(),
            restored: Mutex::default(),
            released: Notify::new(),
        })
    }

    /// A member needs an image from now on.
    pub(crate) fn claim(&self, member: MemberId, image: ImageId) {
        locked(&self.claims).insert(member, image);
    }

    /// A member's container is gone, or never will be.
    pub(crate) fn release(&self, member: MemberId) {
        if locked(&self.claims).remove(&member).is_some() {
            self.released.notify_one();
        }
    }

    /// Waits until a claim is given up.
    pub(crate) async fn released(&self) {
        self.released.notified().await;
    }

    /// How far the image of a member is.
    pub(crate) fn preparation(&self, member: MemberId) -> Option<Preparation> {
        let waiting = locked(&self.waiting);
        let waiting = waiting.get(&member)?;
        Some(Preparation {
            layer: waiting.layer,
            layers: waiting.layers,
            bytes: waiting.flight.bytes.load(Ordering::Relaxed),
            total_bytes: waiting.total_bytes,
        })
    }

    /// Where the layers of an image are, the lowest first. Blocks.
    fn paths(&self, manifest: &Manifest) -> Option<Vec<PathBuf>> {
        let layers = manifest.layers.iter();
        layers
            .map(|layer| self.store.has(layer).then(|| self.store.path(layer)))
            .collect()
    }

    fn manifest_path(&self, image: ImageId) -> PathBuf {
        self.manifests.join(image.0.hex())
    }

    /// A manifest that the node keeps; one that is damaged is as good as none. Blocks.
    fn manifest(&self, image: ImageId) -> Result<Option<Manifest>, DirectoryError> {
        let path = self.manifest_path(image);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", &path))?,
        };
        Ok(verified(image, &bytes))
    }
}

/// The manifest in `bytes`, if they are those that `image` names.
fn verified(image: ImageId, bytes: &[u8]) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
    (images::image_id(&manifest) == image).then_some(manifest)
}
