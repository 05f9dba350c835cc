//! What goes along with a session: which files of a directory, and how they are put into an
//! archive.

mod archive;
mod plan;
mod stamp;

pub(crate) use archive::write_archive;
pub(crate) use plan::{Plan, plan_directory, plan_file};
pub(crate) use stamp::{Manifest, Stamp};
