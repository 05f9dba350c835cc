//! Routes of arrays.

use crate::api::bodies;
use crate::api::extract::{
    Accepted, ArrayReference, Context, JsonOf, QueryOf, check_limit, idempotency_key, made,
};
use crate::api::problems::Refusal;
use axum::Json;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use public_api::{
    ArrayPage, ArrayQuery, ArrayView, CreateArray, CreatedArray, ElementPage, ElementQuery, Hold,
    HoldOrder, PriorityOrder, RemoveQuery, StopSession, ThrottleOrder,
};

/// Make an array
///
/// All of its elements in one transaction, at most 10,000. The body has at most 16 MiB. With an
/// `Idempotency-Key` it happens once, however often it is sent: 201 the first time, 200 after
/// that.
#[utoipa::path(
    post,
    path = "/api/v1/arrays",
    tag = "arrays",
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 visible ASCII characters.")),
    request_body = CreateArray,
    responses(
        (status = 201, description = "It is made.", body = CreatedArray),
        (status = 200, description = "The same key had made it before.", body = CreatedArray)
    )
)]
pub(in crate::api) async fn create(
    context: Context,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let Context { service, caller } = context;
    let key = idempotency_key(&headers)?;
    let request: CreateArray = bodies::large_json(&headers, body).await?;
    let created = service.create_array(&caller, request, key).await?;
    let place = format!("arrays/{}", created.array.id);
    Ok(made(created.already, &place, &created))
}

/// List arrays
///
/// Newest first, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/arrays",
    tag = "arrays",
    params(ArrayQuery),
    responses((status = 200, description = "A page.", body = ArrayPage))
)]
pub(in crate::api) async fn list(
    context: Context,
    QueryOf(query): QueryOf<ArrayQuery>,
) -> Result<Json<ArrayPage>, Refusal> {
    let Context { service, caller } = context;
    check_limit(query.limit)?;
    Ok(Json(service.arrays(&caller, query).await?))
}

/// One array
///
/// With how many of its elements are in each state.
#[utoipa::path(
    get,
    path = "/api/v1/arrays/{array}",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name.")),
    responses((status = 200, description = "The array.", body = ArrayView))
)]
pub(in crate::api) async fn array(
    context: Context,
    ArrayReference(array): ArrayReference,
) -> Result<Json<ArrayView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.array(&caller, &array).await?))
}

/// Elements of an array
///
/// The table of states, outcomes and times, by ascending index, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/arrays/{array}/elements",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name."), ElementQuery),
    responses((status = 200, description = "A page.", body = ElementPage))
)]
pub(in crate::api) async fn elements(
    context: Context,
    ArrayReference(array): ArrayReference,
    QueryOf(query): QueryOf<ElementQuery>,
) -> Result<Json<ElementPage>, Refusal> {
    let Context { service, caller } = context;
    check_limit(query.limit)?;
    Ok(Json(service.elements(&caller, &array, query).await?))
}

/// Change an array's throttle
///
/// Answers when that is durable. What runs goes on; a lower limit is reached as elements end. An
/// empty body takes the limit away.
#[utoipa::path(
    post,
    path = "/api/v1/arrays/{array}/throttle",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name.")),
    request_body = Option<ThrottleOrder>,
    responses((status = 200, description = "It is changed.", body = ArrayView))
)]
pub(in crate::api) async fn throttle(
    context: Context,
    ArrayReference(array): ArrayReference,
    JsonOf(order): JsonOf<ThrottleOrder>,
) -> Result<Json<ArrayView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.throttle_array(&caller, &array, order).await?))
}

/// Change an array's priority
///
/// It is that of all its elements. Answers when that is durable. Nothing that runs is stopped.
#[utoipa::path(
    post,
    path = "/api/v1/arrays/{array}/priority",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name.")),
    request_body = PriorityOrder,
    responses((status = 200, description = "It is changed.", body = ArrayView))
)]
pub(in crate::api) async fn priority(
    context: Context,
    ArrayReference(array): ArrayReference,
    JsonOf(order): JsonOf<PriorityOrder>,
) -> Result<Json<ArrayView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(
        service.prioritize_array(&caller, &array, order).await?,
    ))
}

/// Stop an array
///
/// Every element that lives. Answers when the intention is durable for all. An empty body takes
/// the defaults.
#[utoipa::path(
    post,
    path = "/api/v1/arrays/{array}/stop",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name.")),
    request_body = Option<StopSession>,
    responses((status = 202, description = "Its elements will end.", body = ArrayView))
)]
pub(in crate::api) async fn stop(
    context: Context,
    ArrayReference(array): ArrayReference,
    JsonOf(order): JsonOf<StopSession>,
) -> Result<Accepted<ArrayView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(service.stop_array(&caller, &array, order).await?))
}

/// Pause an array
///
/// Every element that runs; those that begin later are not paused. Answers when the intention is
/// durable for all.
#[utoipa::path(
    post,
    path = "/api/v1/arrays/{array}/pause",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name.")),
    request_body = Option<HoldOrder>,
    responses((status = 202, description = "They will stand still.", body = ArrayView))
)]
pub(in crate::api) async fn pause(
    context: Context,
    ArrayReference(array): ArrayReference,
    JsonOf(HoldOrder {}): JsonOf<HoldOrder>,
) -> Result<Accepted<ArrayView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(
        service.hold_array(&caller, &array, Hold::Pause).await?,
    ))
}

/// Resume an array
///
/// Every paused element. Answers when the intention is durable for all.
#[utoipa::path(
    post,
    path = "/api/v1/arrays/{array}/resume",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name.")),
    request_body = Option<HoldOrder>,
    responses((status = 202, description = "They will go on.", body = ArrayView))
)]
pub(in crate::api) async fn resume(
    context: Context,
    ArrayReference(array): ArrayReference,
    JsonOf(HoldOrder {}): JsonOf<HoldOrder>,
) -> Result<Accepted<ArrayView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(
        service.hold_array(&caller, &array, Hold::Resume).await?,
    ))
}

/// Remove an array
///
/// Every element with all it left; the array goes with its last one. Answers when the intention
/// is durable for all.
#[utoipa::path(
    delete,
    path = "/api/v1/arrays/{array}",
    tag = "arrays",
    params(("array" = String, Path, description = "Id or name."), RemoveQuery),
    responses((status = 202, description = "Its elements will be gone.", body = ArrayView))
)]
pub(in crate::api) async fn remove(
    context: Context,
    ArrayReference(array): ArrayReference,
    QueryOf(query): QueryOf<RemoveQuery>,
) -> Result<Accepted<ArrayView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(
        service.remove_array(&caller, &array, query.force).await?,
    ))
}
