//! The kernel's route for an address: whether there is one, and whether the address is this host itself.
//!
//! Interface addresses are not the only local ones: a route of type `local` makes a whole range local (AnyIP), and
//! kube-proxy's IPVS mode puts every Service address on its own interface. So the kernel is asked, by RTM_GETROUTE
//! (rtnetlink(7)), which takes no lock there, needs no capability, and takes some microseconds.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use parking_lot::Mutex;

/// Length in bytes of a message header, and of the route header after it (linux/netlink.h, linux/rtnetlink.h).
const HEADER: usize = 16;
const ROUTE: usize = 12;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const RTN_LOCAL: u8 = 2;

/// Replies read for one question at most: the first may belong to abandoned questions.
const STALE: usize = 8;

/// Where packets for an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This host itself.
    Local,
    /// A neighbour.
    Out,
    /// No route: connecting fails at once.
    None,
    /// The kernel could not be asked.
    Unknown,
}

/// Asks the kernel. Each thread that asks has its own: concurrent callers wait for each other.
#[derive(Debug, Default)]
pub struct KernelRoutes {
    asking: Mutex<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    socket: Option<OwnedFd>,
    sequence: u32,
    /// The failure was logged.
    failed: bool,
}

impl KernelRoutes {
    /// Whether the kernel treats `address` as this host's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.way(address) == Way::Local
    }

    /// Where packets for `address` go now.
    pub fn way(&self, address: IpAddr) -> Way {
        let mut asking = self.asking.lock();
        match asking.ask(address.to_canonical()) {
            Ok(way) => way,
            Err(cause) => {
                // The next call opens a new socket.
                asking.socket = None;
                if !std::mem::replace(&mut asking.failed, true) {
                    tracing::warn!("the kernel does not say which addresses are local: {cause}");
                }
                Way::Unknown
            }
        }
    }
}

impl Asking {
    fn ask(&mut self, address: IpAddr) -> nix::Result<Way> {
        self.sequence = self.sequence.wrapping_add(1);
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(socket_of_routes()?),
        };
        let message = question(address, self.sequence);
        sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        // The kernel answers before sendto returns.
        let mut reply = [0; 1024];
        for _ in 0..STALE {
            let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT)?;
            if let Some(way) = read(&reply[..length.min(reply.len())], self.sequence) {
                return Ok(way);
            }
        }
        Err(Errno::EPROTO)
    }
}

fn socket_of_routes() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
}

/// The message that asks where packets for `address` go.
fn question(address: IpAddr, sequence: u32) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let mut body = vec![0; ROUTE];
    // The constants are small, and an address has 32 or 128 bits.
    body[0] = family as u8;
    body[1] = 8 * bytes.len() as u8;
    attribute(&mut body, RTA_DST, &bytes);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(RTM_GETROUTE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// The content of a reply; `None` if it answers another question.
fn read(reply: &[u8], sequence: u32) -> Option<Way> {
    let kind = u16::from_ne_bytes(*reply.get(4..)?.first_chunk()?);
    if u32::from_ne_bytes(*reply.get(8..)?.first_chunk()?) != sequence {
        return None;
    }
    match kind {
        RTM_NEWROUTE if *reply.get(HEADER + 7)? == RTN_LOCAL => Some(Way::Local),
        RTM_NEWROUTE => Some(Way::Out),
        NLMSG_ERROR => {
            let code = i32::from_ne_bytes(*reply.get(HEADER..)?.first_chunk()?);
            Some(match Errno::from_raw(code.saturating_neg()) {
                // No route; or one of type unreachable, prohibit or blackhole.
                Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL => Way::None,
                _ => Way::Unknown,
            })
        }
        _ => Some(Way::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(address: &str) -> Way {
        KernelRoutes::default().way(address.parse().unwrap())
    }

    #[test]
    fn the_kernel_says_that_loopback_is_local() {
        for address in ["127.0.0.1", "127.8.9.10", "::ffff:127.0.0.1"] {
            assert_eq!(way(address), Way::Local, "{address}");
        }
    }

    #[test]
    fn many_questions_get_their_own_answers() {
        let routes = KernelRoutes::default();
        for _ in 0..100 {
            assert_eq!(routes.way("127.0.0.1".parse().unwrap()), Way::Local);
            assert_ne!(routes.way("192.0.2.1".parse().unwrap()), Way::Local);
        }
    }

    #[test]
    fn no_reply_makes_it_panic_and_another_ones_is_passed_over() {
        let mut reply = vec![0; HEADER + ROUTE];
        reply[4..6].copy_from_slice(&RTM_NEWROUTE.to_ne_bytes());
        reply[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        reply[HEADER + 7] = RTN_LOCAL;
        assert_eq!(read(&reply, 7), Some(Way::Local));
        assert_eq!(read(&reply, 8), None);
        for length in 0..reply.len() {
            read(&reply[..length], 7);
        }
        reply[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        for (code, way) in [
            (-libc::ENETUNREACH, Way::None),
            (-libc::EHOSTUNREACH, Way::None),
            (-libc::EPERM, Way::Unknown),
            (i32::MIN, Way::Unknown),
            (0, Way::Unknown),
        ] {
            reply[HEADER..HEADER + 4].copy_from_slice(&code.to_ne_bytes());
            assert_eq!(read(&reply, 7), Some(way), "{code}");
        }
    }
}
