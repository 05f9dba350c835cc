//! Images: root file systems for containers, prepared on the node before an engine starts them.
//!
//! An image is handed to an engine as a [`engine_api::RootSpec`] and some [`engine_api::Bind`]s;
//! this crate makes the directories these name. Now there is one kind: [`host`], the node's own
//! system, read-only.

pub mod host;

pub use host::{HostImage, ImageError};
