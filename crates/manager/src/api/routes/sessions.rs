//! Routes of sessions, without their output.

use crate::api::bodies;
use crate::api::extract::{
    Accepted, Context, JsonOf, QueryOf, SessionReference, check_limit, idempotency_key, made,
};
use crate::api::problems::Refusal;
use crate::api::routes::RawBytes;
use crate::api::streams;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use public_api::{
    ChangeSession, CreateSession, Created, FilesQuery, Hold, HoldOrder, ListQuery, PriorityOrder,
    RemoveQuery, STDIN_LIMIT_BYTES, SessionPage, SessionView, SignalOrder, StdinQuery, StdinView,
    StopSession, UsageView, Why,
};
use std::hash::{DefaultHasher, Hasher};

/// Make a session
///
/// Answers when that is durable. With an `Idempotency-Key` it happens once, however often it is
/// sent: 201 the first time, 200 after that.
#[utoipa::path(
    post,
    path = "/api/v1/sessions",
    tag = "sessions",
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 visible ASCII characters.")),
    request_body = CreateSession,
    responses(
        (status = 201, description = "It is made.", body = Created),
        (status = 200, description = "The same key had made it before.", body = Created)
    )
)]
pub(in crate::api) async fn create(
    context: Context,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let Context { service, caller } = context;
    let key = idempotency_key(&headers)?;
    let request: CreateSession = bodies::json(&headers, body).await?;
    let created = service.create(&caller, request, key).await?;
    let place = format!("sessions/{}", created.session.id);
    Ok(made(created.already, &place, &created))
}

/// List sessions
///
/// Newest first, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    tag = "sessions",
    params(ListQuery),
    responses((status = 200, description = "A page.", body = SessionPage))
)]
pub(in crate::api) async fn list(
    context: Context,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<SessionPage>, Refusal> {
    let Context { service, caller } = context;
    check_limit(query.limit)?;
    Ok(Json(service.list(&caller, query).await?))
}

/// One session
///
/// With an `ETag`; send it back in `If-None-Match` to be told only whether anything changed.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{session}",
    tag = "sessions",
    params(
        ("session" = String, Path, description = "Id or name."),
        ("if-none-match" = Option<String>, Header, description = "An `ETag` seen before.")
    ),
    responses(
        (status = 200, description = "The session.", body = SessionView),
        (status = 304, description = "It is as it was.")
    )
)]
pub(in crate::api) async fn session(
    context: Context,
    SessionReference(session): SessionReference,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Context { service, caller } = context;
    let view = service.session(&caller, &session).await?;
    let body = serde_json::to_vec(&view).expect("a session has only texts and numbers");
    let tag = entity_tag(&body);
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let kind = "application/json".to_owned();
    Ok(([(header::CONTENT_TYPE, kind), (header::ETAG, tag)], body).into_response())
}

/// Stop a session
///
/// Answers when the intention is durable. An empty body takes the defaults.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{session}/stop",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    request_body = Option<StopSession>,
    responses((status = 202, description = "It will end.", body = SessionView))
)]
pub(in crate::api) async fn stop(
    context: Context,
    SessionReference(session): SessionReference,
    JsonOf(order): JsonOf<StopSession>,
) -> Result<Accepted<SessionView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(service.stop(&caller, &session, order).await?))
}

/// Pause a session
///
/// All its processes stand still until it is resumed; it keeps its place, its memory and its time
/// limit, which does not run meanwhile. Answers when the intention is durable. Only one that runs
/// can be paused; one that is paused already stays so.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{session}/pause",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    request_body = Option<HoldOrder>,
    responses((status = 202, description = "It will stand still.", body = SessionView))
)]
pub(in crate::api) async fn pause(
    context: Context,
    SessionReference(session): SessionReference,
    JsonOf(HoldOrder {}): JsonOf<HoldOrder>,
) -> Result<Accepted<SessionView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(
        service.hold(&caller, &session, Hold::Pause).await?,
    ))
}

/// Resume a paused session
///
/// Answers when the intention is durable. One that is not paused goes on as it does.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{session}/resume",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    request_body = Option<HoldOrder>,
    responses((status = 202, description = "It will go on.", body = SessionView))
)]
pub(in crate::api) async fn resume(
    context: Context,
    SessionReference(session): SessionReference,
    JsonOf(HoldOrder {}): JsonOf<HoldOrder>,
) -> Result<Accepted<SessionView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(
        service.hold(&caller, &session, Hold::Resume).await?,
    ))
}

