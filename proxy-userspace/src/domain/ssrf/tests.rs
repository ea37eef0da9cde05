use super::*;
use proptest::prelude::*;

const OWN: &[IpAddr] =
    &[IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7))];

fn local(listeners: &[SocketAddr]) -> LocalAddresses<'_> {
    LocalAddresses { own: OWN, listeners, refused: &[] }
}

/// Only the interfaces' addresses are local.
fn nothing_else(_: IpAddr) -> bool {
    false
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[track_caller]
fn check(ip: &str, exempt: Exempt, expected: Option<Refusal>) {
    let ip: IpAddr = ip.parse().unwrap();
    assert_eq!(refuse(SocketAddr::new(ip, 80), local(&[]), exempt, nothing_else), expected, "{ip}");
}

/// Addresses that are refused on every node, with the reason.
const SPECIAL: &[(&str, Refusal)] = &[
    ("127.0.0.1", Refusal::Loopback),
    ("127.255.255.254", Refusal::Loopback),
    ("::1", Refusal::Loopback),
    ("169.254.0.1", Refusal::LinkLocal),
    ("169.254.169.253", Refusal::LinkLocal),
    ("fe80::1", Refusal::LinkLocal),
    ("febf:ffff::1", Refusal::LinkLocal),
    ("169.254.169.254", Refusal::Metadata),
    ("168.63.129.16", Refusal::Metadata),
    ("100.100.100.200", Refusal::Metadata),
    ("192.0.0.192", Refusal::Metadata),
    ("fd00:ec2::254", Refusal::Metadata),
    ("fd00:ec2::23", Refusal::Metadata),
    ("fd00:ec2:ffff::1", Refusal::Metadata),
    ("fd20:ce::254", Refusal::Metadata),
    ("0.0.0.0", Refusal::Unspecified),
    ("0.1.2.3", Refusal::Unspecified),
    ("::", Refusal::Unspecified),
    ("224.0.0.1", Refusal::Multicast),
    ("239.255.255.255", Refusal::Multicast),
    ("ff02::1", Refusal::Multicast),
    ("255.255.255.255", Refusal::Broadcast),
];

/// Ordinary addresses, some of them next to refused ranges.
const ORDINARY: &[&str] = &[
    "1.0.0.0",
    "10.0.0.8",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "192.168.1.1",
    "223.255.255.255",
    "255.255.255.254",
    "100.64.0.1",
    "fe00::1",
    "fec0::1",
    "fd00::8",
    "fd00:ec1::254",
    "fd00:ec3::254",
    "fd20:ce::253",
    "168.63.129.15",
    "100.100.100.201",
    "192.0.0.193",
    "2001:db8::1",
    "2606:4700::1111",
];

/// Every way to write an IPv4 address as an IPv6 one.
fn spellings(v4: Ipv4Addr) -> [Ipv6Addr; 7] {
    let [high, low] = [(v4.to_bits() >> 16) as u16, v4.to_bits() as u16];
    [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 7, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !high, !low),
    ]
}

#[test]
fn from_a_pods_own_namespace_nothing_is_lent_but_loopback_metadata_and_weir_itself_are_refused() {
    let listeners = [address("[::]:4140"), address("10.0.0.7:9991")];
    let refused = |at: &str| refuse_in_pod(address(at), local(&listeners));
    for (ip, why) in SPECIAL {
        let at = SocketAddr::new(ip.parse().unwrap(), 80);
        assert_eq!(refuse_in_pod(at, local(&listeners)), Some(*why), "{ip}");
    }
    for ip in ORDINARY {
        let at = SocketAddr::new(ip.parse().unwrap(), 80);
        assert_eq!(refuse_in_pod(at, local(&listeners)), None, "{ip}");
    }
    assert_eq!(refused("10.0.0.7:80"), None, "the node is just another host to a pod");
    assert_eq!(refused("10.0.0.7:4140"), Some(Refusal::OwnListener));
    assert_eq!(refused("[fd00::7]:4140"), Some(Refusal::OwnListener));
    assert_eq!(refused("10.0.0.7:9991"), Some(Refusal::OwnListener));
    assert_eq!(refused("[::ffff:10.0.0.7]:9991"), Some(Refusal::OwnListener));
    let net = ["10.9.0.0/16".parse().unwrap()];
    let listed = LocalAddresses { refused: &net, ..local(&[]) };
    assert_eq!(refuse_in_pod(address("10.9.1.1:80"), listed), Some(Refusal::Listed));
}

