//! The way out of an ordinary user's container: the program `pasta`.
//!
//! ```text
//!  container's network                    |  the node's network
//!   eth0 10.213.0.2/30 ==== tap device ==== pasta ---- sockets like any of the user's programs
//!   rules: not the node, not what is denied
//! ```
//! It takes the packets from a device inside and opens connections of its own in their place. They
//! come from the node itself, so the node and its loopback device would be as open to them as to
//! the user. What must not be reached is therefore stopped before it gets there, by rules in the
//! container's network, which nobody inside may change. Routes would not do: a program that binds
//! its socket to the device is sent past a route that says unreachable.
//!
//! The node's addresses come and go while containers run; the keeper of each container
//! (`launcher::keeper`) follows them.

use super::firewall::{Firewall, installed};
use super::range::choose;
use super::resolvers::Resolvers;
use super::rules::{NEVER, Wanted, chain, set};
use super::site::NetworkError;
use super::{EgressSettings, INNER_DEVICE, Ipv4Range, devices, gateway};
use crate::netlink::Netlink;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Stdio;

/// The node's end of what `pasta` does.
const TUN: &str = "/dev/net/tun";
/// Bits that the container's two addresses have in common: it needs no more, for each container
/// has a network of its own.
const PREFIX_LENGTH: u8 = 30;
/// The table in the container's network.
const TABLE: &str = "insula";
/// Options that keep `pasta` from carrying anything inwards or to the node's loopback device, in
/// all its releases.
const CLOSED: &[&str] = &[
    "--tcp-ports",
    "none",
    "--udp-ports",
    "none",
    "--tcp-ns",
    "none",
    "--udp-ns",
    "none",
    "--no-map-gw",
    "--no-netns-quit",
];
/// The same of releases that have more ways; each with `none`.
const CLOSED_LATER: &[&str] = &["--map-host-loopback", "--map-guest-addr"];
/// Which server `--dns-forward` asks, where a release lets one say; else it is the first of the
/// node's `/etc/resolv.conf`.
const ASKED_SERVER: &str = "--dns-host";

/// There is no way out for a user's containers here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PastaError {
    #[error("the program `pasta` is missing: install the package passt")]
    Missing,
    #[error("`pasta` could not be run")]
    Run {
        #[source]
        source: io::Error,
    },
    #[error("there is no {TUN}: let root run `modprobe tun`")]
    NoDevice,
    #[error(
        "this user cannot open {TUN}, which `pasta` needs: let root run `chmod 0666 {TUN}`, and \
         make it last with a rule of udev"
    )]
    Device {
        #[source]
        source: Errno,
    },
}

/// What the keeper of a container needs to connect it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserWay {
    /// `pasta`.
    pub(crate) program: PathBuf,
    /// Its arguments, but for the network that it connects.
    pub(crate) arguments: Vec<String>,
    /// The address that answers inside once it connects.
    pub(crate) gateway: Ipv4Addr,
    /// `nft`.
    pub(crate) firewall: PathBuf,
    /// What may pass.
    pub(crate) rules: UserRules,
    /// The content of `/etc/resolv.conf`.
    pub(crate) resolv_conf: String,
}

/// What the rules in a container's network are made from, beside the node's addresses; root's
/// containers have them as a second line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRules {
    /// Never reached.
    denied: BTreeSet<Ipv4Range>,
    /// Name servers that may be asked, and only be asked for names, wherever they are.
    resolvers: BTreeSet<Ipv4Addr>,
    /// Nothing comes in but what answers: the node may still know connections of another container
    /// that had the same address before, and carry their answers to this one. Of an ordinary user's
    /// container `pasta` knows all connections itself.
    #[serde(default)]
    answers_only: bool,
    /// Most connections at a time, of which the node keeps a table for all.
    #[serde(default)]
    connections: Option<u32>,
}

