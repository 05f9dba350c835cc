//! One start or removal of a member at a time.

use domain::MemberId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

/// The locks in use, by member. Unused ones are forgotten at the next call.
#[derive(Debug, Default)]
pub(super) struct MemberLocks {
    used: Mutex<HashMap<MemberId, Weak<tokio::sync::Mutex<()>>>>,
}

impl MemberLocks {
    /// Waits until no other call works on `member`. Cancellation safe.
    pub(super) async fn take(&self, member: MemberId) -> OwnedMutexGuard<()> {
        self.find(member).lock_owned().await
    }

    fn find(&self, member: MemberId) -> Arc<tokio::sync::Mutex<()>> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = used.get(&member).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        used.insert(member, Arc::downgrade(&lock));
        lock
    }
}
