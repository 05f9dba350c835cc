//! Routes of images.

use crate::api::bodies::Upload;
use crate::api::extract::{Context, ImageReference, QueryOf};
use crate::api::problems::Refusal;
use crate::api::routes::RawBytes;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use public_api::{
    IMAGE_LIMIT_BYTES, ImageListView, ImageView, ImportQuery, ImportedView, RemovedImagesView,
};

/// Import an image
///
/// The body is a tar archive of a root file system, an OCI archive, or what `docker save` writes,
/// as it is or compressed by gzip, zstd or xz; at most 64 GiB. What it is is found out from its
/// content. Every entry of every layer is checked; what is refused, or cut off, leaves nothing.
#[utoipa::path(
    post,
    path = "/api/v1/images",
    tag = "images",
    params(ImportQuery),
    request_body(content = inline(RawBytes), content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "It is in the catalogue.", body = ImportedView),
        (status = 200, description = "The very same image was there before.", body = ImportedView)
    )
)]
pub(in crate::api) async fn import(
    context: Context,
    QueryOf(query): QueryOf<ImportQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ImportedView>), Refusal> {
    let Context { service, caller } = context;
    let upload = Upload::new(body, IMAGE_LIMIT_BYTES).sent_by(&caller);
    upload.check_announced(&headers)?;
    let view = service
        .import_image(&caller, query, upload.stream())
        .await?;
    let status = if view.already {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(view)))
}

/// List images
///
/// The one that every node has, then your own.
#[utoipa::path(
    get,
    path = "/api/v1/images",
    tag = "images",
    responses((status = 200, description = "Every image.", body = ImageListView))
)]
pub(in crate::api) async fn list(context: Context) -> Result<Json<ImageListView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.images(&caller).await?))
}

/// One image
///
/// By its name, its id, or the beginning of its id. A slash in a name is written as `%2F`.
#[utoipa::path(
    get,
    path = "/api/v1/images/{image}",
    tag = "images",
    params(("image" = String, Path, description = "Name, id, or the first digits of an id.")),
    responses((status = 200, description = "The image.", body = ImageView))
)]
pub(in crate::api) async fn image(
    context: Context,
    ImageReference(image): ImageReference,
) -> Result<Json<ImageView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.image(&caller, &image).await?))
}

/// Remove an image
///
/// By one of several names, only that name goes. By its id or its last name the image goes, with
/// all its names; refused (`image-in-use`) while living sessions run on it.
#[utoipa::path(
    delete,
    path = "/api/v1/images/{image}",
    tag = "images",
    params(("image" = String, Path, description = "Name, id, or the first digits of an id.")),
    responses((status = 200, description = "What is gone.", body = RemovedImagesView))
)]
pub(in crate::api) async fn remove(
    context: Context,
    ImageReference(image): ImageReference,
) -> Result<Json<RemovedImagesView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.remove_image(&caller, &image).await?))
}

/// Prune images
///
/// Removes your images that have no name and that no living session runs on.
#[utoipa::path(
    post,
    path = "/api/v1/images/prune",
    tag = "images",
    responses((status = 200, description = "What is gone.", body = RemovedImagesView))
)]
pub(in crate::api) async fn prune(context: Context) -> Result<Json<RemovedImagesView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.prune_images(&caller).await?))
}
