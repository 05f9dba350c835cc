//! What the sandbox can do and enforce on this node, by asking the kernel.

use super::chain;
use crate::cgroup::Hierarchy;
use crate::identity::Identity;
use crate::network::SiteNetwork;
use domain::Capability;
use engine_api::{CAPABILITIES, Fingerprint};
use std::fs;
use std::path::Path;

const SHARED_IDS: &str = "without root a container has the user's own id, and of others at most \
     the range that is lent to the user, which all containers share; the files of an image are \
     all the command's";
/// Idmapped mounts came with Linux 5.12; which file systems have them is decided at each mount.
const IDMAPPED: (u32, u32) = (5, 12);
/// Overlays in a user namespace came with Linux 5.11.
const USERS_OVERLAY: (u32, u32) = (5, 11);

/// Freezing in version 2 came with Linux 5.2.
const FREEZER: (u32, u32) = (5, 2);

/// Answers every row, for containers of this identity or, if none can be made, with the reason.
/// What needs a trial is tried where that leaves no trace; of the network it was found out why a
/// user's containers cannot be connected, if they cannot.
pub(crate) fn fingerprint(
    groups: &Hierarchy,
    (network, users_obstacle): (&SiteNetwork, Option<String>),
    own_disk: &Capability,
    identity: Result<&Identity, &String>,
) -> Fingerprint {
    let rows = CAPABILITIES.iter().map(|row| {
        let answer = match identity {
            Ok(Identity::Lent(_) | Identity::Single) if row.name == "network.egress" => {
                users_obstacle.as_deref().map_or(Capability::Yes, no)
            }
            Ok(_) if row.name == "disk.own" => own_disk.clone(),
            Ok(identity) => capability(row.name, groups, network, identity),
            Err(reason) => no(reason),
        };
        (row.name.to_owned(), answer)
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Fingerprint {
        version: format!("Linux {}", kernel.trim()),
        capabilities: rows.collect(),
    }
}

fn capability(
    row: &str,
    groups: &Hierarchy,
    network: &SiteNetwork,
    identity: &Identity,
) -> Capability {
    match row {
        "limit.cpu" => groups.has("cpu"),
        "limit.memory" | "oom.evidence" => groups.has("memory"),
        "limit.pids" => groups.has("pids"),
        // By the mounts: only /dev, which nobody can write, is not `nodev`, and nobody inside can
        // make a node. The devices controller of version 1 is a second guard; version 2 has none.
        "devices.filtered" => Capability::Yes,
        "network.none" => namespace("net"),
        "network.host" => Capability::Yes,
        "network.egress" => egress(network),
        // The agent measures, whatever the engine.
        "limit.disk" => Capability::Yes,
        "root.read-only" | "root.layers" => overlay(identity),
        "identity.range" => match identity {
            Identity::Range => namespace("user"),
            Identity::Lent(_) | Identity::Single => no(SHARED_IDS),
        },
        "mount.user" => match identity {
            Identity::Range if kernel() < IDMAPPED => {
                no("the kernel is older than 5.12 and has no idmapped mounts")
            }
            // The user's own files are the command's own as they are.
            Identity::Range | Identity::Lent(_) | Identity::Single => Capability::Yes,
        },
        "system-calls.filtered" => filters(),
        "pause" => pause(groups),
        "pressure" => groups.has_pressure(),
        "guest.outlives-agent" => Capability::Yes,
        other => no(&format!("this build does not know the row {other}")),
    }
}

fn no(reason: &str) -> Capability {
    Capability::No {
        reason: reason.to_owned(),
    }
}

fn egress(network: &SiteNetwork) -> Capability {
    match (namespace("net"), network.check()) {
        (Capability::Yes, Ok(())) => Capability::Yes,
        (Capability::Yes, Err(error)) => no(&chain(&error)),
        (no, _) => no,
    }
}

fn pause(groups: &Hierarchy) -> Capability {
    match groups {
        Hierarchy::V2(_) if kernel() < FREEZER => {
            no("the kernel is older than 5.2 and cannot make groups of version 2 stand still")
        }
        Hierarchy::V1(_) | Hierarchy::V2(_) | Hierarchy::Unsupported { .. } => groups.has_pause(),
    }
}

fn namespace(kind: &str) -> Capability {
    if !Path::new("/proc/self/ns").join(kind).exists() {
        return no(&format!("the kernel has no {kind} namespaces"));
    }
    let limit = format!("/proc/sys/user/max_{kind}_namespaces");
    if fs::read_to_string(&limit).is_ok_and(|text| text.trim() == "0") {
        return no(&format!("{limit} is 0"));
    }
    Capability::Yes
}

fn file_system(name: &str) -> Capability {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.split_ascii_whitespace().any(|word| word == name) {
        Capability::Yes
    } else {
        // A module that is not loaded yet is not in the list; it is loaded at the first mount.
        let module = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let modules = format!("/lib/modules/{}/modules.dep", module.trim());
        let modules = fs::read_to_string(modules).unwrap_or_default();
        if modules.contains(&format!("/{name}.ko")) {
            return Capability::Yes;
        }
        no(&format!("the kernel has no {name}"))
    }
}

fn overlay(identity: &Identity) -> Capability {
    if *identity != Identity::Range && kernel() < USERS_OVERLAY {
        return no("the kernel is older than 5.11 and has no overlays without root");
    }
    file_system("overlay")
}

/// The version of the kernel; the lowest if it cannot be told.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

fn filters() -> Capability {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    if actions.is_ok_and(|text| text.split_ascii_whitespace().any(|word| word == "errno")) {
        Capability::Yes
    } else {
        no("the kernel has no filters for system calls")
    }
}
