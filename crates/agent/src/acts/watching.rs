//! Watching living guests, and orders to them.

use super::blocking;
use crate::guest::{self, GuestError};
use crate::shared::{Shared, chain};
use domain::MemberId;
use guest_api::Request;
use lifecycle::agent::AgentEventKind;
use rustix::process::Signal;
use std::sync::Arc;
use std::time::Duration;

/// How often the lock is looked at beside the engine's own word.
const LOCK_CHECK: Duration = Duration::from_secs(30);
/// After an engine could not wait.
const WAIT_PAUSE: Duration = Duration::from_secs(1);

/// Tells the owner when the guest no longer lives. The engine knows it first; that the lock is
/// free is a second witness, should the engine miss it.
pub(super) async fn watch(shared: Arc<Shared>, member: MemberId) {
    let directory = shared.member(member);
    loop {
        let waited = shared.engine.wait(member, directory.path());
        match tokio::time::timeout(LOCK_CHECK, waited).await {
            Ok(Ok(())) => break,
            Ok(Err(error)) => {
                tracing::warn!(member.id = %member, "cannot wait for its guest: {}", chain(&error));
                tokio::time::sleep(WAIT_PAUSE).await;
            }
            Err(_elapsed) => {}
        }
        if shared.guests_lock_is_free(member).await {
            break;
        }
    }
    process::crash_point("record.guest-gone");
    shared.stdin.forget(member);
    shared.tell(AgentEventKind::GuestGone { member }).await;
}

/// Hands the order to the guest, which enforces the grace by itself; before that, notes the bytes
/// that it is ended for. On a disk without room for the note the order is given all the same, for
/// it is what makes room; only a process that is killed meanwhile would not know the reason then.
pub(super) async fn order_stop(
    shared: Arc<Shared>,
    member: MemberId,
    request: Request,
    disk_bytes: Option<u64>,
) {
    if let Some(bytes) = disk_bytes {
        let directory = shared.member(member);
        let noted = blocking(move || directory.save_disk_limit(bytes)).await;
        if let Err(reason) = noted {
            tracing::warn!(member.id = %member, "that the disk ends it was not noted: {reason}");
        }
    }
    process::crash_point("stop.wanted");
    let kind = match guest::ask(&shared.socket(member), &request).await {
        Ok(_reply) => {
            process::crash_point("stop.ordered");
            AgentEventKind::StopOrdered { member }
        }
        Err(error) => {
            tracing::info!(member.id = %member, "its guest was not told to stop: {}", chain(&error));
            let late = matches!(error, GuestError::Late);
            AgentEventKind::StopNotOrdered { member, late }
        }
    };
    shared.tell(kind).await;
}

/// The core tries again until the watch sees the end.
pub(super) async fn kill(shared: Arc<Shared>, member: MemberId) {
    tracing::warn!(member.id = %member, "its guest did not end in time and is killed");
    if let Err(error) = shared.engine.signal(member, Signal::KILL.as_raw()).await {
        tracing::warn!(member.id = %member, "it could not be killed: {}", chain(&error));
    }
}
