//! Standing still and going on: the engine holds the processes, the guest the clock of the time
//! limit. Either act may be cut off anywhere and is done again as a whole.

use crate::guest::{self, GuestError};
use crate::shared::{Shared, chain};
use domain::MemberId;
use guest_api::Request;
use lifecycle::agent::AgentEventKind;
use std::sync::Arc;

/// How a guest begins to refuse a request that it cannot read.
const UNREADABLE: &str = "the request: unknown variant";

/// The engine comes first, so that what it made tells a later process that something was begun;
/// and once more after the guest, which may have started a command before it was told.
pub(super) async fn pause(shared: Arc<Shared>, member: MemberId) -> AgentEventKind {
    let held = async {
        hold(&shared, member).await?;
        tell_pause(&shared, member).await?;
        hold(&shared, member).await
    };
    match held.await {
        Ok(()) => AgentEventKind::Paused { member },
        Err(reason) => {
            tracing::warn!(member.id = %member, "it could not be paused: {reason}");
            if let Err(error) = release(&shared, member).await {
                tracing::warn!(member.id = %member, "it may not go on: {error}");
            }
            AgentEventKind::PauseFailed { member, reason }
        }
    }
}

pub(super) async fn resume(shared: Arc<Shared>, member: MemberId) -> AgentEventKind {
    match release(&shared, member).await {
        Ok(()) => AgentEventKind::Resumed { member },
        Err(reason) => {
            tracing::warn!(member.id = %member, "it could not be made to go on: {reason}");
            AgentEventKind::ResumeFailed { member }
        }
    }
}

async fn hold(shared: &Shared, member: MemberId) -> Result<(), String> {
    let held = shared.engine.pause(member).await;
    held.map_err(|error| chain(&error))
}

/// A guest of an older build goes on counting: that is refused where it has something to count.
async fn tell_pause(shared: &Shared, member: MemberId) -> Result<(), String> {
    match guest::ask(&shared.socket(member), &Request::Pause).await {
        Ok(_reply) => Ok(()),
        Err(error) if is_too_old(&error) => {
            let spec = shared.specification(member).await;
            let spec = spec.map_err(|error| chain(&error))?;
            if spec.session.time_limit.is_none() {
                return Ok(());
            }
            Err(
                "it was started by an older Insula, whose guest would let the time limit run on"
                    .to_owned(),
            )
        }
        Err(error) => Err(chain(&error)),
    }
}

async fn release(shared: &Shared, member: MemberId) -> Result<(), String> {
    let resumed = shared.engine.resume(member).await;
    resumed.map_err(|error| chain(&error))?;
    match guest::ask(&shared.socket(member), &Request::Resume).await {
        Ok(_reply) => Ok(()),
        // One that is too old was never told of a pause.
        Err(error) if is_too_old(&error) => Ok(()),
        // Its processes go on, whether or not it can be told; it never can be if its socket was
        // lost. The member goes on, then, and what it costs is that its time limit stands.
        Err(error @ GuestError::Connect(_)) => {
            tracing::warn!(
                member.id = %member,
                "it goes on, and its guest was not told: a time limit does not run from now on: {}",
                chain(&error)
            );
            Ok(())
        }
        Err(error) => Err(chain(&error)),
    }
}

fn is_too_old(error: &GuestError) -> bool {
    matches!(error, GuestError::Refused { reason } if reason.starts_with(UNREADABLE))
}
