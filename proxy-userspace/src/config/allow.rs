//! Who may connect to a listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::fields::Section;
use super::values;

/// The source addresses that a listener accepts; other connections are closed at accept and counted.
///
/// The default is the ranges that are not routed on the public internet: private (RFC 1918), shared address space (RFC
/// 6598, 100.64.0.0/10, used for pods by several providers), unique local (RFC 4193), link-local and loopback. So a
/// node with a public address is not an open proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow(Vec<IpNet>);

impl Allow {
    /// Exactly these ranges. An empty list allows nobody.
    pub fn new(ranges: Vec<IpNet>) -> Self {
        Self(ranges)
    }

    /// Every address.
    pub fn everyone() -> Self {
        let v4 = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
        let v6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));
        Self(vec![v4, v6])
    }

    /// The ranges, as configured.
    pub fn ranges(&self) -> &[IpNet] {
        &self.0
    }

    /// The sources that both allow.
    pub fn and(&self, other: &Self) -> Self {
        let narrower = |one: &IpNet, other: &IpNet| match (one.contains(other), other.contains(one)) {
            (true, _) => Some(*other),
            (_, true) => Some(*one),
            (false, false) => None,
        };
        Self(self.0.iter().flat_map(|one| other.0.iter().filter_map(|it| narrower(one, it))).collect())
    }

    /// Whether every address of IPv4 or of IPv6 is in it.
    pub fn has_everyone(&self) -> bool {
        self.0.iter().any(|range| range.prefix_len() == 0)
    }

    /// Whether a client at `source` may connect. An IPv4 client of a dual-stack listener shows as
    /// `::ffff:a.b.c.d` and is compared as IPv4.
    pub fn permits(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.0.iter().any(|range| range.contains(&source))
    }

    /// The section's `allow`, or the default.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        Self::read_or(section, Self::default())
    }

    /// The section's `allow`, or `default`.
    pub(super) fn read_or(section: &mut Section<'_, '_>, default: Self) -> Self {
        section.list("allow", values::cidr).map_or(default, Self)
    }
}

impl Default for Allow {
    fn default() -> Self {
        let v4 = |a, b, c, d, bits| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits));
        let v6 =
            |first, bits| IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), bits));
        Self(vec![
            v4(10, 0, 0, 0, 8),
            v4(172, 16, 0, 0, 12),
            v4(192, 168, 0, 0, 16),
            v4(100, 64, 0, 0, 10),
            v4(169, 254, 0, 0, 16),
            v4(127, 0, 0, 0, 8),
            v6(0xfc00, 7),
            v6(0xfe80, 10),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(allow: &Allow, source: &str) -> bool {
        allow.permits(source.parse().expect("an address"))
    }

    #[test]
    fn by_default_only_addresses_that_are_not_public_may_connect() {
        let allow = Allow::default();
        for inside in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "169.254.1.1",
            "127.0.0.1",
            "::1",
            "fd00::7",
            "fe80::1",
        ] {
            assert!(permits(&allow, inside), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::", "0.0.0.0", "fec0::1"] {
            assert!(!permits(&allow, outside), "{outside}");
        }
    }

    #[test]
    fn a_mapped_address_is_judged_as_the_ipv4_address_it_is() {
        let allow = Allow::default();
        assert!(permits(&allow, "::ffff:10.1.2.3"));
        assert!(!permits(&allow, "::ffff:8.8.8.8"));
    }

    #[test]
    fn everyone_is_everyone() {
        for source in ["8.8.8.8", "::ffff:8.8.8.8", "2001:db8::1", "10.0.0.1"] {
            assert!(permits(&Allow::everyone(), source), "{source}");
        }
    }

    #[test]
    fn both_allow_what_each_of_them_allows() {
        let of = |ranges: &[&str]| Allow::new(ranges.iter().map(|it| it.parse().expect("a range")).collect());
        for (one, other, both) in [
            (&["10.0.0.0/8"][..], &["10.1.0.0/16", "11.0.0.0/8"][..], &["10.1.0.0/16"][..]),
            (&["10.1.0.0/16", "fd00::/8"], &["10.0.0.0/8", "::/0"], &["10.1.0.0/16", "fd00::/8"]),
            (&["10.0.0.0/8"], &["11.0.0.0/8"], &[]),
            (&["0.0.0.0/0"], &["::/0"], &[]),
            (&["10.0.0.0/8"], &[], &[]),
            (&["10.0.0.0/8"], &["10.0.0.0/8"], &["10.0.0.0/8"]),
        ] {
            assert_eq!(of(one).and(&of(other)), of(both), "{one:?} {other:?}");
            assert_eq!(of(other).and(&of(one)), of(both), "{other:?} {one:?}");
        }
    }

    #[test]
    fn an_empty_list_allows_nobody() {
        assert!(!permits(&Allow::new(Vec::new()), "127.0.0.1"));
    }
}
