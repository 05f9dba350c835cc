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

/// An address behind a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    device: u32,
    address: Ipv4Addr,
}

impl Neighbour {
    pub(crate) fn new(device: &Device, address: Ipv4Addr) -> Self {
        let device = device.index;
        Self { device, address }
    }

    /// What became of the kernel's question who has the address (ARP).
    ///
    /// Who has it may also have told before it was asked, which makes it stale; that is no answer.
    pub(crate) fn question(self, netlink: &mut Netlink) -> Result<Question, Errno> {
        let mut all = NeighbourMessage::default();
        all.header.family = AddressFamily::Inet;
        let known = netlink.dump(RouteNetlinkMessage::GetNeighbour(all))?;
        let state = known.into_iter().find_map(|known| match known {
            RouteNetlinkMessage::NewNeighbour(known) => {
                let this = known.header.ifindex == self.device
                    && known.attributes.contains(&self.destination());
                this.then_some(known.header.state)
            }
            _ => None,
        });
        Ok(match state {
            Some(NeighbourState::Reachable) => Question::Answered,
            Some(NeighbourState::Incomplete) => Question::Asked,
            _ => Question::NotAsked,
        })
    }

    /// Has the kernel forget the last answer and ask.
    pub(crate) fn ask(self, netlink: &mut Netlink) -> Result<(), Errno> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = self.device;
        message.attributes = vec![self.destination()];
        match netlink.change(RouteNetlinkMessage::DelNeighbour(message.clone()), 0) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        message.header.flags = NeighbourFlags::Use;
        netlink.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
    }

    fn destination(self) -> NeighbourAttribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(self.address))
    }
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    NotAsked,
    Asked,
    Answered,
}
