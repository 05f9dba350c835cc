//! Routes of the site itself.

use crate::api::extract::{Accepted, Context, JsonOf};
use crate::api::openapi::openapi_text;
use crate::api::problems::Refusal;
use axum::Json;
use axum::http::header;
use axum::response::IntoResponse;
use public_api::{ShutdownOrder, ShutdownView, SiteUsageView, SiteView};

/// The site
#[utoipa::path(
    get,
    path = "/api/v1/site",
    tag = "site",
    responses((status = 200, description = "The site and the process that serves it.", body = SiteView))
)]
pub(in crate::api) async fn site(context: Context) -> Result<Json<SiteView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.site(&caller).await?))
}

/// What everything uses now
///
/// Your sessions that run, and for operators all of them and the nodes. Ask again for rates.
#[utoipa::path(
    get,
    path = "/api/v1/usage",
    tag = "site",
    responses((status = 200, description = "A sample.", body = SiteUsageView))
)]
pub(in crate::api) async fn usage(context: Context) -> Result<Json<SiteUsageView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.site_usage(&caller).await?))
}

/// Take the site down
///
/// Operators only. Sessions go on if they are told to.
#[utoipa::path(
    post,
    path = "/api/v1/shutdown",
    tag = "site",
    request_body = ShutdownOrder,
    responses((status = 202, description = "The site goes down.", body = ShutdownView))
)]
pub(in crate::api) async fn shutdown(
    context: Context,
    JsonOf(order): JsonOf<ShutdownOrder>,
) -> Result<Accepted<ShutdownView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(service.shutdown(&caller, order).await?))
}

/// This description
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "site",
    responses((status = 200, description = "The API as an OpenAPI document.", body = serde_json::Value))
)]
pub(in crate::api) async fn description(_: Context) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi_text())
}
