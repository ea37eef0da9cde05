//! weir's sockets in pods: the addresses that stand for destinations, and the decision.

use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use crate::decide::{Dial, Facts, Fail};
use crate::decide_in_pod::{PodFacts, Verdict, decide};
use crate::pods::{LISTEN_V4, MAX_NUMBER, Own, PodSettings, Shown};
use crate::{Address, Count, LAYOUT, LISTEN, Pod, Policy, Ports, Range, STALE_AFTER_NS, Settings};

const PREFIX: Address = Address { words: [0x1c9e_6afd, 0x3641_b457, 0, 0] };
const HOST: u64 = 1;
const CGROUP: u64 = 4711;

fn v4(text: &str) -> Address {
    Address::mapped(u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets()))
}

fn v6(text: &str) -> Address {
    Address::from_octets(text.parse::<Ipv6Addr>().unwrap().octets())
}

proptest! {
    #[test]
    fn an_address_stands_for_one_number(number in 1..=MAX_NUMBER, opaque: bool) {
        let shown = Shown { number, opaque };
        let octets = u32::from_be(shown.v4()).to_be_bytes();
        prop_assert!(octets[0] == 127 && (64..128).contains(&octets[1]), "{:?}", octets);
        prop_assert_eq!(Shown::of_v4(shown.v4()), Some(shown));
        prop_assert_eq!(Shown::of(&Address::mapped(shown.v4()), &PREFIX), Some(shown));
        prop_assert_eq!(Shown::of(&shown.v6(&PREFIX), &PREFIX), Some(shown));
        prop_assert_ne!(u32::from_be(shown.v4()), LISTEN_V4);
    }

    #[test]
    fn no_other_address_stands_for_anything(words: [u32; 4]) {
        let address = Address { words };
        let is_ours = words[..2] == PREFIX.words[..2];
        prop_assert_eq!(Shown::of(&address, &PREFIX).is_some() && !address.is_mapped(), is_ours && words[2] == 0);
    }
}

#[test]
fn addresses_outside_the_range_stand_for_nothing() {
    for address in ["127.0.0.1", "127.63.255.255", "127.128.0.0", "126.64.0.1", "10.64.0.1"] {
        assert_eq!(Shown::of(&v4(address), &PREFIX), None, "{address}");
    }
    assert_eq!(Shown::of(&v6("::1"), &PREFIX), None);
}

#[test]
fn only_the_pods_own_addresses_are_inside() {
    let own = Own { v4: v4("10.1.0.2"), v6: v6("fd01::2") };
    for (address, inside) in [
        (v4("127.0.0.1"), true),
        (v4("127.64.0.9"), true),
        (v4("10.1.0.2"), true),
        (v4("10.1.0.3"), false),
        (v6("::1"), true),
        (v6("fd01::2"), true),
        (v6("fd01::3"), false),
        (v6("::2"), false),
        (Address { words: [PREFIX.words[0], PREFIX.words[1], 5, 5] }, true),
    ] {
        assert_eq!(own.is_inside(&address, &PREFIX), inside, "{address:?}");
    }
    let none = Own { v4: Address { words: [0; 4] }, v6: Address { words: [0; 4] } };
    assert!(!none.is_inside(&v4("10.1.0.2"), &PREFIX) && !none.is_inside(&v6("fd01::2"), &PREFIX));
}

/// Facts that divert, each to be changed.
#[derive(Clone)]
struct Given {
    scope: Ports,
    pod: Option<Pod>,
    netns: u64,
    number: Option<u32>,
    device: u32,
    source: Address,
    own: Option<Own>,
    alone: bool,
    listener: Option<u32>,
    heart_age: u64,
    refused: bool,
}

impl Facts for Given {
    fn scope(&self) -> Option<&Ports> {
        Some(&self.scope)
    }
    fn pod(&self) -> Option<(u64, &Pod)> {
        self.pod.as_ref().map(|pod| (CGROUP, pod))
    }
    fn netns(&self) -> u64 {
        self.netns
    }
    fn listener(&self) -> Option<u32> {
        None
    }
    fn heart_age(&self) -> u64 {
        self.heart_age
    }
    fn is_refused(&self) -> bool {
        self.refused
    }
}