impl UserWay {
    /// How a container gets out that starts now.
    pub(super) fn find(settings: &EgressSettings, seed: u32) -> Result<Self, NetworkError> {
        let program = installed("pasta").ok_or(PastaError::Missing)?;
        let firewall = Firewall::find()?.into_program();
        openable()?;
        let known = known_options(&program)?;
        let asking = |source| NetworkError::Devices { source };
        let mut netlink = Netlink::open().map_err(asking)?;
        let ways = devices::ways(&mut netlink).map_err(asking)?;
        let range = choose(settings.range, seed, &ways.routes)?;
        let resolvers = Resolvers::read(settings);
        let mut may_be_asked: BTreeSet<_> = resolvers.direct.iter().copied().collect();
        if !resolvers.behind.is_empty() {
            may_be_asked.insert(gateway(range));
        }
        let own = Ipv4Range::of(gateway(range), PREFIX_LENGTH);
        let never = NEVER
            .iter()
            .map(|(first, bits)| Ipv4Range::of(*first, *bits));
        let denied = never.chain([own]).chain(settings.denied.iter().copied());
        Ok(Self {
            program,
            arguments: arguments(range, &resolvers, &known),
            gateway: gateway(range),
            firewall,
            rules: UserRules {
                denied: denied.collect(),
                resolvers: may_be_asked,
                answers_only: false,
                // They are `pasta`'s sockets, and limited as such.
                connections: None,
            },
            resolv_conf: resolvers.file(gateway(range)),
        })
    }
}

/// Whether this user can do what `pasta` will do first.
fn openable() -> Result<(), PastaError> {
    match open(TUN, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Ok(()),
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Err(PastaError::NoDevice),
        Err(source) => Err(PastaError::Device { source }),
    }
}

/// What the program says of itself; its releases have dates for names, and grow options.
fn known_options(program: &PathBuf) -> Result<String, PastaError> {
    let output = process::command(program)
        .arg("--help")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PastaError::Run { source })?;
    // Where depends on the release.
    let words = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&words).into_owned())
}

/// The arguments for addresses at the front of `range`, which is the container's own inside.
fn arguments(range: Ipv4Range, resolvers: &Resolvers, known: &str) -> Vec<String> {
    let (outer, inner) = (gateway(range), range.address(2));
    let mut words = vec!["--foreground", "--quiet", "--ipv4-only", "--config-net"];
    words.extend(["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"]);
    words.extend(CLOSED);
    for option in CLOSED_LATER
        .iter()
        .filter(|option| known.contains(**option))
    {
        words.extend([*option, "none"]);
    }
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("--ns-ifname", INNER_DEVICE.to_owned());
    add("--address", inner.to_string());
    add("--netmask", PREFIX_LENGTH.to_string());
    add("--gateway", outer.to_string());
    if !resolvers.behind.is_empty() {
        add("--dns-forward", outer.to_string());
        let first = resolvers.behind.iter().find(|server| server.is_ipv4());
        if let Some(IpAddr::V4(server)) = first.filter(|_| known.contains(ASKED_SERVER)) {
            add(ASKED_SERVER, server.to_string());
        }
    }
    words
}

impl UserRules {
    /// The same as the rules of the node.
    pub(super) fn of(wanted: &Wanted, connections: u32) -> Self {
        Self {
            denied: wanted.denied().collect(),
            resolvers: wanted.resolvers.clone(),
            answers_only: true,
            connections: Some(connections),
        }
    }

    /// The same for a kernel that cannot count connections.
    pub(crate) fn uncounted(&self) -> Self {
        Self {
            connections: None,
            ..self.clone()
        }
    }

    /// A script that makes the table in a container's network, where there is none.
    ///
    /// What leaves by any device but loopback is looked at: no IPv6, and nothing to the node or
    /// to what is denied, but for questions to name servers.
    pub(crate) fn script(&self, node: &BTreeSet<Ipv4Range>) -> String {
        let names = "meta l4proto { tcp, udp } th dport 53";
        let refused = "reject with icmpx type admin-prohibited";
        let kind = "ipv4_addr; flags interval; auto-merge";
        let denied = self.denied.iter().map(ToString::to_string);
        let resolvers = self.resolvers.iter().map(ToString::to_string);
        let body = [
            set("denied", kind, denied),
            set("node", kind, node.iter().map(ToString::to_string)),
            set("resolvers", "ipv4_addr", resolvers),
            chain(
                "leaving",
                "type filter hook output priority filter",
                &[
                    "oifname \"lo\" accept".to_owned(),
                    format!("meta nfproto ipv6 {refused}"),
                    format!("ip daddr @resolvers {names} accept"),
                    format!("ip daddr @denied {refused}"),
                    format!("ip daddr @node {refused}"),
                ],
            ),
            chain(
                "onward",
                "type filter hook forward priority filter",
                &["drop".to_owned()],
            ),
            self.arriving(),
            self.counted(),
        ];
        format!("table inet {TABLE} {{\n{}}}\n", body.concat())
    }