/// Change a session's priority
///
/// Answers when that is durable. Among those that wait for a place a higher one goes first; nothing
/// that runs is stopped. An element has that of its array.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{session}/priority",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    request_body = PriorityOrder,
    responses((status = 200, description = "It is changed.", body = SessionView))
)]
pub(in crate::api) async fn priority(
    context: Context,
    SessionReference(session): SessionReference,
    JsonOf(order): JsonOf<PriorityOrder>,
) -> Result<Json<SessionView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.prioritize(&caller, &session, order).await?))
}

/// Remove a session
///
/// With all it left: files, output and record. Answers when the intention is durable.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{session}",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name."), RemoveQuery),
    responses((status = 202, description = "It will be gone.", body = SessionView))
)]
pub(in crate::api) async fn remove(
    context: Context,
    SessionReference(session): SessionReference,
    QueryOf(query): QueryOf<RemoveQuery>,
) -> Result<Accepted<SessionView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Accepted(
        service.remove(&caller, &session, query.force).await?,
    ))
}

/// Rename a session
///
/// Answers when that is durable. Inside, it keeps the name it was started with.
#[utoipa::path(
    patch,
    path = "/api/v1/sessions/{session}",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    request_body = ChangeSession,
    responses((status = 200, description = "It has the name.", body = SessionView))
)]
pub(in crate::api) async fn change(
    context: Context,
    SessionReference(session): SessionReference,
    JsonOf(change): JsonOf<ChangeSession>,
) -> Result<Json<SessionView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.change(&caller, &session, change).await?))
}

/// Signal a session's command
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{session}/signal",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    request_body = SignalOrder,
    responses((status = 204, description = "It was signalled."))
)]
pub(in crate::api) async fn signal(
    context: Context,
    SessionReference(session): SessionReference,
    JsonOf(order): JsonOf<SignalOrder>,
) -> Result<StatusCode, Refusal> {
    let Context { service, caller } = context;
    service.signal(&caller, &session, order).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Why a session is where it is
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{session}/why",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    responses((status = 200, description = "The reasons.", body = Why))
)]
pub(in crate::api) async fn why(
    context: Context,
    SessionReference(session): SessionReference,
) -> Result<Json<Why>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.why(&caller, &session).await?))
}

/// What a session uses now
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{session}/usage",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name.")),
    responses((status = 200, description = "Its use.", body = UsageView))
)]
pub(in crate::api) async fn usage(
    context: Context,
    SessionReference(session): SessionReference,
) -> Result<Json<UsageView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.usage(&caller, &session).await?))
}

/// Write to a session's standard input
///
/// At most 256 KiB at once. The answer tells the next byte wanted, which may be less than was
/// sent: send the rest again from there.
#[utoipa::path(
    put,
    path = "/api/v1/sessions/{session}/stdin",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name."), StdinQuery),
    request_body(content = inline(RawBytes), content_type = "application/octet-stream"),
    responses((status = 200, description = "How far it has got.", body = StdinView))
)]
pub(in crate::api) async fn stdin(
    context: Context,
    SessionReference(session): SessionReference,
    QueryOf(query): QueryOf<StdinQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<StdinView>, Refusal> {
    let Context { service, caller } = context;
    let bytes = bodies::whole(&headers, body, STDIN_LIMIT_BYTES).await?;
    Ok(Json(service.stdin(&caller, &session, query, bytes).await?))
}

/// Files of a session
///
/// As a tar archive. A body that is cut off is not whole.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{session}/files",
    tag = "sessions",
    params(("session" = String, Path, description = "Id or name."), FilesQuery),
    responses((status = 200, description = "The files.", body = inline(RawBytes), content_type = "application/x-tar"))
)]
pub(in crate::api) async fn files(
    context: Context,
    SessionReference(session): SessionReference,
    QueryOf(query): QueryOf<FilesQuery>,
) -> Result<Response, Refusal> {
    let Context { service, caller } = context;
    let parts = service.files(&caller, &session, query).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{session}.tar\""),
        ),
    ];
    Ok((headers, streams::bytes(parts)).into_response())
}

/// A weak tag from 64 bits of the body's hash: two states of one session that share it are not to
/// be met, and a new build may hash otherwise at the price of one more answer.
fn entity_tag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("W/\"{:016x}\"", hasher.finish())
}

fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let strong = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || strong(known) == strong(tag))
}
