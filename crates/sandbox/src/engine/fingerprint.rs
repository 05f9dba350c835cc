//! What the sandbox can do and enforce on this node, by asking the kernel.

use crate::cgroup::Hierarchy;
use domain::Capability;
use engine_api::{CAPABILITIES, Fingerprint};
use std::fs;
use std::path::Path;

const ROOT: &str = "this build's sandbox needs root; run the daemon as root";

/// Answers every row. What needs a trial is tried where that leaves no trace.
pub(crate) fn fingerprint(groups: &Hierarchy) -> Fingerprint {
    let rows = CAPABILITIES.iter().map(|row| {
        let answer = capability(row.name, groups);
        (row.name.to_owned(), answer)
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Fingerprint {
        version: format!("Linux {}", kernel.trim()),
        capabilities: rows.collect(),
    }
}

fn capability(row: &str, groups: &Hierarchy) -> Capability {
    if !rustix::process::geteuid().is_root() {
        return no(ROOT);
    }
    match row {
        "limit.cpu" => groups.has("cpu"),
        "limit.memory" | "oom.evidence" => groups.has("memory"),
        "limit.pids" => groups.has("pids"),
        // By the mounts: only /dev, which nobody can write, is not `nodev`, and nobody inside can
        // make a node. The devices controller of version 1 is a second guard; version 2 has none.
        "devices.filtered" => Capability::Yes,
        "network.none" => namespace("net"),
        "network.host" => Capability::Yes,
        "root.read-only" | "root.layers" => file_system("overlay"),
        "identity.range" => namespace("user"),
        "mount.user" => idmapped(),
        "system-calls.filtered" => filters(),
        "guest.outlives-agent" => Capability::Yes,
        other => no(&format!("this build does not know the row {other}")),
    }
}

fn no(reason: &str) -> Capability {
    Capability::No {
        reason: reason.to_owned(),
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

/// Idmapped mounts came with Linux 5.12; which file systems have them is decided at each mount.
fn idmapped() -> Capability {
    const LEAST: (u32, u32) = (5, 12);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= LEAST => Capability::Yes,
        _ => no("the kernel is older than 5.12 and has no idmapped mounts"),
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
