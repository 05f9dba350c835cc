//! Becoming the command's user, for the command itself and for helpers that act for it.

use guest_api::RunAs;
use rustix::{
    fs::Mode,
    io::Errno,
    process::{Gid, Uid, getgid, getuid, umask},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

/// Capability numbers that the kernel's interface has room for.
const CAPABILITY_NUMBERS: u8 = 64;
/// Permission bits that new files of the command do not have.
const UMASK: u32 = 0o022;

/// The command's user cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// -1 means "unchanged" to the kernel.
    #[error("{id} is not a user or group id")]
    NotAnId {
        /// The number.
        id: u32,
    },
    /// Groups.
    #[error("setting the groups failed: {0}")]
    Groups(#[source] Errno),
    /// The group.
    #[error("becoming group {gid} failed: {source}")]
    Group {
        /// Which.
        gid: u32,
        /// Why.
        source: Errno,
    },
    /// The user.
    #[error("becoming user {uid} failed: {source}")]
    User {
        /// Which.
        uid: u32,
        /// Why.
        source: Errno,
    },
    /// Capabilities.
    #[error("giving up capabilities failed: {0}")]
    Capabilities(#[source] Errno),
    /// The promise that a program cannot gain rights.
    #[error("setting no_new_privs failed: {0}")]
    NoNewPrivileges(#[source] Errno),
}

/// Turns the calling process, which has one thread, into `run_as` for ever. Of the capabilities
/// asked, those that the guest itself has are kept.
pub(crate) fn become_user(run_as: &RunAs) -> Result<(), IdentityError> {
    umask(Mode::from_bits_truncate(UMASK));
    set_no_new_privs(true).map_err(IdentityError::NoNewPrivileges)?;
    let kept = run_as
        .capabilities
        .iter()
        .filter(|number| **number < CAPABILITY_NUMBERS)
        .fold(CapabilitySet::empty(), |set, number| set | bit(*number));
    drop_bounding(kept)?;
    clear_ambient_capability_set().map_err(IdentityError::Capabilities)?;
    set_ids(run_as)?;
    let kept = kept & permitted()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: kept,
        },
    )
    .map_err(IdentityError::Capabilities)
}

fn set_ids(run_as: &RunAs) -> Result<(), IdentityError> {
    let ids = [run_as.uid, run_as.gid];
    for id in ids.into_iter().chain(run_as.groups.iter().copied()) {
        if id == u32::MAX {
            return Err(IdentityError::NotAnId { id });
        }
    }
    let (uid, gid) = (Uid::from_raw(run_as.uid), Gid::from_raw(run_as.gid));
    let groups: Vec<Gid> = run_as
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    match set_thread_groups(&groups) {
        // Whoever is that user already, and may not change groups, has none to gain.
        Err(Errno::PERM) if getuid() == uid && getgid() == gid => {}
        result => result.map_err(IdentityError::Groups)?,
    }
    set_thread_res_gid(gid, gid, gid).map_err(|source| IdentityError::Group {
        gid: run_as.gid,
        source,
    })?;
    set_thread_res_uid(uid, uid, uid).map_err(|source| IdentityError::User {
        uid: run_as.uid,
        source,
    })
}

/// Leaves only `kept` in the bounding set.
fn drop_bounding(kept: CapabilitySet) -> Result<(), IdentityError> {
    for number in 0..CAPABILITY_NUMBERS {
        if kept.contains(bit(number)) {
            continue;
        }
        match remove_capability_from_bounding_set(bit(number)) {
            Ok(()) => {}
            // The kernel does not know this number, nor any higher one.
            Err(Errno::INVAL) => break,
            // An ordinary user without SETPCAP; no_new_privs makes up for it.
            Err(Errno::PERM) if permitted()?.is_empty() => break,
            Err(error) => return Err(IdentityError::Capabilities(error)),
        }
    }
    Ok(())
}

fn permitted() -> Result<CapabilitySet, IdentityError> {
    let sets = capabilities(None).map_err(IdentityError::Capabilities)?;
    Ok(sets.permitted)
}

fn bit(number: u8) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}
