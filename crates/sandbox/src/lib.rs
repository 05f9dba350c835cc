//! The sandbox: Insula's own engine, which starts containers in milliseconds and needs no other
//! daemon.
//!
//! ```text
//!  agent process                 launcher process             container
//!  Sandbox (engine.rs)  ------>  run_launcher (launcher.rs)
//!   makes groups, directories     makes detached mounts, clone3 --> child (launcher/child.rs)
//!                                 writes the id maps, idmaps         joins groups, builds its
//!                                 the mounts, lets the child go      root, gives up privileges,
//!                        <------  READY, guest.json, go  <---------  becomes the guest
//! ```
//! The launcher is a small process with one thread, because a process with many cannot safely
//! clone and go on. It dies with the agent (end of file on its socket); guests do not.
//!
//! Needs root. Control groups are those of version 1 or of version 2 (`cgroup::Hierarchy`).
#![allow(
    unsafe_code,
    reason = "namespaces, mounts and filters are system calls that no library wraps safely"
)]

mod cgroup;
mod engine;
mod filter;
mod kernel;
mod launcher;
mod message;

pub use cgroup::{ControlGroups, GroupVersion, control_groups};
pub use engine::{LauncherCommand, Sandbox, SandboxSettings};
pub use launcher::run_launcher;
