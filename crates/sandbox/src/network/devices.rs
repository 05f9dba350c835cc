//! What the node has of devices and routes.

use super::{DEVICE_PREFIX, Ipv4Range};
use crate::netlink::Netlink;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

/// The largest packet where no uplink says.
const USUAL_MTU: u32 = 1_500;
/// Hexadecimal digits of a site's tag in the names of its devices.
const SITE_DIGITS: usize = 6;
/// The kernel's table of ordinary routes.
const MAIN_TABLE: u8 = 254;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// For ours: the member it belongs to.
    pub(crate) alias: String,
    pub(crate) mtu: u32,
}

/// The ways out of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// Where routes lead that are not of our making.
    pub(super) routes: Vec<Ipv4Range>,
    /// Devices that they lead through.
    pub(super) devices: BTreeSet<String>,
    /// The smallest of their largest packets.
    pub(super) mtu: u32,
}

/// All devices whose names begin with `prefix`.
pub(crate) fn devices(netlink: &mut Netlink, prefix: &str) -> Result<Vec<Device>, Errno> {
    let all = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let devices = all.into_iter().filter_map(device);
    Ok(devices
        .filter(|device| device.name.starts_with(prefix))
        .collect())
}

/// Whether a device of this name is a container's, of whichever site: [`DEVICE_PREFIX`], six
/// hexadecimal digits for the site, and the place. An administrator's may begin alike.
pub(super) fn is_ours(name: &str) -> bool {
    name.strip_prefix(DEVICE_PREFIX).is_some_and(|rest| {
        rest.len() > SITE_DIGITS && rest.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
    })
}

/// The device with this name.
pub(crate) fn device_named(netlink: &mut Netlink, name: &str) -> Result<Device, Errno> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    let found = netlink.get(RouteNetlinkMessage::GetLink(message))?;
    found.into_iter().find_map(device).ok_or(Errno::NODEV)
}

fn device(message: RouteNetlinkMessage) -> Option<Device> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut device = Device {
        index: message.header.index,
        name: String::new(),
        alias: String::new(),
        mtu: USUAL_MTU,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name = name,
            LinkAttribute::IfAlias(alias) => device.alias = alias,
            LinkAttribute::Mtu(mtu) => device.mtu = mtu,
            _ => {}
        }
    }
    Some(device)
}

/// Removes a device, and with it the other one of its pair. One that is gone already is success.
pub(crate) fn remove(netlink: &mut Netlink, device: &Device) -> Result<(), Errno> {
    let mut message = LinkMessage::default();
    message.header.index = device.index;
    // By name too: should the number have passed on, it is not the wrong one.
    message.attributes = vec![LinkAttribute::IfName(device.name.clone())];
    match netlink.change(RouteNetlinkMessage::DelLink(message), 0) {
        Ok(()) | Err(Errno::NODEV) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The node's own routes, and the devices they lead through.
pub(super) fn ways(netlink: &mut Netlink) -> Result<Ways, Errno> {
    let by_index: BTreeMap<u32, Device> = devices(netlink, "")?
        .into_iter()
        .map(|device| (device.index, device))
        .collect();
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let mut ways = Ways {
        mtu: u32::MAX,
        ..Ways::default()
    };
    for found in netlink.dump(RouteNetlinkMessage::GetRoute(message))? {
        let RouteNetlinkMessage::NewRoute(route) = found else {
            continue;
        };
        let main = route.header.table == MAIN_TABLE && route.header.kind == RouteType::Unicast;
        let (range, through) = read(&route);
        let device = through.and_then(|index| by_index.get(&index));
        if !main || device.is_some_and(|device| is_ours(&device.name)) {
            continue;
        }
        ways.routes.push(range);
        if let Some(device) = device {
            ways.devices.insert(device.name.clone());
            ways.mtu = ways.mtu.min(device.mtu);
        }
    }
    if ways.mtu == u32::MAX {
        ways.mtu = USUAL_MTU;
    }
    // What is routed in our range on devices of other sites is taken as well.
    Ok(ways)
}

/// All that the node takes for itself: the addresses of all its devices, those that it sends to
/// all its neighbours by, and what an administrator routed to the node itself.
pub(crate) fn own_addresses(netlink: &mut Netlink) -> Result<BTreeSet<Ipv4Range>, Errno> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let found = netlink.dump(RouteNetlinkMessage::GetRoute(message))?;
    let own = found.into_iter().filter_map(|found| match found {
        RouteNetlinkMessage::NewRoute(route) => match route.header.kind {
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast => Some(read(&route).0),
            _ => None,
        },
        _ => None,
    });
    Ok(own.collect())
}

/// Whether there is a way to everywhere through the device of this name.
pub(crate) fn has_way_out(netlink: &mut Netlink, name: &str) -> Result<bool, Errno> {
    let everywhere = Ipv4Range::of(Ipv4Addr::UNSPECIFIED, 0);
    let ways = ways(netlink)?;
    Ok(ways.devices.contains(name) && ways.routes.contains(&everywhere))
}

fn read(route: &RouteMessage) -> (Ipv4Range, Option<u32>) {
    let mut first = Ipv4Addr::UNSPECIFIED;
    let mut through = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => first = *address,
            RouteAttribute::Oif(index) => through = Some(*index),
            RouteAttribute::MultiPath(hops) => {
                through = through.or(hops.first().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    let length = route.header.destination_prefix_length;
    (Ipv4Range::of(first, length), through)
}

/// The file that says whether the node forwards what comes in through `device`; `all` for the
/// switch of the whole node.
pub(super) fn forwarding_file(device: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{device}/forwarding")
}

/// Whether the node forwards what comes in through `device`; true where it cannot be told.
pub(super) fn forwards(device: &str) -> bool {
    fs::read_to_string(forwarding_file(device)).is_ok_and(|text| text.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn an_administrators_device_may_begin_as_ours() {
        assert!(is_ours("ins0a1b2c0") && is_ours("ins0a1b2cfffff"));
        for other in [
            "ins0",
            "ins-vpn0",
            "inside",
            "ins0a1b2c",
            "ins0a1b2cx",
            "eth0",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
