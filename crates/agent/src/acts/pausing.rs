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
    match ask(shared, member, &Request::Pause).await? {
        Told::Done => Ok(()),
        Told::TooOld => {
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
    }
}

async fn release(shared: &Shared, member: MemberId) -> Result<(), String> {
    let resumed = shared.engine.resume(member).await;
    resumed.map_err(|error| chain(&error))?;
    // One that is too old was never told of a pause.
    ask(shared, member, &Request::Resume).await.map(drop)
}

enum Told {
    Done,
    TooOld,
}

async fn ask(shared: &Shared, member: MemberId, request: &Request) -> Result<Told, String> {
    match guest::ask(&shared.socket(member), request).await {
        Ok(_reply) => Ok(Told::Done),
        Err(GuestError::Refused { reason }) if reason.starts_with(UNREADABLE) => Ok(Told::TooOld),
        Err(error) => Err(chain(&error)),
    }
}
