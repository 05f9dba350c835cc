//! What a keeper and its `pasta` may do: by the container's user namespace alone, and no more than
//! they use.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, clear_ambient_capability_set,
    configure_capability_in_ambient_set, move_into_link_name_space, set_capabilities,
};
use std::fs::File;
use std::os::fd::AsFd as _;

/// Enough for `nft` and for the switches of the container's network.
const KEEPER: CapabilitySet = CapabilitySet::NET_ADMIN;
/// It enters the container's network, makes a device there, and shuts itself off.
const PASTA: [CapabilitySet; 3] = [
    CapabilitySet::NET_ADMIN,
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::NET_BIND_SERVICE,
];

/// Goes into the container's network.
pub(super) fn enter_network(network: &File) -> Result<(), Errno> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
}

/// What the keeper keeps. `pasta` names the container's network by this process, which it may only
/// look at while that has no more rights than itself and is not closed to lookers.
pub(super) fn own() -> Result<(), Errno> {
    take(&[KEEPER])?;
    set_dumpable_behavior(DumpableBehavior::Dumpable)
}

/// For who becomes `pasta`.
pub(super) fn for_pasta() -> Result<(), Errno> {
    take(&PASTA)
}

/// These rights and no others, here and in programs that are run: their user is not always root of
/// the namespace.
fn take(rights: &[CapabilitySet]) -> Result<(), Errno> {
    let all = rights
        .iter()
        .fold(CapabilitySet::empty(), |all, right| all.union(*right));
    let sets = CapabilitySets {
        effective: all,
        permitted: all,
        inheritable: all,
    };
    set_capabilities(None, sets)?;
    clear_ambient_capability_set()?;
    for right in rights {
        configure_capability_in_ambient_set(*right, true)?;
    }
    Ok(())
}
