//! The rows of the capability table: what an engine may be able to do and to enforce.

use domain::Capability;
use std::collections::BTreeMap;

/// One row of the capability table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityRow {
    /// The stable name, as refusals give it.
    pub name: &'static str,
    /// What having it means.
    pub meaning: &'static str,
}

const fn row(name: &'static str, meaning: &'static str) -> CapabilityRow {
    CapabilityRow { name, meaning }
}

/// Every row, in the order of the generated table.
pub const CAPABILITIES: &[CapabilityRow] = &[
    row("limit.cpu", "CPU time is limited to the amount asked for"),
    row("limit.memory", "memory is limited; swap is off"),
    row("limit.pids", "processes and threads are limited"),
    row(
        "limit.disk",
        "a container does not keep more on disk than its limit: it has a file system of that size \
         (`disk.own`), or is measured about every 10 seconds (every 30 where \
         nothing changed, large trees less often) and ended",
    ),
    row(
        "disk.own",
        "a disk limit is the size of a file system of the container's own: whoever fills it is told \
         so and goes on",
    ),
    row(
        "oom.evidence",
        "an out-of-memory kill is recognised, with limit and peak",
    ),
    row(
        "pressure",
        "how much of the time a container waits for CPU, memory and disks is told",
    ),
    row(
        "network.none",
        "a network namespace of its own with only a loopback device",
    ),
    row("network.host", "the node's network"),
    row(
        "network.egress",
        "a network namespace of its own with a way out, and none to the node or other containers",
    ),
    row("root.read-only", "the root file system cannot be written"),
    row(
        "root.layers",
        "an image of several layers with a writable one on top",
    ),
    row(
        "identity.range",
        "65,536 user ids of its own, none of them a user of the node",
    ),
    row(
        "mount.user",
        "a user's directory, with new files owned by the user",
    ),
    row(
        "system-calls.filtered",
        "system calls outside an allow-list are refused",
    ),
    row(
        "devices.filtered",
        "only the harmless devices can be opened",
    ),
    row(
        "pause",
        "everything in a container but its guest is made to stand still, and to go on",
    ),
    row(
        "guest.outlives-agent",
        "the container runs on when the agent dies",
    ),
];

/// What an engine can do on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The engine's own version, or the kernel's where it is built in.
    pub version: String,
    /// Every row of [`CAPABILITIES`], by name.
    pub capabilities: BTreeMap<String, Capability>,
}
