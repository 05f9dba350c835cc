//! Fetching what an image lacks on this node, each layer once, whoever wants it.

use super::{Flight, NodeImages, Waiting, verified};
use crate::bridge::blocking_reader;
use crate::directory::DirectoryError;
use crate::shared::{Shared, locked};
use ::images::{LayerError, Progress};
use domain::image::{Layer, Manifest};
use domain::{ImageId, MemberId};
use node_api::NodeError;
use process::{Durability, WriteFileError, write_file_atomic};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Tries to fetch a layer: the manager may be away for a moment.
const FETCH_TRIES: u32 = 6;
/// Before the second try; doubles with each further one (15 s in all).
const FETCH_PAUSE: Duration = Duration::from_millis(500);
/// Largest manifest that is taken, in bytes.
const MANIFEST_LIMIT: usize = 8 << 20;

/// An image could not be made ready on this node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("it was asked to stop while its image was fetched")]
    Abandoned,
    #[error("the site has no image {} any more", image.short())]
    Removed { image: ImageId },
    #[error("the manager told another manifest than the one of image {}", image.short())]
    OtherManifest { image: ImageId },
    #[error("the image could not be fetched")]
    Fetch(#[from] NodeError),
    #[error("layer {number} of the image could not be unpacked")]
    Layer { number: usize, source: LayerError },
    #[error("layer {number} of the image does not fit on the disk of this node")]
    DiskFull { number: usize },
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the image's manifest could not be kept")]
    Keep(#[from] WriteFileError),
    #[error("a worker ended too early")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Claims the image for the member and fetches what is missing of it. The claim is given up again
/// if that fails.
pub(crate) async fn provide(
    shared: &Arc<Shared>,
    member: MemberId,
    image: ImageId,
    abandoned: &CancellationToken,
) -> Result<Manifest, FetchError> {
    let images = &shared.images;
    let Some(_kept) = abandoned.run_until_cancelled(images.gate.read()).await else {
        return Err(FetchError::Abandoned);
    };
    images.claim(member, image);
    let provided = fetch(shared, member, image, abandoned).await;
    locked(&images.waiting).remove(&member);
    if provided.is_err() {
        images.release(member);
    }
    provided
}

async fn fetch(
    shared: &Arc<Shared>,
    member: MemberId,
    image: ImageId,
    abandoned: &CancellationToken,
) -> Result<Manifest, FetchError> {
    let manifest = retried(abandoned, || manifest_of(shared, image)).await?;
    for index in 0..manifest.layers.len() {
        let fetching = || layer(shared, member, &manifest, index, abandoned);
        retried(abandoned, fetching).await?;
    }
    Ok(manifest)
}

/// Tries again while it is only the connection that fails.
async fn retried<T, F>(
    abandoned: &CancellationToken,
    mut work: impl FnMut() -> F,
) -> Result<T, FetchError>
where
    F: Future<Output = Result<T, FetchError>>,
{
    let mut pause = FETCH_PAUSE;
    let mut tries = 1;
    loop {
        let failed = match work().await {
            Err(_) if abandoned.is_cancelled() => return Err(FetchError::Abandoned),
            Err(error @ FetchError::Fetch(NodeError::Disconnected)) => error,
            done => return done,
        };
        if tries >= FETCH_TRIES {
            return Err(failed);
        }
        let sleeping = tokio::time::sleep(pause);
        let waited = abandoned.run_until_cancelled(sleeping).await;
        waited.ok_or(FetchError::Abandoned)?;
        pause *= 2;
        tries += 1;
    }
}

/// The manifest as the node keeps it, or else from the manager.
async fn manifest_of(shared: &Arc<Shared>, image: ImageId) -> Result<Manifest, FetchError> {
    let reading = Arc::clone(shared);
    let kept = tokio::task::spawn_blocking(move || reading.images.manifest(image)).await?;
    if let Some(manifest) = kept? {
        return Ok(manifest);
    }
    let told = match shared.manager.image_manifest(image).await {
        Err(NodeError::NotFound { .. }) => return Err(FetchError::Removed { image }),
        told => told?,
    };
    let verified = (told.bytes.len() <= MANIFEST_LIMIT).then(|| verified(image, &told.bytes));
    let manifest = verified
        .flatten()
        .ok_or(FetchError::OtherManifest { image })?;
    let keeper = Arc::clone(shared);
    let keeping = move || {
        // Members that come to a new image at once keep the same file.
        let _turn = locked(&keeper.images.keeping);
        let path = keeper.images.manifest_path(image);
        write_file_atomic(&path, &told.bytes, 0o600, Durability::Process)
    };
    tokio::task::spawn_blocking(keeping).await??;
    Ok(manifest)
}

/// Fetches and unpacks one layer, unless it is there; waits where somebody else does.
async fn layer(
    shared: &Arc<Shared>,
    member: MemberId,
    manifest: &Manifest,
    index: usize,
    abandoned: &CancellationToken,
) -> Result<(), FetchError> {
    let layer = manifest.layers[index];
    if has(shared, layer).await? {
        return Ok(());
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let flight = flight(&shared.images, &layer);
    let waiting = Waiting {
        layer: count(index + 1),
        layers: count(manifest.layers.len()),
        total_bytes: layer.stored_bytes,
        flight: Arc::clone(&flight),
    };
    locked(&shared.images.waiting).insert(member, waiting);
    let unpacked = match abandoned.run_until_cancelled(flight.lock.lock()).await {
        None => Err(FetchError::Abandoned),
        Some(_first) => match has(shared, layer).await {
            Ok(false) => unpack(shared, layer, index + 1, &flight, abandoned).await,
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        },
    };
    land(&shared.images, &layer, flight);
    unpacked
}

async fn has(shared: &Arc<Shared>, layer: Layer) -> Result<bool, FetchError> {
    let shared = Arc::clone(shared);
    let looking = move || shared.images.store.has(&layer);
    Ok(tokio::task::spawn_blocking(looking).await?)
}

fn flight(images: &NodeImages, layer: &Layer) -> Arc<Flight> {
    let mut flights = locked(&images.flights);
    Arc::clone(flights.entry(layer.diff_id).or_default())
}

/// Forgets a flight that nobody else waits for.
fn land(images: &NodeImages, layer: &Layer, flight: Arc<Flight>) {
    let mut flights = locked(&images.flights);
    // A member that is told of it holds it too.
    drop(flight);
    let over = |known: &Arc<Flight>| known.lock.try_lock().is_ok();
    if flights.get(&layer.diff_id).is_some_and(over) {
        flights.remove(&layer.diff_id);
    }
}

async fn unpack(
    shared: &Arc<Shared>,
    layer: Layer,
    number: usize,
    flight: &Arc<Flight>,
    abandoned: &CancellationToken,
) -> Result<(), FetchError> {
    let fetching = shared.manager.image_blob(layer.digest);
    let stream = match abandoned.run_until_cancelled(fetching).await {
        None => return Err(FetchError::Abandoned),
        Some(stream) => stream?,
    };
    let (reader, broken) = blocking_reader(stream, abandoned.clone());
    let (images, flight) = (Arc::clone(shared), Arc::clone(flight));
    let unpacking = move || {
        let told = |progress: Progress| flight.bytes.store(progress.bytes, Ordering::Relaxed);
        images.images.store.unpack(&layer, reader, &mut { told })
    };
    match tokio::task::spawn_blocking(unpacking).await? {
        Ok(_unpacked) => Ok(()),
        Err(_) if broken.is_set() => Err(NodeError::Disconnected.into()),
        Err(error) if error.is_full() => Err(FetchError::DiskFull { number }),
        Err(source) => Err(FetchError::Layer { number, source }),
    }
}
