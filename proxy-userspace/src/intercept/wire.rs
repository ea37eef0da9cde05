//! The map values in aya's form, and addresses in the programs' form.
#![allow(unsafe_code, reason = "aya wants a promise that a type may be read from and written as plain bytes")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proxy_ebpf::{Address, Original, Pod, Ports, Settings, Tuple};

/// A type of the shared layout, for aya's maps.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Wire<T>(pub(super) T);

// SAFETY: integers and arrays of them in `#[repr(C)]` without padding, which proxy-ebpf asserts; every
// pattern of bits is a value.
unsafe impl aya::Pod for Wire<Address> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Ports> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Pod> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Settings> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Tuple> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Original> {}

/// The address in IPv4-mapped form.
pub(super) fn address(address: IpAddr) -> Address {
    let v6 = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Address::from_octets(v6.octets())
}

/// The dialled address; IPv4 if it was mapped. `port` is in network byte order.
pub(super) fn socket_address(address: Address, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address.octets())).to_canonical(), u16::from_be(port))
}
