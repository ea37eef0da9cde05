//! Why there is no connection to an endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use crate::domain::outcome::Outcome;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::upstream::Plain;
use crate::proxy::upstream::pool::NoStream;

/// Why there is no connection.
#[derive(Debug)]
pub struct NotConnected {
    /// What the client gets, if no other endpoint accepts the connection.
    pub fault: Fault,
    /// The outcome for the endpoint.
    pub outcome: Outcome,
}

impl NotConnected {
    /// No stream to `endpoint` could be had within `limit`. Nothing is known of the endpoint by that.
    pub(super) fn no_stream(endpoint: SocketAddr, why: NoStream, limit: Duration) -> Self {
        let fault = match why {
            NoStream::NotOpened => {
                Fault::new(Kind::Connect, format!("{endpoint}: no connection could be opened"))
            }
            NoStream::NoneFree => {
                let why = format!("{endpoint}: every stream of its connections was in use for {limit:?}");
                Fault::new(Kind::Overload, why)
            }
        };
        Self { fault, outcome: Outcome::Abandoned }
    }

    /// The connection would have been plain, and may not.
    pub(super) fn plain(endpoint: SocketAddr, why: Plain) -> Self {
        let why = match why {
            Plain::UnknownPeer => "identity.wire.peers does not name this address",
            _ => "the client's pod has no certificate",
        };
        let fault = Fault::new(
            Kind::Connect,
            format!("{endpoint}: not encrypted, which identity.wire.mode does not allow: {why}"),
        );
        // Another pod may have a certificate, and so reach it.
        Self { fault, outcome: Outcome::NeverReached }
    }
}

/// What this node, or the client's pod, lacks for a connection.
pub(super) fn local(cause: &std::io::Error, in_pod: bool) -> String {
    let whose = if in_pod { "the client's pod" } else { "this node" };
    let hint = match cause.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => format!(
            ": every source port of {whose} is in use for connections to that endpoint \
             (net.ipv4.ip_local_port_range there; those closed within the last minute count)"
        ),
        Some(libc::EMFILE | libc::ENFILE) => return format!("this node: {cause}: no descriptor is left"),
        _ => String::new(),
    };
    format!("{whose}: {cause}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_whose_ports_are_used_up() {
        let of = |errno, in_pod| local(&std::io::Error::from_raw_os_error(errno), in_pod);
        for (errno, in_pod, said) in [
            (libc::EADDRNOTAVAIL, false, "every source port of this node is"),
            (libc::EADDRNOTAVAIL, true, "every source port of the client's pod is"),
            // Descriptors are the process's.
            (libc::EMFILE, true, "this node: "),
            (libc::ENFILE, false, "no descriptor is left"),
            (libc::EPERM, true, "the client's pod: "),
            (libc::ENOBUFS, false, "this node: "),
        ] {
            assert!(of(errno, in_pod).contains(said), "{}", of(errno, in_pod));
        }
    }
}