#[test]
fn special_addresses_are_refused_with_their_reason() {
    for &(ip, reason) in SPECIAL {
        check(ip, Exempt::No, Some(reason));
        check(ip, Exempt::ServiceEndpoint, Some(reason));
        check(ip, Exempt::OnNode, Some(reason));
        check(ip, Exempt::Written, None);
    }
}

#[test]
fn ordinary_addresses_are_allowed() {
    for ip in ORDINARY {
        check(ip, Exempt::No, None);
    }
}

#[test]
fn an_ipv4_address_is_refused_in_every_ipv6_spelling() {
    for &(ip, reason) in SPECIAL {
        let Ok(v4) = ip.parse::<Ipv4Addr>() else { continue };
        for v6 in spellings(v4) {
            // These two are IPv6 addresses of their own.
            if v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST {
                check(&v6.to_string(), Exempt::No, Some(reason));
            }
        }
    }
    check("::ffff:169.254.169.254", Exempt::No, Some(Refusal::Metadata));
    check("64:ff9b::7f00:1", Exempt::No, Some(Refusal::Loopback));
    check("2002:7f00:1::", Exempt::No, Some(Refusal::Loopback));
}

#[test]
fn the_nodes_own_addresses_are_refused_unless_they_are_endpoints() {
    for ip in ["10.0.0.7", "::ffff:10.0.0.7", "64:ff9b::10.0.0.7", "fd00::7"] {
        check(ip, Exempt::No, Some(Refusal::OwnAddress));
        check(ip, Exempt::ServiceEndpoint, Some(Refusal::NoHostPod));
        check(ip, Exempt::OnNode, None);
        check(ip, Exempt::Written, None);
    }
}

#[test]
fn an_own_address_given_as_mapped_is_the_same_address() {
    let own = ["::ffff:10.0.0.9".parse().unwrap()];
    let local = LocalAddresses { own: &own, ..local(&[]) };
    let refusal = refuse(address("10.0.0.9:80"), local, Exempt::No, nothing_else);
    assert_eq!(refusal, Some(Refusal::OwnAddress));
}

#[test]
fn a_listener_on_every_address_is_refused_on_each_whatever_the_exemption() {
    for listener in ["[::]:4140", "0.0.0.0:4140"] {
        let listeners = [address(listener)];
        for exempt in [Exempt::No, Exempt::ServiceEndpoint, Exempt::OnNode, Exempt::Written] {
            for dialled in [
                "10.0.0.7:4140",
                "[fd00::7]:4140",
                "127.0.0.1:4140",
                "127.8.8.8:4140",
                "[::1]:4140",
                "0.0.0.0:4140",
                "[::]:4140",
                "[::ffff:127.0.0.1]:4140",
                "[::ffff:0.0.0.0]:4140",
                "[64:ff9b::10.0.0.7]:4140",
                "[2002:a00:7::]:4140",
            ] {
                let refusal = refuse(address(dialled), local(&listeners), exempt, nothing_else);
                assert_eq!(refusal, Some(Refusal::OwnListener), "{dialled} with {listener}");
            }
            assert_eq!(refuse(address("10.0.0.8:4140"), local(&listeners), exempt, nothing_else), None);
        }
        assert_eq!(refuse(address("127.0.0.1:4141"), local(&listeners), Exempt::Written, nothing_else), None);
    }
}

