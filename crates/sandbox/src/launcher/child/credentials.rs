//! From the creator's credentials to root of the namespace, and from there to the guest's.

use super::super::plan::Ids;
use engine_api::UidRange;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// What the guest needs to start a command as its user, to end it, to serve its files, and to put
/// its answers to system calls where they were asked for.
const GUEST: CapabilitySet = CapabilitySet::KILL
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SYS_PTRACE);
/// What a command may have that runs as root of its namespace (design §6), beside those above.
const COMMAND: CapabilitySet = CapabilitySet::FSETID
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);
/// The highest capability number the kernel could know.
const CAPABILITY_LIMIT: u32 = 63;

/// Root of the user namespace, whose map is written. The capabilities stay: they were all given
/// with the namespace, and no user id was its root before. Where there is one id only, it has the
/// capabilities without being root, and its groups cannot be left: they are nobody's inside.
pub(super) fn become_root(ids: Ids) -> Result<(), Errno> {
    match ids {
        Ids::Many => {
            set_thread_groups(&[])?;
            set_ids(0)
        }
        Ids::One => Ok(()),
    }
}

fn set_ids(id: u32) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)
}

/// The guest's user, with the capabilities it and a command may need and no way to any other.
pub(super) fn become_guest(ids: Ids) -> Result<(), Errno> {
    let kept = GUEST.union(COMMAND);
    for number in 0..=CAPABILITY_LIMIT {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Above the last that this kernel knows.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    if ids == Ids::Many {
        set_keep_capabilities(true)?;
        set_ids(UidRange::GUEST)?;
    }
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    set_capabilities(None, sets)?;
    clear_ambient_capability_set()?;
    // The program has no file capabilities and is not run by root: only ambient ones survive.
    for number in 0..=CAPABILITY_LIMIT {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    }
    set_no_new_privs(true)
}
