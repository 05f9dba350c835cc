//! A member's files: uploads are unpacked, downloads packed. Paths come from users and from
//! programs inside, so everything is opened beneath a root, a component at a time, and no link is
//! followed.

mod beneath;
mod held;
mod lender;
mod manifest;
mod measure;
mod pack;
mod unpack;

pub(crate) use beneath::{PathError, components, open_directory, open_name};
pub(crate) use held::held_open;
pub use manifest::{Manifest, ManifestError};
pub(crate) use measure::{ENTRIES_LIMIT, measure};
pub use pack::{PackError, PackOptions, pack};
pub(crate) use pack::{SingleFile, open_subtree, pack_single, pack_subtree};
pub(crate) use unpack::unpack_parts;
pub use unpack::{Limits, UnpackError, unpack};
