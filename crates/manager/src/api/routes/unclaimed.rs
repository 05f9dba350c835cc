//! Routes of members that no session claims.

use crate::api::extract::{Context, JsonOf, MemberReference};
use crate::api::problems::Refusal;
use axum::Json;
use axum::http::StatusCode;
use public_api::{StopSession, UnclaimedView};

/// Members that no session claims
///
/// Operators only. They run on until an operator decides, or for a day.
#[utoipa::path(
    get,
    path = "/api/v1/unclaimed",
    tag = "site",
    responses((status = 200, description = "Every one, as last reported.", body = Vec<UnclaimedView>))
)]
pub(in crate::api) async fn list(context: Context) -> Result<Json<Vec<UnclaimedView>>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.unclaimed(&caller).await?))
}

/// End a member that no session claims
///
/// Operators only. What it leaves is kept.
#[utoipa::path(
    post,
    path = "/api/v1/unclaimed/{member}/stop",
    tag = "site",
    params(("member" = String, Path, description = "Its id.")),
    request_body = Option<StopSession>,
    responses((status = 202, description = "Its node is told."))
)]
pub(in crate::api) async fn stop(
    context: Context,
    MemberReference(member): MemberReference,
    JsonOf(order): JsonOf<StopSession>,
) -> Result<StatusCode, Refusal> {
    let Context { service, caller } = context;
    service.stop_unclaimed(&caller, &member, order).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Remove a member that no session claims
///
/// Operators only. It is ended if it lives, and all that it leaves is removed.
#[utoipa::path(
    delete,
    path = "/api/v1/unclaimed/{member}",
    tag = "site",
    params(("member" = String, Path, description = "Its id.")),
    responses((status = 202, description = "Its node is told."))
)]
pub(in crate::api) async fn remove(
    context: Context,
    MemberReference(member): MemberReference,
) -> Result<StatusCode, Refusal> {
    let Context { service, caller } = context;
    service.remove_unclaimed(&caller, &member).await?;
    Ok(StatusCode::ACCEPTED)
}
