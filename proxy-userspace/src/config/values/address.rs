//! Addresses: `10.0.0.7`, `10.0.0.0/8`, `[::]:4140`.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::text;
use crate::config::problem::{Mistake, quoted};
use crate::config::tree::Node;

/// A listen address: an IP address and a port. With port 0, the system picks one.
pub(in crate::config) fn listen(node: &Node) -> Result<SocketAddr, Mistake> {
    let text = text(node)?;
    text.parse().map_err(|_| {
        let mistake = Mistake::new(format!("{} is not an address with a port", quoted(text)));
        match text.strip_prefix(':').or(Some(text)).filter(|port| port.parse::<u16>().is_ok()) {
            Some(port) => mistake.hint(format!("every address of this host is \"[::]:{port}\"")),
            None if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) => {
                mistake.hint(format!("add the port, as in {text}:4140"))
            }
            None => mistake.hint("write it as 127.0.0.1:4140 or \"[::1]:4140\"; names are not looked up"),
        }
    })
}

/// An address that others can reach: not unspecified, loopback or multicast.
pub(in crate::config) fn ip(node: &Node) -> Result<IpAddr, Mistake> {
    let text = text(node)?;
    let address: IpAddr = text.parse().map_err(|_| {
        Mistake::new(format!("{} is not an IP address", quoted(text))).hint("write it as 10.0.0.7 or fd00::7")
    })?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(Mistake::new(format!("{address} cannot be reached from a pod"))
            .hint("give an address of this node's interfaces"));
    }
    Ok(address)
}

/// A range of addresses; a single address is a range of one. Ranges of IPv4-mapped addresses (`::ffff:10.0.0.0/104`)
/// become IPv4 ranges.
pub(in crate::config) fn cidr(node: &Node) -> Result<IpNet, Mistake> {
    let text = text(node)?;
    let range = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            Mistake::new(format!("{} is not a range of addresses", quoted(text)))
                .hint("write it as 10.0.0.0/8, fd00::/8 or one address")
        })?,
    };
    if range != range.trunc() {
        return Err(Mistake::new(format!("{} has bits beyond its prefix", quoted(text))).hint(format!(
            "the range is {}; the one address {}",
            range.trunc(),
            range.addr()
        )));
    }
    Ok(unmapped(range))
}

fn unmapped(range: IpNet) -> IpNet {
    let IpNet::V6(v6) = range else { return range };
    let v4 = v6.addr().to_ipv4_mapped();
    let prefix = v6.prefix_len().checked_sub(96);
    match v4.zip(prefix).map(|(address, prefix)| Ipv4Net::new(address, prefix)) {
        Some(Ok(v4)) => IpNet::V4(v4),
        _ => range,
    }
}
