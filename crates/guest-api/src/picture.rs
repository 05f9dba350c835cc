//! What a session is shown of the machine: its own share.
//!
//! Where an engine can cover parts of `/proc`, it leaves the guest a directory
//! ([`crate::descriptors::PICTURE`]) with a [`Picture`] in the file [`FILE`] and one empty file for
//! each name of [`LIVE`] that it has put over the one in `/proc`. The guest keeps those true. Where
//! it can have system calls answered, the guest also inherits
//! [`crate::descriptors::NOTIFICATIONS`].

use serde::{Deserialize, Serialize};

/// The file with the [`Picture`], as MessagePack with field names.
pub const FILE: &str = "picture";
/// The files of `/proc` that the guest writes, if they are there.
pub const LIVE: [&str; 3] = ["loadavg", "meminfo", "stat"];
/// A length of the mask with which `sched_getaffinity` is always the kernel's: the guest's own way
/// to ask, since whoever answers must not wait for itself. Enough for 65,600 CPUs.
pub const AFFINITY_BYTES: usize = 8_200;

/// What a session has of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The CPUs that are shown, by the node's numbers, in order; at least one.
    pub cpus: Vec<u32>,
    /// The memory limit in bytes, if one holds.
    pub memory_bytes: Option<u64>,
    /// Where the session's own control group is shown, if it is.
    pub groups: Option<Groups>,
}

/// Directories inside that show the session's own control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Version 1 or 2.
    pub version: u8,
    /// Where CPU time is counted: `cpuacct`'s on version 1.
    pub cpu: String,
    /// Where memory is counted.
    pub memory: String,
}
