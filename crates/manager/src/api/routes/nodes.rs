//! Routes of nodes, for operators.

use crate::api::extract::{Context, JsonOf, NodeReference, QueryOf};
use crate::api::problems::Refusal;
use axum::Json;
use axum::http::StatusCode;
use public_api::{DrainNode, NodeView, RemoveNodeQuery};

/// The nodes
///
/// Operators only.
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    tag = "site",
    responses((status = 200, description = "Every node of the site.", body = Vec<NodeView>))
)]
pub(in crate::api) async fn list(context: Context) -> Result<Json<Vec<NodeView>>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.nodes(&caller).await?))
}

/// A node
///
/// Operators only.
#[utoipa::path(
    get,
    path = "/api/v1/nodes/{node}",
    tag = "site",
    params(("node" = String, Path, description = "Id or name.")),
    responses((status = 200, description = "The node.", body = NodeView))
)]
pub(in crate::api) async fn node(
    context: Context,
    NodeReference(node): NodeReference,
) -> Result<Json<NodeView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.node(&caller, &node).await?))
}

/// Drain a node
///
/// Operators only. It is given nothing new; what lives there goes on, unless `stop` says how it is
/// ended. Asked again it changes the reason.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{node}/drain",
    tag = "site",
    params(("node" = String, Path, description = "Id or name.")),
    request_body = Option<DrainNode>,
    responses((status = 200, description = "It is drained.", body = NodeView))
)]
pub(in crate::api) async fn drain(
    context: Context,
    NodeReference(node): NodeReference,
    JsonOf(order): JsonOf<DrainNode>,
) -> Result<Json<NodeView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.drain_node(&caller, &node, order).await?))
}

/// Take a drained node back
///
/// Operators only. For a node that is not drained, nothing is to be done.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{node}/undrain",
    tag = "site",
    params(("node" = String, Path, description = "Id or name.")),
    responses((status = 200, description = "It is not drained.", body = NodeView))
)]
pub(in crate::api) async fn undrain(
    context: Context,
    NodeReference(node): NodeReference,
) -> Result<Json<NodeView>, Refusal> {
    let Context { service, caller } = context;
    Ok(Json(service.undrain_node(&caller, &node).await?))
}

/// Remove a node
///
/// Operators only. Refused while its agent is connected, and while something may live there unless
/// its machine is `lost`: then what it had ends as lost, or is tried again.
#[utoipa::path(
    delete,
    path = "/api/v1/nodes/{node}",
    tag = "site",
    params(("node" = String, Path, description = "Id or name."), RemoveNodeQuery),
    responses((status = 204, description = "It no longer belongs to the site."))
)]
pub(in crate::api) async fn remove(
    context: Context,
    NodeReference(node): NodeReference,
    QueryOf(query): QueryOf<RemoveNodeQuery>,
) -> Result<StatusCode, Refusal> {
    let Context { service, caller } = context;
    service.remove_node(&caller, &node, query.lost).await?;
    Ok(StatusCode::NO_CONTENT)
}
