//! Processes of sessions, over WebSockets.

use crate::api::extract::{Context, SessionReference};
use crate::api::problems::{Refusal, invalid_request};
use crate::api::websocket::Upgrade;
use axum::response::Response;
use public_api::ProcessControl;

/// Run a command in a session
///
/// A WebSocket of the subprotocol `v1.process.insula`. Every message is binary, and its first byte
/// is a channel: 0 standard input or keys (from the client), 1 standard output or what the
/// terminal shows, 2 standard error (both from the site), 3 control (both ways: one JSON object
/// with a `kind`; `ProcessControl` from the client, `ProcessEvent` from the site). The first
/// message of the client is its order, `{\"kind\":\"exec\",\"command\":[\"sh\"],...}`. The site answers
/// `started`, and its last message before it closes is `ended`, `problem`, or for a detached
/// command `started`. A command that is not detached is hung up when the connection ends before
/// it. Pages of other origins are refused.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{session}/exec",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    responses((status = 101, description = "Messages follow."))
)]
pub(in crate::api) async fn exec(
    context: Context,
    SessionReference(session): SessionReference,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let Context { service, caller } = context;
    service.session(&caller, &session).await?;
    Ok(upgrade.answer(move |order, input| async move {
        match order {
            ProcessControl::Exec(order) => service.exec(&caller, &session, order, input).await,
            _ => Err(*invalid_request("the first message has to be an `exec`").0),
        }
    }))
}

/// Attach to a session's main command
///
/// Like `exec`, with the first message `{\"kind\":\"attach\"}`. The site answers `joined`. Any number
/// of clients can be attached; they see the same output, and their input is mixed as it comes.
/// Nothing happens to the command when the connection ends.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{session}/attach",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    responses((status = 101, description = "Messages follow."))
)]
pub(in crate::api) async fn attach(
    context: Context,
    SessionReference(session): SessionReference,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let Context { service, caller } = context;
    service.session(&caller, &session).await?;
    Ok(upgrade.answer(move |order, input| async move {
        match order {
            ProcessControl::Attach(order) => service.attach(&caller, &session, order, input).await,
            _ => Err(*invalid_request("the first message has to be an `attach`").0),
        }
    }))
}
