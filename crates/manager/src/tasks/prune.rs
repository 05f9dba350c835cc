//! Removes what is past its retention: rows of the store, uploads that no session named, and the
//! content of images that are gone.

use crate::clock;
use crate::image_store::Images;
use crate::leader::LeaderHandle;
use crate::shared::{Shared, chain};
use crate::uploads::Uploads;
use database::Retention;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tasks::TaskRunner;

/// Time between two rounds.
const PRUNE_PAUSE: Duration = Duration::from_secs(60);
/// Most calls of one round, so that a store with much to remove still answers requests.
const PRUNE_CALLS: usize = 20;
/// How the task is called.
pub(crate) const NAME: &str = "prune";

pub(crate) async fn prune_for_ever(
    leader: LeaderHandle,
    shared: Arc<Shared>,
    (uploads, images): (Uploads, Images),
    retention: Retention,
    runner: TaskRunner,
) {
    // What a crash left between the files of an image and its row.
    images.remove_garbage(&shared).await;
    loop {
        tokio::time::sleep(PRUNE_PAUSE).await;
        let rows = prune_rows(&leader, retention).await;
        let staged = prune_uploads(&shared, &uploads).await;
        let content = images.remove_garbage(&shared).await;
        runner.tell(
            NAME,
            format!(
                "{rows} rows, {staged} uploads and {} bytes of images removed in the last round",
                content.map_or(0, |pruned| pruned.bytes)
            ),
        );
    }
}

async fn prune_rows(leader: &LeaderHandle, retention: Retention) -> u64 {
    let mut rows = 0;
    for _ in 0..PRUNE_CALLS {
        let now = clock::now().wall;
        let report = leader.read(move |store| store.prune(&retention, now)).await;
        match report {
            Ok(report) => {
                rows += report.sessions.len() as u64 + report.events + report.idempotency_keys;
                if !report.more {
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "old rows cannot be removed");
                break;
            }
        }
    }
    rows
}

async fn prune_uploads(shared: &Shared, uploads: &Uploads) -> usize {
    let named = shared.named_uploads();
    let uploads = uploads.clone();
    let pruned =
        tokio::task::spawn_blocking(move || uploads.prune(&named, SystemTime::now())).await;
    match pruned {
        Ok(Ok(removed)) => removed,
        Ok(Err(error)) => {
            tracing::warn!(%error, "old uploads cannot be removed");
            0
        }
        Err(_) => 0,
    }
}
