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
//! Without root the child makes the mounts too, for only in its own namespaces it may, and has the
//! ids of its user (`identity`). Control groups are those of version 1 or of version 2, or none
//! (`cgroup::Hierarchy`): then a note in the engine's directory tells which process it is.
#![allow(
    unsafe_code,
    reason = "namespaces, mounts and filters are system calls that no library wraps safely"
)]

mod cgroup;
mod chain;
mod cpus;
mod disk;
mod engine;
mod filter;
mod identity;
mod kernel;
mod launcher;
mod message;
mod namespaces;
mod netlink;
mod network;

pub use cgroup::{ControlGroups, GroupVersion, control_groups};
pub use engine::{LauncherCommand, MakeAhead, Sandbox, SandboxSettings};
pub use identity::{LentGap, LentRange, lent_range};
pub use launcher::run_launcher;
pub use namespaces::{NamespaceGap, closes_abstract_sockets, user_namespaces};
pub use network::{EgressSettings, InvalidRange, Ipv4Range, NetworkTrouble, network_troubles};
