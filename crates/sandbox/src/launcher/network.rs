//! Connects a container with the network `egress`: a pair of devices, one in its namespace.
//!
//! The launcher does it for the child between the clone and the child's first mount, because it
//! takes rights on both sides. What is made here ends with the child's namespace by itself.

use crate::chain::chain;
use crate::message::Failure;
use crate::netlink::Netlink;
use crate::network::{
    Firewall, INNER_DEVICE, InsideRules, UserRules, WayOut, device_named, own_addresses,
    remove_device,
};
use domain::MemberId;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

/// Places in the range that are tried before the start fails.
const PLACES_TRIED: u32 = 4_096;
/// Bits of a whole address.
const WHOLE: u8 = 32;
/// The kernel's table of ordinary routes.
const MAIN_TABLE: u8 = 254;
/// A new thing, refused if it is there.
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// An act that failed, with the kernel's word.
type Step<T> = Result<T, (&'static str, Errno)>;

/// Names the act of an error.
fn to(act: &'static str) -> impl FnOnce(Errno) -> (&'static str, Errno) {
    move |error| (act, error)
}

/// Gives the container whose first process is `pid` its devices, addresses and routes.
pub(super) fn connect(pid: i32, member: MemberId, way_out: &WayOut) -> Result<(), Failure> {
    if let Some(inside) = &way_out.inside {
        // Before there is a way out that they guard.
        guard(pid, inside)?;
    }
    try_connect(pid, member, way_out)
        .map_err(|(act, error)| Failure::act(act, io::Error::from(error)))
}

/// Sets the rules in the network of the container whose first process is `pid`.
fn guard(pid: i32, inside: &InsideRules) -> Result<(), Failure> {
    let failed = |error| Failure::act("set the rules in the container's network", error);
    let asked = Netlink::open().and_then(|mut node| own_addresses(&mut node));
    let node = asked.map_err(|e| failed(e.into()))?;
    let firewall = Firewall::at(&inside.firewall);
    let apply = |rules: &UserRules| firewall.apply(&rules.script(&node));
    // Some kernels cannot count; all else has to stand.
    let set = within(pid, || {
        apply(&inside.rules).or_else(|_| apply(&inside.rules.uncounted()))
    });
    let set = set.map_err(|e| failed(e.into()))?;
    set.map_err(|error| failed(io::Error::other(chain(&error))))
}

fn try_connect(pid: i32, member: MemberId, way_out: &WayOut) -> Step<()> {
    let mut node = Netlink::open().map_err(to("speak of the node's network"))?;
    let inside = within(pid, open_inside).and_then(|opened| opened);
    let mut inside = inside.map_err(to("enter the container's network"))?;
    let address = take_place(&mut node, pid, member, way_out)?;
    let device = device_named(&mut inside, INNER_DEVICE).map_err(to("find its network device"))?;
    let gateway = way_out.gateway();
    let steps = [
        address_of(device.index, address, address),
        switched_on(device.index),
        route(device.index, Some(gateway), None),
        route(device.index, None, Some(gateway)),
    ];
    for step in steps {
        inside
            .change(step, NEW)
            .map_err(to("give the container its address and routes"))?;
    }
    Ok(())
}

/// Speaks of the network that this process is in, where IPv6 is switched off for devices to come.
fn open_inside() -> Result<Netlink, Errno> {
    let netlink = Netlink::open();
    // A kernel without IPv6 has no such file.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    netlink
}

/// Does something in the network of the process `pid`.
fn within<T>(pid: i32, work: impl FnOnce() -> T) -> Result<T, Errno> {
    let open = |path: &str| {
        File::open(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    let own = open("/proc/self/ns/net")?;
    let inside = open(&format!("/proc/{pid}/ns/net"))?;
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(inside.as_fd(), kind)?;
    let done = work();
    move_into_link_name_space(own.as_fd(), kind)
        .expect("the way back is open to who came from there");
    Ok(done)
}

/// Makes the pair at the first place whose name and route are free: the kernel keeps the list of
/// what is taken. The container's address there.
fn take_place(node: &mut Netlink, pid: i32, member: MemberId, way_out: &WayOut) -> Step<Ipv4Addr> {
    let places = way_out.places();
    for try_number in 0..PLACES_TRIED.min(places) {
        let place = way_out.first_place.wrapping_add(try_number) % places;
        let name = way_out.device(place);
        match node.change(pair(&name, pid, way_out.mtu), NEW) {
            Ok(()) => {}
            Err(Errno::EXIST) => continue,
            Err(error) => return Err(("make a pair of network devices", error)),
        }
        let address = way_out.address(place);
        match set_up(node, &name, member, way_out.gateway(), address) {
            Ok(()) => return Ok(address),
            Err(error) => {
                if let Ok(device) = device_named(node, &name) {
                    let _ = remove_device(node, &device);
                }
                // The address is routed to somebody: another site with the same range.
                if error != Errno::EXIST {
                    return Err(("set up the node's end of its network", error));
                }
            }
        }
    }
    Err(("find a free address for it", Errno::ADDRINUSE))
}

/// The node's end: whose it is, its address, and the way to the container.
fn set_up(
    node: &mut Netlink,
    name: &str,
    member: MemberId,
    gateway: Ipv4Addr,
    address: Ipv4Addr,
) -> Result<(), Errno> {
    let index = device_named(node, name)?.index;
    let mut naming = LinkMessage::default();
    naming.header.index = index;
    naming.attributes = vec![LinkAttribute::IfAlias(member.to_string())];
    node.change(RouteNetlinkMessage::SetLink(naming), 0)?;
    let ipv6 = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    let _ = fs::write(ipv6, "1");
    fs::write(format!("/proc/sys/net/ipv4/conf/{name}/forwarding"), "1")
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    node.change(address_of(index, gateway, gateway), NEW)?;
    node.change(switched_on(index), 0)?;
    node.change(route(index, Some(address), None), NEW)
}

/// A pair of devices, `name` here and the other one in the network of `pid`.
fn pair(name: &str, pid: i32, mtu: u32) -> RouteNetlinkMessage {
    let mut inner = LinkMessage::default();
    inner.attributes = vec![
        LinkAttribute::IfName(INNER_DEVICE.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NetNsPid(pid.cast_unsigned()),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
        ]),
    ];
    RouteNetlinkMessage::NewLink(message)
}

fn switched_on(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

fn address_of(index: u32, local: Ipv4Addr, other: Ipv4Addr) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = WHOLE;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(local.into()),
        AddressAttribute::Address(other.into()),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

/// A route through a device: to one address on it, or everywhere by a gateway.
fn route(index: u32, to: Option<Ipv4Addr>, by: Option<Ipv4Addr>) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = MAIN_TABLE;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match by {
        Some(_) => RouteScope::Universe,
        None => RouteScope::Link,
    };
    message.attributes = vec![RouteAttribute::Oif(index)];
    if let Some(address) = to {
        message.header.destination_prefix_length = WHOLE;
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(address)));
    }
    if let Some(gateway) = by {
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    }
    RouteNetlinkMessage::NewRoute(message)
}
