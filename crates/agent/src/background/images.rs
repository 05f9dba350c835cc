//! Removes layers of images that nothing needs any more.

use crate::images::collect;
use crate::shared::{Shared, chain};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked at what the site still has.
const ROUND: Duration = Duration::from_secs(10);
const TASK: &str = "collects layers";

/// Goes on for ever; may be dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        // Whichever comes first: time passes, or a container is gone.
        let _ = tokio::time::timeout(ROUND, shared.images.released()).await;
        match collect(&shared).await {
            Ok(0) => {}
            Ok(removed) => shared.tasks.tell(TASK, format!("{removed} layers removed")),
            // The manager is away; nothing is removed by ignorance.
            Err(error) => tracing::debug!("layers are not looked at: {}", chain(&error)),
        }
    }
}
