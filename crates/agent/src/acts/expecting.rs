//! Making ready for what may come next: what was just asked for, once more.

use crate::shared::{Shared, chain};
use engine_api::ContainerSpec;
use std::sync::Arc;

/// Of how many starts it is thought ahead: while the first of what was made is taken, the next can
/// be made.
pub(super) const EXPECTED: usize = 2;

/// Has the engine make what it can for members in these slots, and makes a directory for the first.
/// Nothing depends on it.
pub(super) async fn expect(shared: Arc<Shared>, like: ContainerSpec, slots: Vec<u32>) {
    let of_slot = |slot: &u32| ContainerSpec {
        uids: shared.uids(*slot),
        ..like.clone()
    };
    let expected: Vec<ContainerSpec> = slots.iter().map(of_slot).collect();
    let Some(ContainerSpec { uids, .. }) = expected.first().cloned() else {
        return;
    };
    if !shared.engine.expect(&expected).await {
        return;
    }
    let context = Arc::clone(&shared);
    let making = move || context.ahead.make(uids);
    // Cancelled, if the process goes down.
    if let Ok(Err(error)) = tokio::task::spawn_blocking(making).await {
        tracing::warn!("no directory was made ahead: {}", chain(&error));
    }
}
