//! What goes along with a session: which files of a directory, and how they are put into an
//! archive.

mod archive;
mod plan;
mod stamp;

pub(crate) use archive::write_archive;
pub(crate) use plan::{
    BYTES_LIMIT, Chosen, FILES_LIMIT, Plan, Surroundings, is_version_control, plan_directory,
    plan_file,
};
pub(crate) use stamp::{Manifest, Stamp};
