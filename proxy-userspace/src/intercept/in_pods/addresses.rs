//! The addresses of the calling thread's network namespace, read with a bound: a pod with CAP_NET_ADMIN may have millions.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// The index of the loopback interface in every network namespace (`LOOPBACK_IFINDEX` of the kernel).
const LOOPBACK: u32 = 1;

/// Bytes read at a time. The kernel makes its messages no larger.
const BUFFER: usize = 16 * 1024;

/// How often it is read for each family: some 10,000 addresses. A pod that has no usable one among those is told none.
const READS: usize = 64;

/// The first address of each family that is not loopback or link-local: what applications are told is theirs.
///
/// # Errors
///
/// The kernel's list could not be read.
pub fn own_addresses() -> io::Result<[Option<IpAddr>; 2]> {
    Ok([first(AddressFamily::Inet)?, first(AddressFamily::Inet6)?])
}

/// The first `most` addresses of each family that are not loopback or link-local.
///
/// # Errors
///
/// The kernel's list could not be read.
pub fn addresses(most: usize) -> io::Result<Vec<IpAddr>> {
    let mut all = list(AddressFamily::Inet, most)?;
    all.extend(list(AddressFamily::Inet6, most)?);
    Ok(all)
}

fn first(family: AddressFamily) -> io::Result<Option<IpAddr>> {
    Ok(list(family, 1)?.pop())
}

/// The first usable addresses of the family (`RTM_GETADDR` of rtnetlink(7)).
fn list(family: AddressFamily, most: usize) -> io::Result<Vec<IpAddr>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let family = family as u8;
    let mut message = [0; 24];
    message[..4].copy_from_slice(&24_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
    message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message[16] = family;
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    // The kernel makes each part of its answer before recv returns. The rest is dropped with the socket.
    find(family, most, |buffer| Ok(recv(netlink.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?))
}

fn find(
    family: u8,
    most: usize,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<Vec<IpAddr>> {
    let (mut buffer, mut found) = ([0; BUFFER], Vec::new());
    for _ in 0..READS {
        let length = read(&mut buffer)?;
        let mut rest = &buffer[..length.min(BUFFER)];
        while let Some((kind, body, after)) = next(rest) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                RTM_NEWADDR => {
                    found.extend(usable(family, body));
                    if found.len() >= most {
                        return Ok(found);
                    }
                }
                _ => {}
            }
            rest = after;
        }
    }
    Ok(found)
}

/// The kind and the body of the first netlink message, and what follows it.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The address of a message's body, if it is of this family and may be told.
fn usable(family: u8, body: &[u8]) -> Option<IpAddr> {
    let index = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    if body[0] != family || index == LOOPBACK {
        return None;
    }
    let (mut rest, mut found) = (body.get(8..)?, None);
    while let Some(head) = rest.first_chunk::<4>() {
        let (length, kind) = (u16::from_ne_bytes([head[0], head[1]]), u16::from_ne_bytes([head[2], head[3]]));
        let Some(value) = rest.get(4..length.into()) else { break };
        // At the end of a tunnel, the first is the other end's.
        if kind == IFA_LOCAL || kind == IFA_ADDRESS && found.is_none() {
            found = address(value).or(found);
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    found.filter(|address| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(*value.first_chunk()?).into()),
        16 => Some(Ipv6Addr::from(*value.first_chunk()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: u8 = libc::AF_INET as u8;
    const V6: u8 = libc::AF_INET6 as u8;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn told(family: u8, index: u32, attributes: &[(u16, &str)]) -> Vec<u8> {
        let mut body = vec![family, 24, 0, 0];
        body.extend(index.to_ne_bytes());
        for (kind, address) in attributes {
            let octets = match address.parse().unwrap() {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            body.extend((4 + octets.len() as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(octets);
        }
        message(RTM_NEWADDR, &body)
    }

    /// What is found in these messages, each read alone.
    fn found(family: u8, messages: &[Vec<u8>]) -> Option<String> {
        let mut messages = messages.iter();
        let read = |buffer: &mut [u8]| {
            let message = messages.next().ok_or(io::ErrorKind::WouldBlock)?;
            buffer[..message.len()].copy_from_slice(message);
            Ok(message.len())
        };
        find(family, 1, read).unwrap().first().map(IpAddr::to_string)
    }

    #[test]
    fn the_first_address_that_others_can_reach_is_the_pods_own() {
        let done = message(NLMSG_DONE, &[0; 4]);
        for (family, messages, expected) in [
            (V4, vec![], None),
            (V4, vec![told(V4, 2, &[(IFA_ADDRESS, "10.0.0.2")])], Some("10.0.0.2")),
            (
                V4,
                vec![told(V4, 1, &[(IFA_LOCAL, "10.0.0.9")]), told(V4, 7, &[(IFA_LOCAL, "10.0.0.2")])],
                Some("10.0.0.2"),
            ),
            (
                V4,
                vec![told(V4, 2, &[(IFA_LOCAL, "169.254.1.1")]), told(V4, 2, &[(IFA_LOCAL, "10.0.0.2")])],
                Some("10.0.0.2"),
            ),
            (V4, vec![told(V4, 2, &[(IFA_ADDRESS, "10.0.0.1"), (IFA_LOCAL, "10.0.0.2")])], Some("10.0.0.2")),
            (V4, vec![told(V4, 2, &[(IFA_LOCAL, "10.0.0.2"), (IFA_ADDRESS, "10.0.0.1")])], Some("10.0.0.2")),
            (
                V6,
                vec![told(V6, 2, &[(IFA_ADDRESS, "fe80::1")]), told(V6, 2, &[(IFA_ADDRESS, "fd00::2")])],
                Some("fd00::2"),
            ),
            // A kernel without IPv6 lists the other family.
            (V6, vec![told(V4, 2, &[(IFA_LOCAL, "10.0.0.2")])], None),
            (
                V4,
                vec![
                    [told(V4, 1, &[(IFA_LOCAL, "127.0.0.1")]), told(V4, 2, &[(IFA_LOCAL, "10.0.0.2")])]
                        .concat(),
                ],
                Some("10.0.0.2"),
            ),
        ] {
            let shown = format!("{messages:?}");
            let all: Vec<_> = messages.into_iter().chain([done.clone()]).collect();
            assert_eq!(found(family, &all).as_deref(), expected, "{shown}");
        }
    }

    #[test]
    fn a_list_without_end_is_not_read_to_its_end() {
        let mut reads = 0;
        let loopback = told(V4, LOOPBACK, &[(IFA_LOCAL, "10.0.0.9")]);
        let endless = find(V4, 1, |buffer| {
            reads += 1;
            buffer[..loopback.len()].copy_from_slice(&loopback);
            Ok(loopback.len())
        });
        assert!(endless.is_ok_and(|it| it.is_empty()) && reads == READS);
    }

    #[test]
    fn a_broken_message_says_nothing() {
        let whole = told(V4, 2, &[(IFA_LOCAL, "10.0.0.2")]);
        for length in 0..whole.len() {
            assert_eq!(usable(V4, &whole[16.min(length)..length]), None, "{length}");
            assert!(next(&whole[..length]).is_none(), "{length}");
        }
        assert!(next(&[0; 64]).is_none(), "a length of zero would be read for ever");
        let refused = message(NLMSG_ERROR, &(-libc::EPERM).to_ne_bytes());
        let read = |buffer: &mut [u8]| {
            buffer[..refused.len()].copy_from_slice(&refused);
            Ok(refused.len())
        };
        assert_eq!(find(V4, 1, read).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
