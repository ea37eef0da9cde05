//! The decision, for every combination of facts, and the layout's small arithmetic.

use core::cell::Cell;
use core::net::Ipv6Addr;

use proptest::prelude::*;

use crate::decide::{Dial, Facts, Fail, Verdict, decide, node, port_index};
use crate::{
    Address, Count, LAYOUT, LISTEN, Original, Pod, Policy, Ports, RANGES, Range, STALE_AFTER_NS, Settings,
    Tuple,
};

const HOST: u64 = 1;
const CGROUP: u64 = 4711;

/// The facts as fields, and how many were asked for.
#[derive(Clone, Debug)]
struct Given {
    scope: Option<Ports>,
    pod: Option<Pod>,
    netns: u64,
    listener: Option<u32>,
    heart_age: u64,
    refused: bool,
    asked: Cell<u32>,
}

impl Given {
    fn tell<T>(&self, fact: T) -> T {
        self.asked.set(self.asked.get() + 1);
        fact
    }
}

impl Facts for Given {
    fn scope(&self) -> Option<&Ports> {
        self.tell(self.scope.as_ref())
    }
    fn pod(&self) -> Option<(u64, &Pod)> {
        self.tell(self.pod.as_ref().map(|pod| (CGROUP, pod)))
    }
    fn netns(&self) -> u64 {
        self.tell(self.netns)
    }
    fn listener(&self) -> Option<u32> {
        self.tell(self.listener)
    }
    fn heart_age(&self) -> u64 {
        self.tell(self.heart_age)
    }
    fn is_refused(&self) -> bool {
        self.tell(self.refused)
    }
}

fn ports(low: u16, high: u16) -> Ports {
    let mut ports = Ports::NONE;
    ports.ranges[0] = Range { low, high };
    ports
}

