//! The content of the site's images: the store of layers and manifests, and what of it is garbage.
//!
//! The catalogue's rows say which images there are; the files follow. An import writes the files
//! first and the row after, a removal the other way round, so whatever a crash leaves is files
//! that no row names, and these are removed in the next round.

use crate::shared::{Shared, chain};
use domain::ImageId;
use images::{BlobStore, Pruned, StoreError};
use lifecycle::manager::View;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit, RwLock, Semaphore};

/// Most imports at the same time: each reads, checks and writes a whole image.
const IMPORTS_LIMIT: usize = 4;

/// The store, and who may use it for what.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    store: Arc<BlobStore>,
    /// Held shared from the first byte of an import until its row is committed, and alone while
    /// garbage is removed.
    gate: Arc<RwLock<()>>,
    imports: Arc<Semaphore>,
}

/// An import may go on. To be held until the image's row is committed.
#[derive(Debug)]
pub(crate) struct Importing {
    _gate: OwnedRwLockReadGuard<()>,
    _permit: OwnedSemaphorePermit,
}

impl Images {
    /// Opens the store, and removes what an import left that was cut off. Blocks.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            store: Arc::new(BlobStore::open(directory)?),
            gate: Arc::default(),
            imports: Arc::new(Semaphore::new(IMPORTS_LIMIT)),
        })
    }

    pub(crate) fn store(&self) -> Arc<BlobStore> {
        Arc::clone(&self.store)
    }

    /// Room for one more import; `None` if there are too many.
    pub(crate) async fn begin_import(&self) -> Option<Importing> {
        let permit = Arc::clone(&self.imports).try_acquire_owned().ok()?;
        let gate = Arc::clone(&self.gate).read_owned().await;
        Some(Importing {
            _gate: gate,
            _permit: permit,
        })
    }

    /// Removes the content that no image needs any more, unless an import goes on: then `None`,
    /// and the next round does. Gives what was removed.
    pub(crate) async fn remove_garbage(&self, shared: &Shared) -> Option<Pruned> {
        let Ok(gate) = Arc::clone(&self.gate).try_write_owned() else {
            return None;
        };
        let wanted = shared.read(wanted_images);
        let store = self.store();
        let pruning = tokio::task::spawn_blocking(move || {
            let _alone = gate;
            store.prune(&wanted)
        });
        let pruned = match pruning.await {
            Ok(Ok(pruned)) => pruned,
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "images that are gone cannot be removed");
                Pruned::default()
            }
            Err(_) => Pruned::default(),
        };
        Some(pruned)
    }
}

/// Images of the catalogue, and those that living sessions run on.
pub(crate) fn wanted_images(view: &View) -> BTreeSet<ImageId> {
    let images = view.catalogue.images().map(|image| image.id);
    let living = view
        .sessions
        .values()
        .filter(|record| record.state.is_living());
    let used = living.filter_map(|record| Some(record.spec.imported.as_ref()?.id));
    images.chain(used).collect()
}
