//! The agent: what a node does for its manager.
//!
//! * [`Agent`] owns one task with the pure core of `lifecycle::agent`; it turns events into acts.
//! * `directory` is everything that is kept on disk: there is no database.
//! * `acts` carries the core's effects out, each as a task of its own, with a bound on how many.
//! * `guest` speaks to the guests; `files` unpacks uploads and packs downloads; `streams` reads
//!   logs and writes standard input.
//! * `images` fetches imported images and tells what a member is started on; `bridge` lets worker
//!   threads read what the manager streams.
//! * `background` has one file for each task that goes on for ever.
//!
//! Members run on when the agent goes, in whatever way; the next one finds them.

mod acts;
mod agent;
mod background;
mod bridge;
mod clock;
mod directory;
mod files;
mod guest;
mod images;
mod node_service;
mod owner;
mod recovery;
mod shared;
mod streams;

pub use crate::agent::{Agent, AgentSettings, AgentStartError};
pub use crate::directory::{DirectoryError, IdentityFileError, node_identity};
pub use crate::files::{
    Limits, Manifest, ManifestError, PackError, PackOptions, UnpackError, pack, unpack,
};