    /// The chain that looks at what comes in, if something is to.
    fn arriving(&self) -> String {
        if !self.answers_only {
            return String::new();
        }
        chain(
            "arriving",
            "type filter hook input priority filter",
            &[
                "iifname \"lo\" accept".to_owned(),
                "ct state established,related accept".to_owned(),
                "drop".to_owned(),
            ],
        )
    }

    /// The chain that refuses new connections when there are too many, if they are counted.
    fn counted(&self) -> String {
        let Some(connections) = self.connections else {
            return String::new();
        };
        let reject = "reject with icmpx type admin-prohibited";
        chain(
            "counted",
            "type filter hook output priority filter - 1",
            &[
                "oifname \"lo\" accept".to_owned(),
                format!("ct state new ct count over {connections} {reject}"),
            ],
        )
    }

    /// A script that says the node's addresses anew, at once.
    pub(crate) fn node_script(node: &BTreeSet<Ipv4Range>) -> String {
        let addresses: Vec<String> = node.iter().map(ToString::to_string).collect();
        let mut text = format!("flush set inet {TABLE} node\n");
        if !addresses.is_empty() {
            let addresses = addresses.join(", ");
            text.push_str(&format!(
                "add element inet {TABLE} node {{ {addresses} }}\n"
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Resolvers, UserRules, arguments};
    use std::net::IpAddr;

    #[test]
    fn what_a_release_does_not_know_is_not_asked_of_it() {
        let range = "10.213.16.0/20".parse().expect("a range");
        let direct = Resolvers::default();
        let old = arguments(range, &direct, "--no-map-gw").join(" ");
        assert!(
            old.contains("--tcp-ns none --udp-ns none --no-map-gw"),
            "{old}"
        );
        assert!(
            !old.contains("--map-host-loopback") && !old.contains("--dns"),
            "{old}"
        );
        let ends = "--address 10.213.16.2 --netmask 30 --gateway 10.213.16.1";
        assert!(old.ends_with(ends), "{old}");
        let new = arguments(range, &direct, "--map-host-loopback ADDR").join(" ");
        assert!(new.contains("--map-host-loopback none"), "{new}");
        let mut behind = Resolvers::default();
        behind.behind.push(IpAddr::from([127, 0, 0, 53]));
        let old = arguments(range, &behind, "").join(" ");
        assert!(old.ends_with("--dns-forward 10.213.16.1"), "{old}");
        let new = arguments(range, &behind, "--dns-host").join(" ");
        assert!(new.ends_with("--dns-host 127.0.0.53"), "{new}");
    }

    #[test]
    fn the_scripts_name_what_is_denied_and_the_node() {
        let rules = UserRules {
            denied: ["169.254.0.0/16".parse().expect("a range")].into(),
            resolvers: ["192.0.2.53".parse().expect("an address")].into(),
            answers_only: false,
            connections: None,
        };
        let node = ["203.0.113.1/32".parse().expect("a range")].into();
        let text = rules.script(&node);
        for part in [
            "169.254.0.0/16",
            "203.0.113.1/32",
            "192.0.2.53",
            "ip daddr @node",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("arriving"), "{text}");
        assert!(!text.contains("counted"), "{text}");
        let answers = UserRules {
            answers_only: true,
            connections: Some(7),
            ..rules
        };
        assert!(answers.script(&node).contains("chain arriving"));
        assert!(answers.script(&node).contains("ct count over 7 reject"));
        assert_eq!(
            answers.uncounted().script(&node).matches("count").count(),
            0
        );
        let changed = UserRules::node_script(&node);
        assert!(changed.ends_with("add element inet insula node { 203.0.113.1/32 }\n"));
        assert_eq!(UserRules::node_script(&[].into()).lines().count(), 1);
    }
}
