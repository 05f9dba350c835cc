//! The manager: decides for a site, keeps its state, and serves its API.
//!
//! * [`Manager`]: the thread that leads (the only one that changes anything), the committed view
//!   that everybody reads, and the nodes it calls.
//! * `app`: the public API's service over it: checks, conversions, streams.
//! * [`api`]: the same over HTTP.
//! * `tasks`: what runs in the background, one file each.

pub mod api;
mod app;
pub mod clock;
mod image_store;
mod leader;
mod manager;
mod node_side;
mod nodes;
mod shared;
mod tasks;
mod uploads;

pub use manager::{Manager, ManagerSettings, ManagerStartError};