impl PodFacts for Given {
    fn number(&self) -> Option<u32> {
        self.number
    }
    fn bound_device(&self) -> u32 {
        self.device
    }
    fn source(&self) -> Address {
        self.source
    }
    fn own(&self, _: u64) -> Option<&Own> {
        self.own.as_ref()
    }
    fn is_alone(&self, _: u64, pod: u64) -> bool {
        assert_eq!(pod, CGROUP);
        self.alone
    }
    fn pod_listener(&self, _: u64, _: bool) -> Option<u32> {
        self.listener
    }
}

fn ports(port: u16) -> Ports {
    let mut ports = Ports::NONE;
    ports.ranges[0] = Range { low: port, high: port };
    ports
}

#[test]
fn each_fact_alone_decides() {
    let none = Address { words: [0; 4] };
    let well = Given {
        scope: ports(80),
        pod: Some(Pod::all(Policy::Divert)),
        netns: 7,
        number: Some(5),
        device: 0,
        source: none,
        own: Some(Own { v4: v4("10.1.0.2"), v6: none }),
        alone: true,
        listener: Some(LISTEN),
        heart_age: STALE_AFTER_NS,
        refused: false,
    };
    let settings = Settings {
        node4: none,
        node6: none,
        host_netns: HOST,
        stale_after: STALE_AFTER_NS,
        layout: LAYOUT,
        unused: 0,
        first_port: 0,
        ports: 0,
        flags: 0,
    };
    let pods = PodSettings { prefix6: PREFIX, port: 4136, wire: 0, layout: LAYOUT };
    let dial = Dial { address: v4("10.96.0.1"), port: 80_u16.to_be() };
    let of = |given: &Given, fail| decide(given, &dial, &settings, &pods, fail);
    let diverted = |opaque| Verdict::Redirect(Shown { number: 5, opaque });
    assert_eq!(of(&well, Fail::Open), diverted(false));
    let opaque = Given { pod: Some(Pod { opaque: ports(80), ..Pod::all(Policy::Divert) }), ..well.clone() };
    assert_eq!(of(&opaque, Fail::Open), diverted(true));
    for source in [v4("0.0.0.0"), v4("127.0.0.1"), v4("10.1.0.2")] {
        assert_eq!(of(&Given { source, ..well.clone() }, Fail::Open), diverted(false));
    }
    assert_eq!(of(&Given { device: 1, ..well.clone() }, Fail::Open), diverted(false));
    assert_eq!(of(&Given { refused: true, ..well.clone() }, Fail::Open), Verdict::Nowhere);
    assert_eq!(
        of(&Given { refused: true, heart_age: STALE_AFTER_NS + 1, ..well.clone() }, Fail::Open),
        Verdict::Skip(Count::StaleHeart),
        "only a weir that is alive knows"
    );
    // What weir is not asked to take goes direct, whatever `fail` says.
    for (given, why) in [
        (Given { scope: Ports::NONE, ..well.clone() }, Count::Excluded),
        (Given { pod: None, ..well.clone() }, Count::NotEnrolled),
        (Given { pod: Some(Pod::all(Policy::LeaveAlone)), ..well.clone() }, Count::LeftAlone),
        (Given { pod: Some(Pod::all(Policy::Own)), ..well.clone() }, Count::Own),
        (Given { number: None, ..well.clone() }, Count::NoNumber),
        (Given { netns: HOST, ..well.clone() }, Count::Host),
        (Given { device: 2, ..well.clone() }, Count::BoundDevice),
        (Given { source: v4("10.1.0.3"), ..well.clone() }, Count::BoundSource),
        (Given { alone: false, ..well.clone() }, Count::SharedNetns),
    ] {
        for fail in [Fail::Open, Fail::Closed] {
            assert_eq!(of(&given, fail), Verdict::Skip(why));
        }
    }
    // What it should take and cannot is up to `fail`.
    for (given, open, closed) in [
        (Given { own: None, ..well.clone() }, Count::NoListener, Count::RefusedNoListener),
        (Given { listener: None, ..well.clone() }, Count::NoListener, Count::RefusedNoListener),
        (Given { listener: Some(7), ..well.clone() }, Count::NoListener, Count::RefusedNoListener),
        (Given { heart_age: STALE_AFTER_NS + 1, ..well }, Count::StaleHeart, Count::RefusedStaleHeart),
    ] {
        assert_eq!(of(&given, Fail::Open), Verdict::Skip(open));
        assert_eq!(of(&given, Fail::Closed), Verdict::Refuse(closed));
    }
}
