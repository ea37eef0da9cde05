use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn destination(net: &str, ports: RangeInclusive<u16>) -> Destination {
    Destination { net: net.parse().expect("a network"), ports }
}

/// What the programs would do for an address: the entry of the longest prefix.
fn diverted(entries: &Entries, address: &str, port: u16) -> bool {
    let address: IpAddr = address.parse().expect("an address");
    let address = Prefix::from_net(IpNet::from(address));
    let entry = entries
        .by_prefix
        .iter()
        .filter(|(prefix, _)| prefix.contains(&address))
        .max_by_key(|(prefix, _)| prefix.length);
    entry.is_some_and(|(_, ports)| ports.contain(port))
}

fn plan_of(wanted: &[Destination], excluded: &[&str]) -> Entries {
    let excluded = excluded.iter().map(|net| net.parse().expect("a network"));
    options(&wanted.iter().cloned().collect(), excluded)
}

#[test]
fn a_service_inside_a_wanted_network_keeps_the_networks_ports() {
    let entries =
        plan_of(&[destination("10.96.0.0/12", 1..=1000), destination("10.96.0.10/32", 8080..=8080)], &[]);
    assert!(diverted(&entries, "10.96.0.10", 8080));
    assert!(diverted(&entries, "10.96.0.10", 80));
    assert!(!diverted(&entries, "10.96.0.11", 8080));
    assert!(!diverted(&entries, "10.80.0.1", 80));
}

#[test]
fn what_is_excluded_is_a_hole_in_what_is_wanted() {
    let wanted = [destination("10.0.0.0/8", 1..=65535), destination("10.0.0.1/32", 80..=80)];
    let entries = plan_of(&wanted, &["10.0.0.0/30", "10.0.0.1/32", "192.168.0.0/16"]);
    assert!(!diverted(&entries, "10.0.0.1", 80));
    assert!(!diverted(&entries, "10.0.0.3", 80));
    assert!(diverted(&entries, "10.0.0.4", 80));
    assert_eq!(entries.by_prefix.len(), 2, "one network and one hole: {entries:?}");
}

#[test]
fn everything_means_everything_but_the_standing_exclusions_and_no_family_means_the_other() {
    let v6 = options(&[destination("::/0", 1..=65535)].into(), standing_exclusions());
    assert!(diverted(&v6, "fd00::1", 80));
    for address in ["::1", "::", "fe80::1", "ff02::1", "10.0.0.1", "127.0.0.1"] {
        assert!(!diverted(&v6, address, 80), "{address}");
    }
    let v4 = options(&[destination("0.0.0.0/0", 1..=65535)].into(), standing_exclusions());
    assert!(diverted(&v4, "10.0.0.1", 80));
    for address in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "fd00::1"] {
        assert!(!diverted(&v4, address, 80), "{address}");
    }
    let both = options(
        &[destination("0.0.0.0/0", 80..=80), destination("::/0", 81..=81)].into(),
        standing_exclusions(),
    );
    assert!(diverted(&both, "10.0.0.1", 80) && !diverted(&both, "10.0.0.1", 81));
    assert!(diverted(&both, "fd00::1", 81) && !diverted(&both, "fd00::1", 80));
}

#[test]
fn a_wanted_network_that_is_never_diverted_is_counted() {
    let entries = options(
        &[destination("127.0.0.0/8", 1..=9), destination("127.0.0.1/32", 1..=9)].into(),
        standing_exclusions(),
    );
    assert_eq!((entries.by_prefix.len(), entries.excluded), (0, 2));
}

#[test]
fn a_service_with_too_many_ports_gets_the_narrowest_gaps_filled() {
    let wanted: Vec<_> = (0..10).map(|i| destination("10.0.0.1/32", i * i * 10..=i * i * 10)).collect();
    let entries = plan_of(&wanted, &[]);
    for port in (0..10).map(|i| i * i * 10) {
        assert!(diverted(&entries, "10.0.0.1", port), "{port}");
    }
    assert!(diverted(&entries, "10.0.0.1", 5), "the gap between 0 and 10 is the narrowest");
    assert!(!diverted(&entries, "10.0.0.1", 700), "the gap between 640 and 810 is the widest");
}

fn nets() -> impl Strategy<Value = IpNet> {
    // Few bits, so that networks overlap.
    let v4 = (0_u32..16, 0_u8..=8).prop_map(|(bits, length)| {
        IpNet::new(IpAddr::V4((0x0a00_0000 | bits << 20).into()), 8 + length).expect("at most 16")
    });
    let v6 = (0_u128..16, 0_u8..=8)
        .prop_map(|(bits, length)| IpNet::new(IpAddr::V6((bits << 120).into()), length).expect("at most 8"));
    prop_oneof![v4, v6]
}

proptest! {
    /// The trie matches the definition: some wanted network of the same family contains the address and the port, and
    /// no excluded one contains the address.
    #[test]
    fn an_address_is_diverted_exactly_when_it_is_wanted_and_not_excluded(
        wanted in prop::collection::btree_set((nets(), 0_u16..4, 0_u16..4), 0..8),
        excluded in prop::collection::vec(nets(), 0..4),
        address in prop_oneof![
            (0_u32..16).prop_map(|bits| IpAddr::V4((0x0a00_0001 | bits << 20).into())),
            (0_u128..256).prop_map(|bits| IpAddr::V6((bits << 120 | 1).into())),
        ],
        port in 0_u16..6,
    ) {
        let wanted: BTreeSet<Destination> =
            wanted.into_iter().map(|(net, low, more)| Destination { net, ports: low..=low + more }).collect();
        let entries = options(&wanted, excluded.iter().copied());
        let expected = wanted.iter().any(|d| d.net.contains(&address) && d.ports.contains(&port))
            && !excluded.iter().any(|net| net.contains(&address));
        prop_assert_eq!(diverted(&entries, &address.to_string(), port), expected);
    }

    /// Amending addresses one by one has the same result as computing all of them.
    #[test]
    fn a_difference_comes_to_the_same_as_the_whole(
        before in prop::collection::btree_set((0_u32..8, 0_u16..4), 0..8),
        after in prop::collection::btree_set((0_u32..8, 0_u16..4), 0..8),
        excluded in prop::collection::vec(nets(), 0..3),
    ) {
        let of = |wanted: BTreeSet<(u32, u16)>| -> BTreeSet<Destination> {
            let at = |bits: u32| IpNet::from(IpAddr::V4((0x0a00_0001 | bits << 20).into()));
            wanted.into_iter().map(|(bits, port)| Destination { net: at(bits), ports: port..=port }).collect()
        };
        let (before, after) = (of(before), of(after));
        let mut asked = Asked::new(before.clone(), excluded.clone());
        let gone: Vec<_> = before.difference(&after).cloned().collect();
        let come: Vec<_> = after.difference(&before).cloned().collect();
        let mut entries = options(&before, excluded.iter().copied()).by_prefix;
        for address in asked.amend(&gone, &come) {
            match asked.entry(address) {
                Some(ports) => entries.insert(Prefix::from_net(address), ports),
                None => entries.remove(&Prefix::from_net(address)),
            };
        }
        prop_assert_eq!(&asked.wanted, &after);
        prop_assert_eq!(entries, options(&after, excluded.iter().copied()).by_prefix);
    }
}
