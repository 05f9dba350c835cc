//! Images: root file systems for containers, taken from archives and prepared on the node.
//!
//! * [`host`]: the node's own system, read-only, as an image.
//! * [`BlobStore`]: the manager's side. Takes archives in any common form, checks every entry of
//!   every layer, and keeps the layers by their digests.
//! * [`LayerStore`]: the node's side. Unpacks each layer once, beneath a directory of its own.
//! * [`pack_directory`]: a directory as an archive that [`BlobStore::import`] takes.
//!
//! What an image is stands in [`domain::image`]; what archives are refused, and why, in
//! [`Refusal`] and in `docs/images.md`. Everything here blocks.

mod archive;
mod blobs;
mod check;
mod decode;
mod errors;
mod fault;
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
mod import;
mod layers;
mod limits;
mod manifest;
mod names;
mod options;
mod pack;
mod refusal;
mod report;
mod settings;
mod streams;
mod walk;

pub use blobs::{BlobStore, Pruned, Sizes};
pub use domain::image::{Digest, ImageId, Layer, Manifest, Settings};
pub use errors::{ImportError, LayerError, StoreError};
pub use host::{HostImage, ImageError};
pub use layers::{LayerStore, Ownership, StoredLayer, Unpacked};
pub use limits::Limits;
pub use manifest::{canonical, image_id};
pub use options::{ImportOptions, NameRule, Overrides, Platform};
pub use pack::{PackError, PackOwners, Packed, pack_directory};
pub use refusal::{Refusal, Refused};
pub use report::{Dropped, Form, Imported, Progress, Report, Stage};
