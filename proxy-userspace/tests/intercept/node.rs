//! Which addresses are the node's own, and which of them connections are diverted to.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use weir::intercept::{Interception, default_addresses, node_addresses};

use crate::weir::{ip, listeners, options};
use crate::world::{NODE, STEP, configure, on_a_node};

#[test]
fn addresses_of_services_that_a_service_proxy_puts_on_the_node_are_not_the_nodes() {
    on_a_node(|_| {
        // kube-proxy's in its IPVS mode, and kube-router's.
        for (name, address) in [("kube-ipvs0", "10.96.0.10"), ("kube-dummy-if", "10.96.0.11")] {
            configure(&format!("link add {name} type bridge"));
            configure(&format!("address add {address}/32 dev {name}"));
        }
        configure("link add other type bridge");
        configure("address add 10.96.0.12/32 dev other");
        let own = node_addresses().unwrap();
        assert_eq!(own, ["10.77.0.1", "10.96.0.12", "fd77::1"].map(ip));
    });
}

#[test]
fn connections_are_not_diverted_to_an_address_that_is_gone_tomorrow() {
    on_a_node(|_| {
        until_up("pod0");
        // What a node with privacy extensions (RFC 8981) prefers to send from.
        fs::write("/proc/sys/net/ipv6/conf/pod0/use_tempaddr", "2").unwrap();
        configure("address add 2001:db8:77::1/64 dev pod0 mngtmpaddr nodad");
        configure("route add default via fd77::2 dev pod0");
        let lasting = ["fd77::1", "2001:db8:77::1"].map(ip);
        // A new address is preferred once it is known to be nobody else's.
        let end = Instant::now() + STEP;
        let preferred = || {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.connect("[2001:db8::1]:9").unwrap();
            socket.local_addr().unwrap().ip()
        };
        while lasting.contains(&preferred()) {
            assert!(Instant::now() < end, "the kernel makes no temporary address");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(default_addresses().unwrap(), [ip(NODE[0]), lasting[1]]);
    });
}

/// Waits until the kernel takes a link for up, which it finds out a while after the other end is: before, it drops temporary
/// addresses at once.
fn until_up(link: &str) {
    let end = Instant::now() + STEP;
    let said = || Command::new("ip").args(["-o", "link", "show", "dev", link]).output().unwrap().stdout;
    while !String::from_utf8(said()).unwrap().contains(" state UP ") {
        assert!(Instant::now() < end, "{link} is not up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn only_addresses_that_connections_are_diverted_to_are_said_to_be() {
    on_a_node(|world| {
        configure("address add 10.77.0.3/24 dev pod0");
        let mut options = options(world);
        options.addresses.push(ip("10.77.0.3"));
        let listeners = listeners();
        let interception = Interception::attach(&options, listeners[0].as_fd()).unwrap();
        assert_eq!(interception.addresses(), NODE.map(ip));
    });
}
