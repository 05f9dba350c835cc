//! Output of sessions.

use crate::api::extract::{Context, QueryOf, SessionReference, StreamReference, check_number};
use crate::api::problems::Refusal;
use crate::api::routes::RawBytes;
use crate::api::streams;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use public_api::{ATTEMPT_HEADER, LOG_CONTENT_TYPE, LogOutput, LogQuery, OutputStream};

/// A session's output
///
/// In frames of a kind byte, an offset and a length (8 bytes each, little-endian) and the bytes:
/// 1 data, 2 gap, 3 end, 4 alive. A body without the end frame was cut off. With `raw` only the
/// bytes.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{session}/logs/{stream}",
    tag = "sessions",
    params(
        ("session" = String, Path, description = "Id or name."),
        ("stream" = OutputStream, Path, description = "Which output."),
        LogQuery
    ),
    responses((
        status = 200,
        description = "The output.",
        content(
            (inline(RawBytes) = "application/vnd.insula.log"),
            (inline(RawBytes) = "application/octet-stream")
        )
    ))
)]
pub(in crate::api) async fn logs(
    context: Context,
    SessionReference(session): SessionReference,
    StreamReference(stream): StreamReference,
    QueryOf(query): QueryOf<LogQuery>,
) -> Result<Response, Refusal> {
    let Context { service, caller } = context;
    check_number("offset", Some(query.offset))?;
    let raw = query.raw;
    let LogOutput { attempt, frames } = service.logs(&caller, &session, stream, query).await?;
    let (kind, body) = if raw {
        ("application/octet-stream", streams::raw(frames))
    } else {
        (LOG_CONTENT_TYPE, streams::framed(frames))
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (HeaderName::from_static(ATTEMPT_HEADER), attempt.to_string()),
    ];
    Ok((headers, body).into_response())
}
