//! Removing what is needed no more.

use crate::shared::{Shared, chain, failed, locked};
use ::images::StoreError;
use domain::ImageId;
use domain::image::Digest;
use node_api::{ImageList, NodeError};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

/// Removes the manifests and layers that neither the site's images nor a member's claim need, and
/// says how many layers that were. While something is fetched nothing is removed: the next round
/// will.
pub(crate) async fn collect(shared: &Arc<Shared>) -> Result<usize, NodeError> {
    let reading = Arc::clone(shared);
    let known = tokio::task::spawn_blocking(move || known_images(&reading)).await;
    let (images, layers) = known.map_err(failed)?;
    if images.is_empty() && layers == 0 {
        return Ok(0);
    }
    let list = ImageList { images };
    let wanted = shared.manager.wanted_images(list).await?;
    let Ok(_alone) = shared.images.gate.try_write() else {
        return Ok(0);
    };
    let claimed: BTreeSet<ImageId> = locked(&shared.images.claims).values().copied().collect();
    let removing = Arc::clone(shared);
    let needed: BTreeSet<ImageId> = wanted.images.into_iter().chain(claimed).collect();
    let removed = tokio::task::spawn_blocking(move || remove(&removing, &needed)).await;
    removed.map_err(failed)
}

/// The images that the node has manifests of, and how many layers it has.
fn known_images(shared: &Shared) -> (Vec<ImageId>, usize) {
    let list = fs::read_dir(&shared.images.manifests).into_iter();
    let names = list.flatten().flatten().map(|entry| entry.file_name());
    let ids = names.filter_map(|name| Digest::from_hex(name.to_str()?).ok());
    let layers = shared.images.store.list().map_or(1, |layers| layers.len());
    (ids.map(ImageId).collect(), layers)
}

fn remove(shared: &Shared, needed: &BTreeSet<ImageId>) -> usize {
    let images = &shared.images;
    let mut layers = BTreeSet::new();
    for image in needed {
        match images.manifest(*image) {
            Ok(Some(manifest)) => layers.extend(manifest.layers.iter().map(|one| one.diff_id)),
            // Not fetched yet.
            Ok(None) if !images.manifest_path(*image).exists() => {}
            // Which layers it needs is not known, so none is touched.
            Ok(None) | Err(_) => return 0,
        }
    }
    let (known, _) = known_images(shared);
    for image in known.iter().filter(|image| !needed.contains(image)) {
        let path = images.manifest_path(*image);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
    }
    match remove_layers(shared, &layers) {
        Ok(removed) => removed,
        Err(error) => {
            tracing::warn!("layers that nothing needs stay: {}", chain(&error));
            0
        }
    }
}

fn remove_layers(shared: &Shared, needed: &BTreeSet<Digest>) -> Result<usize, StoreError> {
    let store = &shared.images.store;
    let mut removed = 0;
    for layer in store.list()? {
        if !needed.contains(&layer.diff_id) {
            store.remove(layer.diff_id)?;
            removed += 1;
        }
    }
    Ok(removed)
}
