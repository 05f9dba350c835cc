//! The network `egress`: out through the node, and nowhere else on it.
//!
//! ```text
//!  container A                 node                                    the world
//!   eth0 10.213.0.17/32 ==== ins3f9a0c11 ----.
//!                                             forward, masquerade ---- uplink ----
//!   eth0 10.213.0.18/32 ==== ins3f9a0c12 ----'
//!  container B
//! ```
//! Each container has a pair of devices of its own and a route of its own; there is no bridge, so
//! no container hears another one, and none can claim another's address. What may pass is one
//! table of nftables rules ([`rules`]) that goes by the names of our devices, so that it is made
//! once for the site and not touched when containers come and go. The kernel carries
//! every packet but questions for names to a resolver that only the node reaches ([`dns`]), and
//! the daemon looks after the rules: without it they stand, and nobody puts them back.
//!
//! An ordinary user may not make such devices; there a program of the user carries what the
//! container sends ([`user`]), and the rules stand in the container's own network.
//!
//! The same rules stand in each container's own network, where nobody inside may change them and
//! whoever flushes the node's does not see them. They know the node's addresses at the container's
//! start. So if the node's rules are flushed while the daemon is down, a container has no way out
//! (nobody translates its address) and none to the node, nor to what is denied. Until the daemon is
//! there again the node would forward between its neighbours, where we switched that on, and open
//! to containers what addresses it got since.
//!
//! Several sites of a node share its forwarding: which devices each had switched on stands in its
//! table, where the others read it. The last one that needs a device switches it off.
//!
//! A pair of devices ends with the container's network namespace, whoever was killed when. The
//! table and the switched-on forwarding are written down before they are made
//! ([`site::SiteNetwork`]), and taken back when the site goes down and no container needs them.

mod devices;
mod dns;
mod firewall;
mod neighbours;
mod range;
mod resolvers;
mod rules;
mod site;
mod troubles;
mod turns;
mod user;
mod watch;

pub(crate) use devices::{device_named, has_way_out, own_addresses, remove as remove_device};
pub(crate) use firewall::Firewall;
pub(crate) use neighbours::{Neighbour, Question};
pub use range::{InvalidRange, Ipv4Range};
pub(crate) use site::{NetworkError, SiteNetwork};
pub(crate) use troubles::{KEEPER_NOTE, KeeperNote};
pub use troubles::{NetworkTrouble, network_troubles};
pub(crate) use user::{UserRules, UserWay};

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The device of a container.
pub(crate) const INNER_DEVICE: &str = "eth0";
/// All our devices on the node begin with it, of whichever site.
const DEVICE_PREFIX: &str = "ins";
/// All our tables begin with it.
const TABLE_PREFIX: &str = "insula_";
/// Addresses of a range that no container gets: its own, and the gateway's.
const RESERVED_ADDRESSES: u32 = 2;

/// How containers with the network `egress` get out, as the operator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressSettings {
    /// Where their addresses come from; a free one is chosen if absent.
    pub range: Option<Ipv4Range>,
    /// What they cannot reach, beside the node, each other and link-local addresses.
    pub denied: Vec<Ipv4Range>,
    /// Files that name the node's name servers; the first that names one beyond the node counts.
    pub resolver_files: Vec<PathBuf>,
    /// Rules stand in each container's network besides. Off only to show what would be without.
    pub inside_too: bool,
    /// Rules that somebody else changes are made anew at once. Off only to show what would be
    /// without it.
    pub looked_after: bool,
    /// Connections that one container may have at a time, where root connects it.
    pub connections: u32,
}

/// As many as a command may open files. The node's table of connections has room for a quarter of a
/// million where nobody set another size, and drops what was never answered, or has ended, for new
/// ones: what lives fills it.
const CONNECTIONS: u32 = 16_384;

impl Default for EgressSettings {
    fn default() -> Self {
        Self {
            range: None,
            denied: Vec::new(),
            resolver_files: vec![
                "/etc/resolv.conf".into(),
                // The name servers behind systemd's own, which listens on loopback only.
                "/run/systemd/resolve/resolv.conf".into(),
            ],
            inside_too: true,
            looked_after: true,
            connections: CONNECTIONS,
        }
    }
}

/// What the launcher needs to connect a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WayOut {
    /// The site's devices begin with it.
    pub(crate) device_prefix: String,
    /// Addresses come from it.
    pub(crate) range: Ipv4Range,
    /// The place in the range that is tried first.
    pub(crate) first_place: u32,
    /// Largest packet, in bytes.
    pub(crate) mtu: u32,
    /// The content of `/etc/resolv.conf`.
    pub(crate) resolv_conf: String,
    /// What stands in the container's network.
    pub(crate) inside: Option<InsideRules>,
}

/// Rules in the container's own network, and the program that sets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InsideRules {
    /// `nft`.
    pub(crate) firewall: PathBuf,
    pub(crate) rules: UserRules,
}

impl WayOut {
    /// The node's end of every pair has this address.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        gateway(self.range)
    }

    /// Places in the range.
    pub(crate) fn places(&self) -> u32 {
        self.range.count().saturating_sub(RESERVED_ADDRESSES + 1)
    }

    /// The container's address at a place.
    pub(crate) fn address(&self, place: u32) -> Ipv4Addr {
        self.range.address(RESERVED_ADDRESSES + place)
    }

    /// The name of the node's end at a place: at most 15 bytes.
    pub(crate) fn device(&self, place: u32) -> String {
        format!("{}{place:x}", self.device_prefix)
    }
}

fn gateway(range: Ipv4Range) -> Ipv4Addr {
    range.address(1)
}

/// What tells the devices and rules of the site with this control group from those of others.
fn site_tag(group: &str) -> String {
    // FNV-1a, folded to 24 bits: an interface's name has 15 bytes.
    let hash = group.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{:06x}", (hash >> 24 ^ hash) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::{DEVICE_PREFIX, WayOut, site_tag};

    #[test]
    fn names_fit_and_addresses_stay_in_the_range() {
        let way_out = WayOut {
            device_prefix: format!("{DEVICE_PREFIX}{}", site_tag("insula-0a1b2c3d")),
            range: "10.213.16.0/20".parse().expect("a range"),
            first_place: 0,
            mtu: 1_500,
            resolv_conf: String::new(),
            inside: None,
        };
        assert_eq!(way_out.gateway().to_string(), "10.213.16.1");
        assert_eq!(way_out.places(), 4_093);
        assert_eq!(way_out.address(0).to_string(), "10.213.16.2");
        let last = way_out.places() - 1;
        assert_eq!(way_out.address(last).to_string(), "10.213.31.254");
        assert!(way_out.device(0x000f_ffff).len() <= 15);
        assert_ne!(site_tag("insula-0a1b2c3d"), site_tag("insula-0a1b2c3e"));
    }
}
