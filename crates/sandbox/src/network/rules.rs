//! The rules of a site's containers with the network `egress`, as text for the program `nft`.

use super::{DEVICE_PREFIX, Ipv4Range, gateway};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// What no container reaches, whatever the operator says: this network, loopback, link-local with
/// the metadata services there, multicast and what follows it; and metadata services elsewhere.
/// (Metadata services on IPv6 need no line: there is no IPv6.)
pub(super) const NEVER: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(192, 0, 0, 192), 32),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The set of devices whose forwarding was switched on for a site; other sites read it.
pub(super) const SWITCHED_ON: &str = "switched_on";

/// What the rules are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) table: String,
    pub(super) device_prefix: String,
    pub(super) range: Ipv4Range,
    pub(super) denied: Vec<Ipv4Range>,
    /// Name servers that may be asked, and only be asked for names, wherever they are.
    pub(super) resolvers: BTreeSet<Ipv4Addr>,
    /// Devices of the node whose forwarding was switched on, for us or another site.
    pub(super) switched_on: BTreeSet<String>,
    /// Devices of the node whose names begin as ours do, and that are not.
    pub(super) others: BTreeSet<String>,
}

impl Wanted {
    /// What no container reaches.
    pub(super) fn denied(&self) -> impl Iterator<Item = Ipv4Range> {
        NEVER
            .iter()
            .map(|(address, length)| Ipv4Range::of(*address, *length))
            .chain([self.range])
            .chain(self.denied.iter().copied())
    }
}

/// A script that replaces the table by one with these rules, at once or not at all.
///
/// * `arriving` comes before everything else that looks at a packet: no IPv6, and no source
///   address but the one that was given to the device.
/// * `node` keeps containers from the node itself: all its addresses, on whichever device. The
///   address that they know it by is for them and the node: the kernel would take it from any
///   neighbour who sends to it, and names are looked up there.
/// * `onward` keeps them from each other (also of other sites), from what is denied, and from
///   services of the node that it has moved elsewhere by translating their address. Into a
///   container goes only what answers it. What comes in through a device whose forwarding was off
///   before goes nowhere else, as before: it is the device where a packet comes in that decides
///   whether the kernel forwards it, wherever it goes. Only answers to another site's containers
///   pass, which has its own rules for them.
pub(super) fn script(wanted: &Wanted) -> String {
    let Wanted {
        table,
        device_prefix: own,
        ..
    } = wanted;
    let node = gateway(wanted.range);
    let names = "meta l4proto { tcp, udp } th dport 53";
    let refused = "reject with icmpx type admin-prohibited";
    let denied = wanted.denied().map(|range| range.to_string());
    let resolvers = wanted.resolvers.iter().map(ToString::to_string);
    let quoted = |name: &String| format!("\"{name}\"");
    let switched_on = wanted.switched_on.iter().map(quoted);
    let others = wanted.others.iter().map(quoted);
    let mut text = format!("table inet {table} {{}}\ndelete table inet {table}\n");
    let body = [
        set("denied", "ipv4_addr; flags interval; auto-merge", denied),
        set("resolvers", "ipv4_addr", resolvers),
        set(SWITCHED_ON, "ifname", switched_on),
        set("others", "ifname", others),
        chain(
            "arriving",
            "type filter hook prerouting priority raw",
            &[
                format!("iifname != \"{own}*\" accept"),
                "meta nfproto ipv6 drop".to_owned(),
                "fib saddr . iif oif missing drop".to_owned(),
            ],
        ),
        chain(
            "node",
            "type filter hook input priority filter",
            &[
                format!("iifname != \"lo\" iifname != \"{own}*\" ip daddr {node} drop"),
                format!("iifname != \"{own}*\" accept"),
                format!("ip daddr @resolvers {names} accept"),
                refused.to_owned(),
            ],
        ),
        onward(own),
        chain(
            "leaving",
            "",
            &[
                format!("oifname \"{DEVICE_PREFIX}*\" oifname != @others {refused}"),
                format!("ip daddr @resolvers {names} accept"),
                format!("ip daddr @denied {refused}"),
                format!("ct status dnat {refused}"),
            ],
        ),
        chain(
            "address",
            "type nat hook postrouting priority srcnat",
            &[format!("iifname \"{own}*\" masquerade")],
        ),
    ];
    let _ = write!(text, "table inet {table} {{\n{}}}\n", body.concat());
    text
}

/// The chain that looks at what the node forwards; `own` is the beginning of our devices' names.
fn onward(own: &str) -> String {
    let answers = "ct state established,related accept";
    let rules = [
        format!("iifname \"{own}*\" jump leaving"),
        format!("oifname \"{own}*\" {answers}"),
        format!("oifname \"{own}*\" drop"),
        format!("iifname @switched_on oifname \"{DEVICE_PREFIX}*\" {answers}"),
        "iifname @switched_on drop".to_owned(),
    ];
    let hook = "type filter hook forward priority filter";
    chain("onward", hook, &rules)
}

pub(super) fn set(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    let elements = if elements.is_empty() {
        String::new()
    } else {
        format!(" elements = {{ {} }};", elements.join(", "))
    };
    format!("  set {name} {{ type {kind};{elements} }}\n")
}

pub(super) fn chain(name: &str, hook: &str, rules: &[String]) -> String {
    let hook = if hook.is_empty() {
        String::new()
    } else {
        format!("    {hook}; policy accept;\n")
    };
    let rules: String = rules.iter().map(|rule| format!("    {rule}\n")).collect();
    format!("  chain {name} {{\n{hook}{rules}  }}\n")
}

#[cfg(test)]
mod tests {
    use super::{Wanted, script};

    #[test]
    fn the_script_says_what_is_wanted() {
        let wanted = Wanted {
            table: "insula_0a1b2c".to_owned(),
            device_prefix: "ins0a1b2c".to_owned(),
            range: "10.213.0.0/20".parse().expect("a range"),
            denied: vec!["10.0.0.0/24".parse().expect("a range")],
            resolvers: ["192.0.2.53".parse().expect("an address")].into(),
            switched_on: ["eth0".to_owned()].into(),
            others: ["ins-vpn".to_owned()].into(),
        };
        let text = script(&wanted);
        for part in [
            "delete table inet insula_0a1b2c\n",
            "169.254.0.0/16",
            "10.213.0.0/20, 10.0.0.0/24 }",
            "set resolvers { type ipv4_addr; elements = { 192.0.2.53 }; }",
            "set switched_on { type ifname; elements = { \"eth0\" }; }",
            "set others { type ifname; elements = { \"ins-vpn\" }; }",
            "iifname \"ins0a1b2c*\" masquerade",
            "ip daddr 10.213.0.1 drop",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let nobody = Wanted {
            resolvers: [].into(),
            ..wanted
        };
        assert!(script(&nobody).contains("set resolvers { type ipv4_addr; }"));
    }
}
