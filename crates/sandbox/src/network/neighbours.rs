//! Who answers behind a device.

use super::devices::Device;
use crate::netlink::Netlink;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::net::Ipv4Addr;

/// Whether who has `address` behind `device` has answered the kernel's question for it (ARP). If
/// the kernel does not ask, it begins to.
pub(crate) fn answers(
    netlink: &mut Netlink,
    device: &Device,
    address: Ipv4Addr,
) -> Result<bool, Errno> {
    let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    let known = netlink.dump(RouteNetlinkMessage::GetNeighbour(message.clone()))?;
    let state = known.into_iter().find_map(|known| match known {
        RouteNetlinkMessage::NewNeighbour(known) => {
            let this =
                known.header.ifindex == device.index && known.attributes.contains(&destination);
            this.then_some(known.header.state)
        }
        _ => None,
    });
    match state {
        Some(
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe,
        ) => return Ok(true),
        Some(NeighbourState::Incomplete) => return Ok(false),
        _ => {}
    }
    message.header.ifindex = device.index;
    message.header.flags = NeighbourFlags::Use;
    message.attributes = vec![destination];
    netlink.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)?;
    Ok(false)
}
