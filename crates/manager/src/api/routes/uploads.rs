//! Uploads: archives that wait for a session to name them.

use crate::api::bodies::Upload;
use crate::api::extract::Context;
use crate::api::problems::Refusal;
use crate::api::routes::RawBytes;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use public_api::{UPLOAD_LIMIT_BYTES, UploadView};

/// Stage an upload
///
/// The body is a tar archive of at most 64 GiB. It is kept for a day unless a session names it.
#[utoipa::path(
    post,
    path = "/api/v1/uploads",
    tag = "uploads",
    request_body(content = inline(RawBytes), content_type = "application/x-tar"),
    responses((status = 201, description = "It is kept.", body = UploadView))
)]
pub(in crate::api) async fn upload(
    context: Context,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<UploadView>), Refusal> {
    let Context { service, caller } = context;
    let upload = Upload::new(body, UPLOAD_LIMIT_BYTES);
    upload.check_announced(&headers)?;
    let view = service.upload(&caller, upload.stream()).await?;
    Ok((StatusCode::CREATED, Json(view)))
}