fn given() -> impl Strategy<Value = Given> {
    let scope = prop_oneof![Just(None), Just(Some(Ports::NONE)), Just(Some(ports(80, 90)))];
    let some = prop_oneof![3 => Just(Ports::NONE), 1 => Just(ports(80, 84))];
    let pod = prop::option::of(
        (prop_oneof![2 => Just(1_u32), 1 => 2_u32..5], some.clone(), some)
            .prop_map(|(policy, skip, opaque)| Pod { policy, skip, opaque }),
    );
    let listener = prop_oneof![Just(None), Just(Some(LISTEN)), Just(Some(7))];
    let age = prop_oneof![Just(0), Just(STALE_AFTER_NS), Just(STALE_AFTER_NS + 1), any::<u64>()];
    (scope, pod, HOST..HOST + 2, listener, age, any::<bool>()).prop_map(
        |(scope, pod, netns, listener, heart_age, refused)| Given {
            scope,
            pod,
            netns,
            listener,
            heart_age,
            refused,
            asked: Cell::new(0),
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let layout = prop_oneof![4 => Just(LAYOUT), 1 => Just(LAYOUT + 1)];
    (0_u32..8, layout, 1_u16..=8).prop_map(|(flags, layout, ports)| Settings {
        node4: Address::mapped(u32::from_ne_bytes([10, 0, 0, 7])),
        node6: address("fd00::7"),
        host_netns: HOST,
        stale_after: STALE_AFTER_NS,
        layout,
        unused: 0,
        first_port: 4142,
        ports,
        flags,
    })
}

fn address(text: &str) -> Address {
    Address::from_octets(text.parse::<Ipv6Addr>().expect("an address").octets())
}

fn dial() -> impl Strategy<Value = Dial> {
    let address = prop_oneof![
        any::<u32>().prop_map(Address::mapped),
        any::<[u8; 16]>().prop_map(Address::from_octets),
    ];
    (address, prop_oneof![79_u16..92, any::<u16>()])
        .prop_map(|(address, port)| Dial { address, port: port.to_be() })
}

fn fail() -> impl Strategy<Value = Fail> {
    prop_oneof![Just(Fail::Open), Just(Fail::Closed)]
}

proptest! {
    #[test]
    fn a_connection_is_taken_exactly_when_every_condition_holds(
        given in given(), settings in settings(), dial in dial(), fail in fail(),
    ) {
        let has_node =
            settings.has(if dial.address.is_mapped() { Settings::HAS_V4 } else { Settings::HAS_V6 });
        let wanted = given.scope.is_some_and(|ports| ports.contain(u16::from_be(dial.port)))
            && settings.layout == LAYOUT
            && given.pod.is_some_and(|pod| {
                pod.policy == Policy::Divert as u32 && !pod.skip.contain(u16::from_be(dial.port))
            })
            && (settings.has(Settings::HOST) || given.netns != HOST)
            && has_node;
        let able = given.listener == Some(LISTEN) && given.heart_age <= STALE_AFTER_NS;
        match decide(&given, &dial, &settings, fail) {
            Verdict::Redirect { port, flags, pod } => {
                prop_assert!(wanted && able && !given.refused);
                let opaque = given.pod.is_some_and(|pod| pod.opaque.contain(u16::from_be(dial.port)));
                prop_assert_eq!(flags == Original::OPAQUE, opaque);
                prop_assert!(port < settings.ports && pod == CGROUP);
                prop_assert!(node(&dial, &settings).is_some());
            }
            Verdict::Nowhere => prop_assert!(wanted && able && given.refused),
            Verdict::Refuse(reason) => {
                prop_assert!(wanted && !able && fail == Fail::Closed);
                let silent = given.listener == Some(LISTEN);
                let expected = if silent { Count::RefusedStaleHeart } else { Count::RefusedNoListener };
                prop_assert_eq!(reason, expected);
            }
            Verdict::Skip(reason) => {
                let for_want_of_weir = matches!(reason, Count::NoListener | Count::StaleHeart);
                prop_assert_eq!(for_want_of_weir, wanted);
                prop_assert!(!for_want_of_weir || (!able && fail == Fail::Open));
            }
        }
    }

    /// Nearly all connections of a node are out of scope: they cost one look-up.
    #[test]
    fn out_of_scope_asks_for_nothing_else(given in given(), settings in settings(), dial in dial()) {
        let verdict = decide(&given, &dial, &settings, Fail::Closed);
        let out = matches!(verdict, Verdict::Skip(Count::OutOfScope | Count::Excluded));
        prop_assert!(given.asked.get() <= 6);
        prop_assert!(!out || given.asked.get() == 1);
    }

    #[test]
    fn the_rewritten_address_is_of_the_dialled_family(settings in settings(), dial in dial()) {
        if let Some(node) = node(&dial, &settings) {
            prop_assert_eq!(node.is_mapped(), dial.address.is_mapped());
        }
    }

    #[test]
    fn an_address_keeps_its_octets(octets: [u8; 16]) {
        let address = Address::from_octets(octets);
        prop_assert_eq!(address.octets(), octets);
        prop_assert_eq!(address.is_mapped(), Ipv6Addr::from(octets).to_ipv4_mapped().is_some());
    }

    /// User space looks up fields, where the programs wrote words.
    #[test]
    fn a_keys_words_are_its_fields_in_memory(
        client: [u8; 16], node: [u8; 16], client_port: u16, node_port: u16, sequence: u32, bits in 0..=128_u32,
    ) {
        let [client, node] = [client, node].map(Address::from_octets);
        let tuple = Tuple { client, node, client_port, node_port, sequence };
        let fields = (client.octets(), node.octets());
        let ports = [client_port.to_ne_bytes(), node_port.to_ne_bytes()].concat();
        let expected = [&fields.0[..], &fields.1, &ports, &sequence.to_ne_bytes()].concat();
        prop_assert_eq!(tuple.words().map(u64::to_ne_bytes).concat(), expected);
        let expected = [&bits.to_ne_bytes()[..], &fields.0, &[0; 4]].concat();
        prop_assert_eq!(client.prefix(bits).map(u64::to_ne_bytes).concat(), expected);
        let expected = [&fields.0[..], &u64::from(client_port).to_ne_bytes()].concat();
        prop_assert_eq!(client.with_port(client_port).map(u64::to_ne_bytes).concat(), expected);
    }

    #[test]
    fn ports_contain_what_their_ranges_do(
        ranges in prop::collection::vec((any::<u16>(), any::<u16>()), 0..=RANGES), port: u16,
    ) {
        let mut ports = Ports::NONE;
        for (place, (low, high)) in ports.ranges.iter_mut().zip(&ranges) {
            *place = Range { low: *low, high: *high };
        }
        let expected = ranges.iter().any(|(low, high)| (*low..=*high).contains(&port));
        prop_assert_eq!(ports.contain(port), expected);
    }
}

#[test]
fn services_spread_over_all_transparent_ports() {
    let mut used = [0_u32; 8];
    for last in 0..=255_u8 {
        for port in [80_u16, 443] {
            let address = Address::mapped(u32::from_ne_bytes([10, 96, 3, last]));
            used[usize::from(port_index(&Dial { address, port: port.to_be() }, 8))] += 1;
        }
    }
    // 64 each when perfect. A binomial of 512 and 1/8 stays within 5 standard deviations (7.5 each).
    assert!(used.iter().all(|count| (27..=101).contains(count)), "{used:?}");
}

#[test]
fn every_counter_has_its_own_index_and_name() {
    for (index, what) in Count::ALL.iter().enumerate() {
        assert_eq!(*what as usize, index);
        assert!(Count::ALL[..index].iter().all(|other| other.name() != what.name()), "{}", what.name());
    }
}

#[test]
fn policies_survive_the_map_and_others_are_none() {
    for policy in [Policy::Divert, Policy::LeaveAlone, Policy::Own] {
        assert_eq!(Policy::from_value(policy as u32), Some(policy));
    }
    assert_eq!(Policy::from_value(0), None);
    assert_eq!(Policy::from_value(4), None);
}
