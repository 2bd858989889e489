//! Subnets of both families: pure.

use crate::json::by_serde;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses: its first one, and the number of bits that all of them share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    pub first: IpAddr,
    pub prefix: u8,
}

by_serde! { Subnet }

/// Some of the families of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Families {
    pub four: bool,
    pub six: bool,
}

impl Families {
    /// Whether that of an address is among them.
    pub fn has(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.four } else { self.six }
    }
}

/// Docker's default pools, each with the prefix length of the subnets that are cut from it.
pub const POOLS: [(&str, u8); 16] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/16", 16),
    ("172.21.0.0/16", 16),
    ("172.22.0.0/16", 16),
    ("172.23.0.0/16", 16),
    ("172.24.0.0/16", 16),
    ("172.25.0.0/16", 16),
    ("172.26.0.0/16", 16),
    ("172.27.0.0/16", 16),
    ("172.28.0.0/16", 16),
    ("172.29.0.0/16", 16),
    ("172.30.0.0/16", 16),
    ("172.31.0.0/16", 16),
    ("192.168.0.0/16", 20),
];

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Subnet {
    /// The subnet that an address lies in; `None` for a prefix that is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Subnet> {
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let host = bits.checked_sub(prefix)?;
        let subnet = Subnet { first: address, prefix };
        // A shift by all bits is none.
        let mask = u128::MAX.checked_shl(host.into()).unwrap_or(0);
        Some(Subnet { first: subnet.at(number(address) & mask), prefix })
    }

    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// A subnet, or one address alone.
    pub fn parse_any(text: &str) -> Result<Subnet, String> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Subnet::alone(address)),
            Err(_) => text.parse(),
        }
    }

    /// The subnet of one address.
    pub fn alone(address: IpAddr) -> Subnet {
        Subnet { first: address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether its addresses are for networks of one's own (RFC 1918, RFC 4193), a link's or this host's.
    pub fn is_private(&self) -> bool {
        const PRIVATE: [&str; 7] =
            ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10"];
        let holds = |pool: &Subnet| pool.contains(self.first) && pool.contains(self.last());
        PRIVATE.iter().filter_map(|text| text.parse().ok()).any(|pool| holds(&pool)) || self.first.is_loopback()
    }

    /// The bits that its addresses do not share.
    pub fn host_bits(&self) -> u8 {
        if self.is_ipv4() { 32 - self.prefix } else { 128 - self.prefix }
    }

    /// An address of this family by its number.
    fn at(&self, number: u128) -> IpAddr {
        if self.is_ipv4() { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
    }

    pub fn last(&self) -> IpAddr {
        let hosts = 1u128.checked_shl(self.host_bits().into()).map_or(u128::MAX, |count| count - 1);
        self.at(number(self.first) | hosts)
    }

    /// The address after `address`; `None` after the subnet's last.
    pub fn next(&self, address: IpAddr) -> Option<IpAddr> {
        (address < self.last()).then(|| self.at(number(address) + 1))
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && (self.first..=self.last()).contains(&address)
    }

    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether an address can be a host's: neither the subnet's own nor its broadcast address.
    pub fn is_host(&self, address: IpAddr) -> bool {
        let ends = self.is_ipv4() && self.host_bits() > 1;
        self.contains(address)
            && !(ends && (address == self.first || address == self.last()))
            && (self.is_ipv4() || address != self.first || self.host_bits() < 2)
    }

    /// The parts of a pool that have this prefix length.
    pub fn parts(self, prefix: u8) -> impl Iterator<Item = Subnet> {
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let part = Subnet::new(next?, prefix)?;
            next = self.next(part.last());
            Some(part)
        })
    }
}

/// The first subnet of the pools that overlaps none of those in use.
pub fn free(pools: &[(Subnet, u8)], used: &[Subnet]) -> Option<Subnet> {
    let is_free = |subnet: &Subnet| !used.iter().any(|used| used.overlaps(subnet));
    pools.iter().find_map(|(pool, prefix)| pool.parts(*prefix).find(is_free))
}

impl FromStr for Subnet {
    type Err = String;

    /// `172.17.0.0/16`; an address inside stands for its subnet.
    fn from_str(text: &str) -> Result<Subnet, String> {
        let wrong = || format!("invalid CIDR address: {text}");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (address, prefix) = (address.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
        Subnet::new(address, prefix).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Subnet, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn ends_and_hosts() {
        for (text, first, last) in [
            ("172.17.3.4/16", "172.17.0.0", "172.17.255.255"),
            ("10.0.0.4/30", "10.0.0.4", "10.0.0.7"),
            ("10.0.0.4/32", "10.0.0.4", "10.0.0.4"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("fd00:1::5/64", "fd00:1::", "fd00:1::ffff:ffff:ffff:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let subnet = subnet(text);
            assert_eq!((subnet.first.to_string(), subnet.last().to_string()), (first.into(), last.into()), "{text}");
        }
        for (text, address, is) in [
            ("10.0.0.0/24", "10.0.0.0", false),
            ("10.0.0.0/24", "10.0.0.255", false),
            ("10.0.0.0/24", "10.0.0.1", true),
            ("10.0.0.0/24", "10.0.1.1", false),
            ("10.0.0.0/31", "10.0.0.0", true),
            ("fd00::/64", "fd00::", false),
            ("fd00::/64", "fd00::1", true),
            ("fd00::/64", "10.0.0.1", false),
        ] {
            assert_eq!(subnet(text).is_host(address.parse().unwrap()), is, "{address} in {text}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "x/8", "10.0.0.0/x", ""] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_address_and_those_of_ones_own() {
        for (text, expected, private) in [
            ("10.1.2.3", "10.1.2.3/32", true),
            ("10.1.2.3/8", "10.0.0.0/8", true),
            ("0.0.0.0/0", "0.0.0.0/0", false),
            ("172.0.0.0/8", "172.0.0.0/8", false),
            ("fd00::7", "fd00::7/128", true),
            ("::1", "::1/128", true),
            ("2001:db8::/32", "2001:db8::/32", false),
        ] {
            let subnet = Subnet::parse_any(text).unwrap();
            assert_eq!((subnet.to_string().as_str(), subnet.is_private()), (expected, private), "{text}");
        }
        assert!(Subnet::parse_any("10.1.2").is_err());
    }

    #[test]
    fn a_free_one_avoids_what_is_used() {
        let pools = [(subnet("172.17.0.0/16"), 16), (subnet("192.168.0.0/16"), 20)];
        let free = |used: &[&str]| {
            let used: Vec<Subnet> = used.iter().map(|text| subnet(text)).collect();
            free(&pools, &used).map(|subnet| subnet.to_string())
        };
        assert_eq!(free(&[]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(free(&["172.17.5.0/24"]).as_deref(), Some("192.168.0.0/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.3.0/24"]).as_deref(), Some("192.168.16.0/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), None);
    }
}
