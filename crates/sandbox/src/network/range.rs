//! Ranges of IPv4 addresses, and the choice of one that the node does not use.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Ranges that are tried where none is configured, in parts of [`CHOSEN_LENGTH`]: of the private
/// ones those that other tools do not take by default, and at last the one for measurements.
const CANDIDATES: &[Ipv4Range] = &[
    Ipv4Range::of(Ipv4Addr::new(10, 213, 0, 0), 16),
    Ipv4Range::of(Ipv4Addr::new(172, 29, 0, 0), 16),
    Ipv4Range::of(Ipv4Addr::new(198, 18, 0, 0), 16),
];
/// Length of the prefix of a chosen range: 4,093 containers at once.
const CHOSEN_LENGTH: u8 = 20;
/// Shortest and longest prefix that can be configured: up to a million containers, at least five.
const LENGTHS: std::ops::RangeInclusive<u8> = 12..=29;

/// All addresses that begin alike: `10.213.0.0/20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Range {
    first: Ipv4Addr,
    length: u8,
}

/// The text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a range of IPv4 addresses such as 10.213.0.0/20")]
pub struct InvalidRange {
    text: String,
}

impl Ipv4Range {
    /// The range of `length` common bits, at most 32, that `address` lies in.
    pub(super) const fn of(address: Ipv4Addr, length: u8) -> Self {
        let first = address.to_bits() & mask(length);
        Self {
            first: Ipv4Addr::from_bits(first),
            length,
        }
    }

    /// A range from which a site can give addresses to its containers.
    pub fn is_usable(self) -> bool {
        LENGTHS.contains(&self.length)
    }

    /// How many addresses it has; all of them are [`u32::MAX`].
    pub(super) fn count(self) -> u32 {
        !mask(self.length).saturating_sub(u32::from(self.length != 0))
    }

    /// The address at `place`, counted from 0.
    pub(super) fn address(self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits().saturating_add(place))
    }

    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.first.to_bits()
    }

    fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

const fn mask(length: u8) -> u32 {
    match length {
        0 => 0,
        _ => u32::MAX << (32 - length as u32),
    }
}

impl FromStr for Ipv4Range {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || InvalidRange {
            text: text.to_owned(),
        };
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        if length > 32 || Self::of(address, length).first != address {
            return Err(wrong());
        }
        Ok(Self::of(address, length))
    }
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.first, self.length)
    }
}

impl TryFrom<String> for Ipv4Range {
    type Error = InvalidRange;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Ipv4Range> for String {
    fn from(range: Ipv4Range) -> Self {
        range.to_string()
    }
}

/// Why there is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRange {
    #[error("{range} is too large or too small for `node.egress-range`: from /12 to /29")]
    Unusable { range: Ipv4Range },
    #[error("{range} of `node.egress-range` overlaps the node's route to {route}: set another one")]
    Taken { range: Ipv4Range, route: Ipv4Range },
    #[error(
        "every range that is tried is routed on this node: set `node.egress-range` to a free one"
    )]
    AllTaken,
}

/// The configured range, or the first that no route of the node leads to. Sites begin at
/// different ones, by `seed`.
pub(super) fn choose(
    configured: Option<Ipv4Range>,
    seed: u32,
    routes: &[Ipv4Range],
) -> Result<Ipv4Range, NoRange> {
    let taken_by = |range: Ipv4Range| {
        let mut routes = routes.iter().copied();
        // The default route leads to everything.
        routes.find(|route| route.length > 0 && route.overlaps(range))
    };
    if let Some(range) = configured {
        if !range.is_usable() {
            return Err(NoRange::Unusable { range });
        }
        return match taken_by(range) {
            Some(route) => Err(NoRange::Taken { range, route }),
            None => Ok(range),
        };
    }
    for candidate in CANDIDATES {
        let parts = 1 << (CHOSEN_LENGTH - candidate.length);
        for part in 0..parts {
            let size = !mask(CHOSEN_LENGTH) + 1;
            let place = seed.wrapping_add(part) % parts * size;
            let range = Ipv4Range::of(candidate.address(place), CHOSEN_LENGTH);
            if taken_by(range).is_none() {
                return Ok(range);
            }
        }
    }
    Err(NoRange::AllTaken)
}

#[cfg(test)]
mod tests {
    use super::{Ipv4Range, NoRange, choose};

    fn range(text: &str) -> Ipv4Range {
        text.parse().expect("a range")
    }

    #[test]
    fn ranges_are_read_as_they_are_written() {
        for text in ["10.213.0.0/20", "0.0.0.0/0", "100.100.100.200/32"] {
            assert_eq!(range(text).to_string(), text);
        }
        assert_eq!(range("1.2.3.4").to_string(), "1.2.3.4/32");
        for wrong in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/0",
            "10.0.0.0/",
        ] {
            assert!(wrong.parse::<Ipv4Range>().is_err(), "{wrong}");
        }
        assert!(range("10.0.0.0/8").contains("10.255.0.1".parse().expect("an address")));
        assert_eq!(range("10.0.0.0/24").count(), 256);
    }

    #[test]
    fn a_range_that_the_node_uses_is_not_taken() {
        let free = choose(None, 0, &[range("0.0.0.0/0"), range("192.0.2.0/24")]);
        assert_eq!(free, Ok(range("10.213.0.0/20")));
        assert_eq!(choose(None, 17, &[]), Ok(range("10.213.16.0/20")));
        let next = choose(None, 15, &[range("10.213.240.5/32")]);
        assert_eq!(next, Ok(range("10.213.0.0/20")));
        let wide = choose(None, 0, &[range("10.0.0.0/8")]);
        assert_eq!(wide, Ok(range("172.29.0.0/20")));
        let all = ["10.0.0.0/8", "172.16.0.0/12", "198.18.0.0/15"].map(range);
        assert_eq!(choose(None, 0, &all), Err(NoRange::AllTaken));
    }

    #[test]
    fn a_configured_range_is_taken_or_refused() {
        let wanted = range("10.9.0.0/24");
        assert_eq!(choose(Some(wanted), 3, &[]), Ok(wanted));
        let route = range("10.0.0.0/8");
        let taken = NoRange::Taken {
            range: wanted,
            route,
        };
        assert_eq!(choose(Some(wanted), 3, &[route]), Err(taken));
        let small = range("10.9.0.0/30");
        let unusable = NoRange::Unusable { range: small };
        assert_eq!(choose(Some(small), 3, &[]), Err(unusable));
    }
}
