//! Where the node's connections to endpoints come from: addresses and ports.
//!
//! A connection is told from others by both ends' addresses and ports, so one address of the node has some 28,000 ports to
//! one endpoint, for the connections of all its pods together. One that weir has closed keeps its port for a minute
//! (TIME_WAIT). So that a client that opens and closes many does not take the ports of all others, a quarter of them is
//! set aside: a client that finds the rest used up takes one of its own share of it (`IP_LOCAL_PORT_RANGE`, Linux 6.3;
//! older kernels have one range for all).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use smallvec::SmallVec;
use socket2::{SockAddr, SockRef};

/// linux/in.h.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// Into how many shares the ports that are set aside are divided.
const SHARES: u16 = 16;

/// With fewer ports than this nothing is set aside.
const FEWEST: u16 = 512;

#[derive(Clone, Copy)]
struct LocalPortRange;

nix::setsockopt_impl!(LocalPortRange, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, u32, SetStruct<'_, u32>);

#[derive(Clone, Copy)]
struct BindAddressNoPort;

nix::setsockopt_impl!(
    BindAddressNoPort,
    libc::IPPROTO_IP,
    libc::IP_BIND_ADDRESS_NO_PORT,
    i32,
    SetStruct<'_, i32>
);

/// The addresses and ports of the node's connections to endpoints.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The kernel's choice if empty.
    addresses: Vec<IpAddr>,
    /// The first and the last port of connections; `None` if they are not divided.
    ports: Option<(u16, u16)>,
}

/// One choice of address and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    address: Option<IpAddr>,
    ports: Option<(u16, u16)>,
}

impl Sources {
    /// Connections from `addresses`, or if there is none from the one that the kernel chooses. The ports are those of the
    /// calling thread's network namespace (`net.ipv4.ip_local_port_range`).
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut numbers = range.split_whitespace().map_while(|it| it.parse::<u16>().ok());
        let ports = numbers.next().zip(numbers.next());
        let is_enough = |(first, last): &(u16, u16)| last.saturating_sub(*first) >= FEWEST - 1;
        Self { addresses, ports: ports.filter(is_enough).filter(|_| divides()) }
    }

    /// The choices for a connection of `client`, the best first; each of the others is for when the one before it has no
    /// port left.
    pub(super) fn choices(&self, client: IpAddr, v6: bool) -> SmallVec<[Source; 4]> {
        // The pods of a node have addresses that follow each other.
        let number = match client.to_canonical() {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        let all = self.addresses.iter().filter(|it| it.is_ipv6() == v6);
        let own = usize::from(number) % all.clone().count().max(1);
        let rotated = all.clone().skip(own).chain(all.take(own)).copied().map(Some);
        let mut addresses: SmallVec<[_; 4]> = rotated.collect();
        if addresses.is_empty() {
            addresses.push(None);
        }
        let (common, share) = self.ports.map_or((None, None), |ports| {
            let (common, share) = divide(ports, u16::from(number) % SHARES);
            (Some(common), Some(share))
        });
        let own = addresses.first().copied().flatten();
        let mut choices: SmallVec<[Source; 4]> =
            addresses.into_iter().map(|address| Source { address, ports: common }).collect();
        if share.is_some() {
            choices.push(Source { address: own, ports: share });
        }
        choices
    }
}

/// The ports that are common to all clients, and a share of those that are not.
fn divide((first, last): (u16, u16), share: u16) -> ((u16, u16), (u16, u16)) {
    let size = (last - first + 1) / 4 / SHARES;
    let begin = last - size * SHARES + 1;
    ((first, begin - 1), (begin + share * size, begin + share * size + (size - 1)))
}

/// Whether the kernel can be told which ports a connection may have.
fn divides() -> bool {
    let Ok(socket) = TcpListener::bind("127.0.0.1:0") else { return false };
    setsockopt(&socket, LocalPortRange, &range((1, 2))).is_ok()
}

/// The upper half is the last one.
fn range((first, last): (u16, u16)) -> u32 {
    u32::from(last) << 16 | u32::from(first)
}

impl Source {
    /// Makes a socket that is to be connected use it.
    ///
    /// # Errors
    ///
    /// The kernel's error: EADDRNOTAVAIL where the address is no longer this node's.
    pub(super) fn give(self, socket: &impl AsFd) -> io::Result<()> {
        if let Some(ports) = self.ports {
            setsockopt(socket, LocalPortRange, &range(ports))?;
        }
        if let Some(address) = self.address {
            // The port is chosen at the connect, when the other end is known: it may be the same for several endpoints.
            setsockopt(socket, BindAddressNoPort, &1)?;
            SockRef::from(socket).bind(&SockAddr::from(SocketAddr::new(address, 0)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn three_quarters_of_the_ports_are_common_and_the_rest_is_divided_without_an_overlap() {
        for ports in [(32_768, 60_999), (40_000, 40_511), (1_024, 65_535), (1, 65_535)] {
            let mut next = divide(ports, 0).0.1 + 1;
            assert!(next - ports.0 >= (ports.1 - ports.0) / 4 * 3, "{ports:?}");
            for share in 0..SHARES {
                let (common, (first, last)) = divide(ports, share);
                assert_eq!((common.0, common.1 + 1), (ports.0, divide(ports, 0).1.0));
                assert_eq!(first, next, "{ports:?} {share}");
                assert!(first <= last);
                next = last.wrapping_add(1);
            }
            assert_eq!(next, ports.1.wrapping_add(1), "{ports:?}");
        }
    }

    #[test]
    fn pods_with_addresses_that_follow_each_other_have_shares_of_their_own() {
        let sources = Sources { addresses: Vec::new(), ports: Some((32_768, 60_999)) };
        let share = |number: u8| sources.choices(IpAddr::from([10, 1, 0, number]), false)[1].ports;
        let shares: std::collections::HashSet<_> = (1..=16).map(share).collect();
        assert_eq!(shares.len(), 16);
        assert_eq!(sources.choices(ip("::ffff:10.1.0.7"), false), sources.choices(ip("10.1.0.7"), false));
    }

    #[test]
    fn every_address_of_the_family_is_tried_and_each_client_begins_with_its_own() {
        let addresses = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(ip).to_vec();
        let sources = Sources { addresses, ports: None };
        let of = |client: &str, v6| {
            let choices = sources.choices(ip(client), v6);
            choices
                .iter()
                .map(|it| it.address.map(|it| it.to_string()).unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("10.1.0.2", false), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(of("10.1.0.3", false), ["10.0.0.2", "10.0.0.1"]);
        assert_eq!(of("10.1.0.3", true), ["fd00::1"]);
        let none = Sources::default().choices(ip("10.1.0.3"), true);
        assert_eq!(none.as_slice(), [Source { address: None, ports: None }]);
    }

    #[test]
    fn a_connection_has_the_address_and_a_port_of_the_range_in_both_families() {
        if !divides() {
            return;
        }
        for own in ["127.0.0.9", "::1"] {
            let Ok(listener) = TcpListener::bind((ip(own), 0)) else { continue };
            let to = listener.local_addr().unwrap();
            let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            Source { address: Some(ip(own)), ports: Some((50_000, 50_400)) }.give(&socket).unwrap();
            socket.connect(&to.into()).unwrap();
            let local = socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(local.ip(), ip(own));
            // A range outside the system's is not taken, and means the system's.
            assert!((50_000..=50_400).contains(&local.port()), "{local}");
        }
    }
}