#[test]
fn a_listener_on_one_address_is_refused_there() {
    let listeners = [address("127.0.0.1:9990"), address("10.0.0.7:9991")];
    let ask = |dialled| refuse(address(dialled), local(&listeners), Exempt::Written, nothing_else);
    assert_eq!(ask("127.0.0.1:9990"), Some(Refusal::OwnListener));
    assert_eq!(ask("[::ffff:127.0.0.1]:9990"), Some(Refusal::OwnListener));
    assert_eq!(ask("0.0.0.0:9990"), Some(Refusal::OwnListener), "the kernel takes it for loopback");
    assert_eq!(ask("10.0.0.7:9991"), Some(Refusal::OwnListener));
    assert_eq!(ask("127.0.0.2:9990"), None, "another service may listen there");
    assert_eq!(ask("10.0.0.7:9990"), None);
}

#[test]
fn what_the_kernel_takes_for_local_is_refused_as_the_nodes_own_addresses_are() {
    let listeners = [address("[::]:4140"), address("10.0.0.7:9991")];
    let any_ip: IpNet = "10.88.0.0/16".parse().unwrap();
    let is_local = |ip: IpAddr| any_ip.contains(&ip);
    let ask = |dialled, exempt| refuse(address(dialled), local(&listeners), exempt, is_local);
    for dialled in ["10.88.1.2:80", "[::ffff:10.88.1.2]:80", "[64:ff9b::10.88.1.2]:80"] {
        assert_eq!(ask(dialled, Exempt::No), Some(Refusal::OwnAddress), "{dialled}");
        assert_eq!(ask(dialled, Exempt::ServiceEndpoint), Some(Refusal::NoHostPod), "{dialled}");
        assert_eq!(ask(dialled, Exempt::OnNode), None, "{dialled}");
        assert_eq!(ask(dialled, Exempt::Written), None, "{dialled}");
    }
    for exempt in [Exempt::No, Exempt::ServiceEndpoint, Exempt::OnNode, Exempt::Written] {
        assert_eq!(ask("10.88.1.2:4140", exempt), Some(Refusal::OwnListener));
        assert_eq!(ask("10.89.1.2:4140", exempt), None);
    }
    // A listener at one address is not reachable at another one.
    assert_eq!(ask("10.88.1.2:9991", Exempt::Written), None);
}

#[test]
fn the_kernel_is_asked_only_where_it_decides() {
    let listeners = [address("[::]:4140"), address("127.0.0.1:9990")];
    let never = |ip: IpAddr| -> bool { panic!("{ip}") };
    let ask = |dialled, exempt| refuse(address(dialled), local(&listeners), exempt, never);
    assert_eq!(ask("10.1.1.1:80", Exempt::OnNode), None);
    assert_eq!(ask("10.1.1.1:9990", Exempt::Written), None);
    assert_eq!(ask("169.254.169.254:80", Exempt::No), Some(Refusal::Metadata));
    assert_eq!(ask("10.0.0.7:80", Exempt::No), Some(Refusal::OwnAddress));
    assert_eq!(ask("10.0.0.7:80", Exempt::ServiceEndpoint), Some(Refusal::NoHostPod));
}

#[test]
fn what_the_operator_lists_is_refused_in_every_spelling_unless_it_was_written_down() {
    let refused: Vec<IpNet> = ["10.200.0.0/16", "fd77::/32"].map(|it| it.parse().unwrap()).to_vec();
    let local = LocalAddresses { refused: &refused, ..local(&[]) };
    let ask = |dialled, exempt| refuse(address(dialled), local, exempt, nothing_else);
    for dialled in ["10.200.3.4:80", "[::ffff:10.200.3.4]:1", "[2002:ac8:304::]:80", "[fd77:0:1::2]:443"] {
        assert_eq!(ask(dialled, Exempt::No), Some(Refusal::Listed), "{dialled}");
        assert_eq!(ask(dialled, Exempt::OnNode), Some(Refusal::Listed), "{dialled}");
        assert_eq!(ask(dialled, Exempt::Written), None, "{dialled}");
    }
    assert_eq!(ask("10.201.0.1:80", Exempt::No), None);
}

