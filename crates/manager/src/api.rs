//! The public API over HTTP: routes translate to and from [`public_api::Service`], nothing else.
//!
//! Every request passes one edge (`edge`) that names it, finds out who asks, and gives every
//! error the same form. `routes` has a file per noun; `server` owns the sockets.

mod authenticator;
mod bodies;
mod door;
mod edge;
mod extract;
mod linger;
mod openapi;
mod problems;
mod routes;
mod server;
mod streams;
mod websocket;

pub use authenticator::{Authenticator, LOCAL_DOMAIN, LOCAL_PROJECT, Peer};
pub use door::Door;
pub use openapi::{openapi, openapi_text};
pub use server::{CONNECTION_LIMIT, TCP_CONNECTION_LIMIT, serve_tcp, serve_unix};

use axum::Router;
use public_api::Service;
use std::sync::Arc;

/// What every route has.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    service: Arc<dyn Service>,
    authenticator: Arc<Authenticator>,
}

/// All routes over `service`. The listeners that serve it ([`serve_unix`], [`serve_tcp`]) tell it
/// who is at the other end; a request without that is unauthenticated.
pub fn router(service: Arc<dyn Service>, authenticator: Authenticator) -> Router {
    let api = Api {
        service,
        authenticator: Arc::new(authenticator),
    };
    routes::table()
        .router
        .layer(axum::middleware::from_fn_with_state(
            api.clone(),
            edge::edge,
        ))
        .with_state(api)
}

/// Method (lower case) and path of every route that is served, for tests that hold them against
/// the description.
pub fn served() -> Vec<(&'static str, String)> {
    routes::table().served
}
