//! What holds for a file of SQLite alone: plans, other builds' files, full disks, kills, power
//! cuts.

mod crash;
mod full_disk;
mod marks;
mod plans;
mod power_cuts;
pub(crate) mod sample;
mod versions;
