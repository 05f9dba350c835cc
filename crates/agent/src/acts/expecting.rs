//! Making ready for what may come next: what was just asked for, once more.

use crate::shared::{Shared, chain};
use engine_api::ContainerSpec;
use std::sync::Arc;

/// Makes a directory, and has the engine make what it can, for a member in this slot. Nothing depends
/// on it.
pub(super) async fn expect(shared: Arc<Shared>, like: ContainerSpec, slot: u32) {
    let uids = shared.uids(slot);
    if !shared.engine.expect(&ContainerSpec { uids, ..like }).await {
        return;
    }
    let context = Arc::clone(&shared);
    let making = move || context.ahead.make(uids);
    // Cancelled, if the process goes down.
    if let Ok(Err(error)) = tokio::task::spawn_blocking(making).await {
        tracing::warn!("no directory was made ahead: {}", chain(&error));
    }
}