#[test]
fn a_connection_that_has_not_left_the_node_is_refused_whatever_it_was_to() {
    let listeners = [address("[::]:4140"), address("127.0.0.1:9990")];
    let ask = |own, peer, exempt| refuse_connected(address(own), address(peer), local(&listeners), exempt);
    for (own, peer) in [("10.9.9.9:40000", "10.9.9.9:80"), ("[::ffff:10.9.9.9]:40000", "10.9.9.9:80")] {
        assert_eq!(ask(own, peer, Exempt::No), Some(Refusal::OwnAddress));
        assert_eq!(ask(own, peer, Exempt::ServiceEndpoint), Some(Refusal::NoHostPod));
        assert_eq!(ask(own, peer, Exempt::OnNode), None);
        assert_eq!(ask(own, peer, Exempt::Written), None);
    }
    for exempt in [Exempt::No, Exempt::ServiceEndpoint, Exempt::OnNode, Exempt::Written] {
        assert_eq!(ask("10.9.9.9:40000", "10.9.9.9:4140", exempt), Some(Refusal::OwnListener));
        assert_eq!(ask("10.9.9.9:40000", "10.9.9.8:4140", exempt), None);
    }
    assert!(local(&listeners).has_listener_at(9990) && !local(&listeners).has_listener_at(80));
}

#[test]
fn labels_and_reasons_are_distinct_single_lines() {
    let others =
        [Refusal::OwnAddress, Refusal::NoHostPod, Refusal::OwnListener, Refusal::Listed, Refusal::NotLed];
    let all = SPECIAL.iter().map(|&(_, reason)| reason).chain(others);
    let mut seen = std::collections::HashMap::new();
    for reason in all {
        let text = reason.to_string();
        assert!(!text.contains('\n'));
        assert_eq!(*seen.entry(Refusal::LABELS[reason.slot()]).or_insert(text.clone()), text);
    }
    assert_eq!(seen.len(), Refusal::LABELS.len());
}

proptest! {
    #[test]
    fn a_spelling_is_refused_exactly_if_the_address_is(v4 in ipv4(), exempt in exemptions()) {
        let ask = |ip: IpAddr| refuse(SocketAddr::new(ip, 80), local(&[]), exempt, nothing_else);
        for v6 in spellings(v4) {
            if v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST {
                prop_assert_eq!(ask(v6.into()), ask(v4.into()), "{}", v6);
            }
        }
    }

    #[test]
    fn an_exemption_only_ever_allows_more(bits in any::<u128>(), port in any::<u16>()) {
        let listeners = [address("[::]:4140")];
        let addr = SocketAddr::new(Ipv6Addr::from_bits(bits).into(), port);
        let ask = |exempt| refuse(addr, local(&listeners), exempt, nothing_else);
        prop_assert_eq!(ask(Exempt::No).is_none(), ask(Exempt::ServiceEndpoint).is_none());
        if ask(Exempt::No).is_none() {
            prop_assert_eq!(ask(Exempt::OnNode), None);
        }
        if ask(Exempt::OnNode).is_none() {
            prop_assert_eq!(ask(Exempt::Written), None);
        }
    }

    #[test]
    fn the_standard_librarys_special_addresses_are_refused(v4 in ipv4()) {
        let special = v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast()
            || v4.is_broadcast();
        if special {
            let refusal = refuse(SocketAddr::new(v4.into(), 80), local(&[]), Exempt::No, nothing_else);
            prop_assert!(refusal.is_some());
        }
    }
}

/// Any address, half of the time in or next to a refused range.
fn ipv4() -> impl Strategy<Value = Ipv4Addr> {
    let first = prop::sample::select(vec![0u32, 10, 126, 127, 128, 169, 223, 224, 239, 255]);
    let near = (first, any::<u32>(), any::<bool>()).prop_map(|(first, low, link_local)| {
        let second = if link_local { 254 << 16 } else { low & 0xff_0000 };
        first << 24 | second | (low & 0xffff)
    });
    prop_oneof![any::<u32>(), near].prop_map(Ipv4Addr::from_bits)
}

fn exemptions() -> impl Strategy<Value = Exempt> {
    prop::sample::select(vec![Exempt::No, Exempt::Written, Exempt::ServiceEndpoint, Exempt::OnNode])
}
