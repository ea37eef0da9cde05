//! Connections of other weirs to this node's pods: which are steered to weir, and whom the pods' programs see behind them.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipnet::IpNet;
use proxy_ebpf::pods::{ListenerUse, MOST_WIRE_SOURCES, Numbered, caller};

use super::super::error::InterceptError;
use super::super::{Interception, sys, wire};
use super::InPods;

/// The most bits of a prefix.
const BITS: u8 = 128;

/// The programs' maps of such connections.
#[derive(Debug)]
pub(super) struct Between {
    sources: OwnedFd,
    callers: Arc<OwnedFd>,
    /// What is in `sources`.
    told: BTreeSet<IpNet>,
}

/// A key of `WIRE_SOURCES`: a prefix of an address, mapped where it is IPv4.
#[repr(C)]
struct Prefix {
    bits: u32,
    words: [u32; 4],
}

/// Whom the pods' programs see behind connections that weir makes to them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Callers(Arc<OwnedFd>);

/// The program of a pod sees a caller behind weir's connection, as long as this lives.
#[derive(Debug)]
pub struct Caller {
    callers: Callers,
    key: [u64; 2],
}

impl Between {
    pub(super) fn new(sources: OwnedFd, callers: OwnedFd) -> Self {
        Self { sources, callers: Arc::new(callers), told: BTreeSet::new() }
    }

    /// Makes these the sources whose connections are steered.
    fn tell(&mut self, wanted: &[IpNet]) -> io::Result<()> {
        let wanted: BTreeSet<IpNet> = wanted.iter().map(IpNet::trunc).collect();
        for gone in self.told.difference(&wanted) {
            sys::remove(self.sources.as_fd(), &prefix(*gone))?;
        }
        self.told.retain(|it| wanted.contains(it));
        for come in wanted {
            if !self.told.contains(&come) {
                sys::set(self.sources.as_fd(), &prefix(come), &1_u64)?;
                self.told.insert(come);
            }
        }
        Ok(())
    }
}

fn prefix(net: IpNet) -> Prefix {
    let bits = match net {
        IpNet::V4(v4) => BITS - 32 + v4.prefix_len(),
        IpNet::V6(v6) => v6.prefix_len(),
    };
    Prefix { bits: bits.into(), words: wire::address(net.addr()).words }
}

impl Callers {
    /// The most sources of [`Interception::wire_sources`].
    pub const MOST_SOURCES: usize = MOST_WIRE_SOURCES;

    /// The program that accepts weir's connection from `port` of the pod's own address, which is of IPv4 or not, sees `who`
    /// as its peer. `netns` is the cookie of the pod's network namespace.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if there is such a connection; else the kernel's error: the table is full.
    pub fn tell(&self, netns: u64, port: u16, v4: bool, who: SocketAddr) -> io::Result<Caller> {
        let key = caller(netns, port, v4);
        let who = Numbered { address: wire::address(who.ip()), port: who.port().to_be(), unused: [0; 3] };
        sys::insert(self.0.as_fd(), &key, &who)?;
        Ok(Caller { callers: self.clone(), key })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // It is gone only with the whole table.
        let _ = sys::remove(self.callers.0.as_fd(), &self.key);
    }
}

impl InPods {
    /// Steers connections of other weirs in this network namespace to `listener`, a socket of it; `None` steers nothing more.
    fn take(&mut self, cookie: u64, listener: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let listener = listener.map(|it| it.try_clone_to_owned()).transpose()?;
        let Some(joined) = self.joined.get_mut(&cookie) else { return Ok(()) };
        joined.wire = listener;
        match joined.wire {
            Some(_) => self.arm_wire(cookie),
            None => self.clear(cookie, ListenerUse::Wire),
        }
    }

    pub(super) fn arm_wire(&self, cookie: u64) -> io::Result<()> {
        let wire = self.joined.get(&cookie).and_then(|it| it.wire.as_ref()).filter(|_| self.is_armed);
        let Some(wire) = wire else { return Ok(()) };
        sys::set_socket(self.listeners.as_fd(), &[cookie, ListenerUse::Wire as u64], wire.as_fd())
    }
}

impl Interception {
    /// Steers connections of other weirs to the pod of this network namespace to `listener`, which is a socket of it;
    /// `None` leaves them to the pod's programs. Does nothing where weir has no sockets in the namespace.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn take_wire(&mut self, cookie: u64, listener: Option<BorrowedFd<'_>>) -> Result<(), InterceptError> {
        let Some(in_pods) = &mut self.in_pods else { return Ok(()) };
        in_pods.take(cookie, listener).map_err(InterceptError::kernel("bpf (map LISTENERS)"))
    }

    /// Where connections of other weirs come from, in all pods. At most [`Callers::MOST_SOURCES`].
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn wire_sources(&mut self, sources: &[IpNet]) -> Result<(), InterceptError> {
        let Some(in_pods) = &mut self.in_pods else { return Ok(()) };
        in_pods.between.tell(sources).map_err(InterceptError::kernel("bpf (map WIRE_SOURCES)"))
    }

    /// The handle by which the pods' programs are told whom they see behind weir's connections; `None` with weir's sockets
    /// on the node.
    pub fn callers(&self) -> Option<Callers> {
        self.in_pods.as_ref().map(|it| Callers(it.between.callers.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_prefix_of_ipv4_lies_within_the_mapped_addresses() {
        let of = |text: &str| {
            let prefix = prefix(text.parse::<IpNet>().unwrap().trunc());
            let address = proxy_ebpf::Address { words: prefix.words };
            (prefix.bits, IpAddr::from(address.octets()).to_string())
        };
        assert_eq!(of("10.1.2.3/8"), (104, "::ffff:10.0.0.0".to_owned()));
        assert_eq!(of("0.0.0.0/0"), (96, "::ffff:0.0.0.0".to_owned()));
        assert_eq!(of("fd00::/8"), (8, "fd00::".to_owned()));
        assert_eq!(of("::/0"), (0, "::".to_owned()));
    }
}
