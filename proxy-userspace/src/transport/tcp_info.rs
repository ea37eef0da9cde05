//! The kernel's state of a TCP connection.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;

use crate::domain::silence::Signs;

/// The part of `struct tcp_info` (linux/tcp.h) that every kernel has filled since 2.6.
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpInfo {
    state: u8,
    congestion: u8,
    /// Consecutive timeouts of the retransmission timer.
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    scales: u8,
    flags: u8,
    rto: u32,
    ato: u32,
    send_mss: u32,
    receive_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    /// Times in milliseconds. The kernel never fills the time of the last acknowledgement sent.
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_received: u32,
    last_ack_received: u32,
    path_mtu: u32,
    receive_threshold: u32,
    rtt: u32,
    rtt_variance: u32,
    send_threshold: u32,
    window: u32,
    advertised_mss: u32,
    reordering: u32,
    receive_rtt: u32,
    receive_space: u32,
    total_retrans: u32,
    /// Of Linux 4.6 and later, here and below.
    rates: [u64; 2],
    bytes: [u64; 2],
    segments: [u32; 2],
    not_sent: u32,
    unused: u32,
}

#[derive(Clone, Copy)]
struct Info;

nix::getsockopt_impl!(Info, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfo, GetStruct<TcpInfo>);

/// The signs of life of a connection's peer; `None` when the socket cannot report them.
pub(super) fn signs(socket: &impl AsFd) -> Option<Signs> {
    let info = getsockopt(socket, Info).ok()?;
    Some(Signs {
        // A data segment that acknowledges nothing new counts as data only.
        heard: Duration::from_millis(info.last_ack_received.min(info.last_data_received).into()),
        unacknowledged: info.unacked > 0,
        probes: info.probes.into(),
        timeouts: info.retransmits.into(),
        sent_again: info.total_retrans,
    })
}

/// TCP_ESTABLISHED (net/tcp_states.h): neither side has sent a FIN.
const ESTABLISHED: u8 = 1;

/// Whether neither side has closed the connection, and all that was sent on it is acknowledged.
pub(super) fn is_open_and_idle(socket: &impl AsFd) -> bool {
    getsockopt(socket, Info)
        .is_ok_and(|info| info.state == ESTABLISHED && info.unacked == 0 && info.not_sent == 0)
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn the_fields_are_where_the_kernel_writes_them() {
        for (ours, kernels) in [
            (offset_of!(TcpInfo, state), offset_of!(libc::tcp_info, tcpi_state)),
            (offset_of!(TcpInfo, retransmits), offset_of!(libc::tcp_info, tcpi_retransmits)),
            (offset_of!(TcpInfo, probes), offset_of!(libc::tcp_info, tcpi_probes)),
            // struct tcp_info of Linux 4.6; libc's is older.
            (offset_of!(TcpInfo, not_sent), 144),
            (offset_of!(TcpInfo, unacked), offset_of!(libc::tcp_info, tcpi_unacked)),
            (offset_of!(TcpInfo, last_data_received), offset_of!(libc::tcp_info, tcpi_last_data_recv)),
            (offset_of!(TcpInfo, last_ack_received), offset_of!(libc::tcp_info, tcpi_last_ack_recv)),
            (offset_of!(TcpInfo, total_retrans), offset_of!(libc::tcp_info, tcpi_total_retrans)),
        ] {
            assert_eq!(ours, kernels);
        }
        assert_eq!(size_of::<TcpInfo>(), 152);
    }

    #[test]
    fn a_connection_that_was_just_made_has_heard_of_its_far_side() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let signs = signs(&stream).unwrap();
        assert!(signs.heard < Duration::from_secs(30) && signs.probes == 0, "{signs:?}");
        assert!(super::signs(&std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).is_none());
    }
}
