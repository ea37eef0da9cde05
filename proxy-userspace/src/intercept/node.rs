//! The node's own addresses.
#![allow(unsafe_code, reason = "a socket option that std lacks")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::error::InterceptError;

/// kube-proxy in IPVS mode and kube-router put every Service address on these interfaces. They must not count as the
/// node's own addresses: excluding them would mean that nothing is ever diverted.
const OF_SERVICES: [&str; 2] = ["kube-ipvs0", "kube-dummy-if"];

/// All addresses of this node, in the calling thread's network namespace, without loopback and link-local
/// ones, sorted.
///
/// # Errors
///
/// The kernel's list could not be read.
pub fn node_addresses() -> Result<Vec<IpAddr>, InterceptError> {
    let all =
        getifaddrs().map_err(|errno| InterceptError::Kernel { call: "getifaddrs", cause: errno.into() })?;
    let own = all.filter(|it| !OF_SERVICES.contains(&&*it.interface_name));
    let addresses: BTreeSet<IpAddr> =
        own.filter_map(|it| ip_of(&it.address?)).filter(|address| !is_local(*address)).collect();
    Ok(addresses.into_iter().collect())
}

/// The addresses at which pods can probably reach this node, when none are configured: per family the source address of
/// the default route, otherwise the first of [`node_addresses`].
///
/// # Errors
///
/// As [`node_addresses`].
pub fn default_addresses() -> Result<Vec<IpAddr>, InterceptError> {
    let all = node_addresses()?;
    let v4 = source(Ipv4Addr::UNSPECIFIED.into(), DOCUMENTATION_V4.into());
    let v6 = source(Ipv6Addr::UNSPECIFIED.into(), DOCUMENTATION_V6.into());
    let pick = |preferred: Option<IpAddr>, v4: bool| {
        preferred.filter(|a| all.contains(a)).or_else(|| all.iter().copied().find(|a| a.is_ipv4() == v4))
    };
    Ok([pick(v4, true), pick(v6, false)].into_iter().flatten().collect())
}

/// The addresses at which pods can reach a socket that listens on `listen`: from `configured`, otherwise from this
/// node's addresses.
///
/// # Errors
///
/// A configured address is not this node's, or pods cannot reach the socket at all: diverted connections would be lost.
/// Also as [`node_addresses`].
pub fn reachable_addresses(listen: IpAddr, configured: &[IpAddr]) -> Result<Vec<IpAddr>, InterceptError> {
    let own = node_addresses()?;
    let candidates = match (configured, listen.is_unspecified()) {
        ([], true) => default_addresses()?,
        ([], false) => own.clone(),
        (given, _) => given.iter().map(IpAddr::to_canonical).collect(),
    };
    covered(listen.to_canonical(), &candidates, &own)
}

/// Those of `candidates` that a socket on `listen` covers.
fn covered(listen: IpAddr, candidates: &[IpAddr], own: &[IpAddr]) -> Result<Vec<IpAddr>, InterceptError> {
    if let Some(foreign) = candidates.iter().find(|address| !own.contains(address)) {
        return Err(InterceptError::Options(format!(
            "{foreign} is no address of this node that pods could reach: set transparent.addresses"
        )));
    }
    let covers = |address: &IpAddr| match listen {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.is_ipv4(),
        one => one == *address,
    };
    let covered: Vec<IpAddr> = candidates.iter().copied().filter(covers).collect();
    if covered.is_empty() && !candidates.is_empty() {
        return Err(InterceptError::Options(format!(
            "pods cannot reach weir at {listen}: set transparent.listen to [::], 0.0.0.0 or an address of this node"
        )));
    }
    Ok(covered)
}

/// Documentation addresses (RFC 5737, RFC 3849): they belong to no host, so they take the default route.
const DOCUMENTATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The address from which the kernel would send to `target`. Connecting a UDP socket sends nothing.
fn source(any: IpAddr, target: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    if any.is_ipv6() {
        prefer_lasting(&socket);
    }
    socket.connect((target, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// Makes the kernel leave out temporary addresses (RFC 8981), which a node with privacy extensions would send from and
/// drops after some days (RFC 5014, `IPV6_PREFER_SRC_PUBLIC`). If that fails, the kernel's default choice stays.
fn prefer_lasting(socket: &UdpSocket) {
    /// Of linux/in6.h; not in libc.
    const IPV6_PREFER_SRC_PUBLIC: libc::c_int = 2;
    let wish = IPV6_PREFER_SRC_PUBLIC;
    let size = size_of_val(&wish) as libc::socklen_t;
    // SAFETY: an open socket, and a live variable with its size.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_ADDR_PREFERENCES,
            (&raw const wish).cast(),
            size,
        )
    };
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| it.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_addresses_are_never_those_that_mean_another_host_elsewhere() {
        let addresses = node_addresses().expect("getifaddrs works everywhere");
        assert!(addresses.iter().all(|address| !is_local(*address)), "{addresses:?}");
        let defaults = default_addresses().expect("getifaddrs works everywhere");
        assert!(defaults.iter().all(|address| addresses.contains(address)), "{defaults:?} of {addresses:?}");
        assert!(defaults.iter().filter(|a| a.is_ipv4()).count() <= 1);
        assert_eq!(defaults.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv4));
    }

    #[test]
    fn connections_are_diverted_only_to_where_the_listener_listens() {
        let of = |text: &str| text.parse::<IpAddr>().expect("an address");
        let own = [of("10.0.0.7"), of("192.168.0.7"), of("fd00::7")];
        let at = |listen: &str, candidates: &[IpAddr]| covered(of(listen), candidates, &own).ok();
        assert_eq!(at("::", &own), Some(own.to_vec()));
        assert_eq!(at("0.0.0.0", &own), Some(own[..2].to_vec()));
        assert_eq!(at("192.168.0.7", &own), Some(vec![own[1]]));
        assert_eq!(at("127.0.0.1", &own), None);
        assert_eq!(at("0.0.0.0", &own[2..]), None);
        assert_eq!(at("::", &[of("10.0.0.9")]), None, "another node's address");
    }
}
