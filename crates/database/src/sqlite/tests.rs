//! What holds for a file of SQLite alone: plans, other builds' files, full disks, kills.

mod crash;
mod full_disk;
mod marks;
mod plans;
pub(crate) mod sample;
mod versions;
