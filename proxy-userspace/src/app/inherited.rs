//! Listening sockets where one weir follows another: those that are handed over, and the ports of diverted connections, which
//! are not.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::stop::ACCEPTED_AT_LAST;
use crate::config::Transparent;
use crate::transport::{BindError, bind, bind_beside, bind_range};

/// How long a weir that has handed over may take to close its ports of diverted connections. It takes one second or two, and as
/// long as it may where the node leaves its workers without a turn.
pub(super) const FREED: Duration = ACCEPTED_AT_LAST.saturating_add(Duration::from_secs(2));

/// The sockets that the weir before this one has handed over. Those that are wanted are taken out.
#[derive(Default)]
pub(super) struct Inherited {
    sockets: Vec<TcpListener>,
    /// What becomes of them; none without a weir before this one.
    waits: Option<Waits>,
}

/// Sockets that this weir must not accept on before it serves.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// The weir before it accepts on these.
    pub(super) taken: Vec<SocketAddr>,
    /// These do not listen yet, since the weir before it has their port at another address.
    pub(super) silent: Vec<SocketAddr>,
    /// Handed over, and of no use.
    pub(super) unused: Vec<SocketAddr>,
}

impl Inherited {
    /// These sockets.
    pub(super) fn new(sockets: Vec<TcpListener>) -> Self {
        Self { sockets, waits: Some(Waits::default()) }
    }

    /// The socket at `address` that was handed over, or a new one.
    pub(super) fn take_or_bind(&mut self, address: SocketAddr) -> Result<TcpListener, BindError> {
        let Some(waits) = &mut self.waits else { return bind(address) };
        // On a node without IPv6, `[::]` is `0.0.0.0`.
        let is_it = |it: &TcpListener| {
            it.local_addr().is_ok_and(|at| at == address || is_v4_twin(at, address)) && address.port() != 0
        };
        if let Some(place) = self.sockets.iter().position(is_it) {
            let socket = self.sockets.swap_remove(place);
            waits.taken.extend(socket.local_addr());
            return Ok(socket);
        }
        let has_port = |it: &&TcpListener| it.local_addr().is_ok_and(|at| at.port() == address.port());
        let beside: Vec<_> = self.sockets.iter().filter(has_port).collect();
        if beside.is_empty() || address.port() == 0 {
            return bind(address);
        }
        // Its address was changed: `127.0.0.1` where it was `0.0.0.0`, for example.
        let socket = bind_beside(address, &beside)?;
        waits.silent.extend(socket.local_addr());
        Ok(socket)
    }

    /// What has to wait. The sockets that nobody has taken out are closed here; the weir before this one still has them.
    pub(super) fn finish(self) -> Option<Waits> {
        let unused = self.sockets.iter().filter_map(|it| it.local_addr().ok()).collect();
        self.waits.map(|waits| Waits { unused, ..waits })
    }
}

impl Waits {
    /// Whether this weir may accept at this address already.
    pub(super) fn permits(&self, at: SocketAddr) -> bool {
        !self.taken.contains(&at) && !self.silent.contains(&at)
    }
}

fn is_v4_twin(bound: SocketAddr, wanted: SocketAddr) -> bool {
    bound.is_ipv4()
        && wanted.is_ipv6()
        && bound.port() == wanted.port()
        && bound.ip().is_unspecified()
        && wanted.ip().is_unspecified()
}

/// Listens for diverted connections on the node. Where weirs follow one another, each uses one half of the ports, so that
/// two may divert at the same time: what one's programs have recorded, only that one can look up.
///
/// # Errors
///
/// Other processes have the ports.
pub(super) async fn bind_transparent(
    settings: &Transparent,
    halves: bool,
) -> Result<Vec<TcpListener>, BindError> {
    let (first, ports) = (settings.listen, settings.ports);
    if !halves {
        return bind_range(first, ports);
    }
    let half = (ports / 2).max(1);
    let second = match first.port() {
        0 => first,
        port => SocketAddr::new(first.ip(), port.saturating_add(half)),
    };
    let end = Instant::now() + FREED;
    loop {
        match bind_range(first, half).or_else(|why| bind_range(second, half).map_err(|_| why)) {
            // Probes are answered meanwhile.
            Err(_) if Instant::now() < end => sleep(Duration::from_millis(20)).await,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::transport::start_listening;

    fn listening() -> (TcpListener, SocketAddr) {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_socket_that_was_handed_over_is_used_where_its_address_is_wanted_and_only_there() {
        let (first, at) = listening();
        let (second, other) = listening();
        let mut inherited = Inherited::new(vec![first, second]);
        let taken = inherited.take_or_bind(at).unwrap();
        assert_eq!(taken.local_addr().unwrap(), at);
        // No port is no address.
        let free = inherited.take_or_bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert!(![at, other].contains(&free.local_addr().unwrap()));
        let waits = inherited.finish().unwrap();
        assert_eq!(
            (&waits.taken[..], &waits.silent[..], &waits.unused[..]),
            (&[at][..], &[][..], &[other][..])
        );
        assert!(!waits.permits(at) && waits.permits(free.local_addr().unwrap()));
        // What is not wanted is closed.
        assert!(bind(other).is_ok());
    }

    #[test]
    fn an_address_that_was_made_narrower_or_wider_is_bound_beside_the_old_one_and_takes_its_place() {
        // Every address of a port of this test's own, and one of them.
        let port = bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap().local_addr().unwrap().port();
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        for (old, new) in [
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("::", "127.0.0.1"),
            ("::", "::1"),
            ("127.0.0.1", "::"),
            ("0.0.0.0", "::"),
        ] {
            let Ok(old_one) = bind(at(old)) else { continue }; // no IPv6 here
            if old_one.local_addr().unwrap() != at(old) {
                continue;
            }
            let mut inherited = Inherited::new(vec![old_one.try_clone().unwrap()]);
            let socket = inherited.take_or_bind(at(new)).unwrap_or_else(|why| panic!("{old} {new}: {why}"));
            let waits = inherited.finish().unwrap();
            if old == "0.0.0.0" && new == "::" {
                // As on a node that had no IPv6 when the old one started.
                assert_eq!(waits.taken, [at(old)]);
                continue;
            }
            assert_eq!(
                (&waits.silent[..], &waits.unused[..]),
                (&[at(new)][..], &[at(old)][..]),
                "{old} {new}"
            );
            let to = if new == "::1" { at("::1") } else { at("127.0.0.1") };
            // The old one serves until the new one listens.
            let first = TcpStream::connect(to).unwrap();
            let port = old_one.accept().unwrap().1.port();
            assert_eq!(port, first.local_addr().unwrap().port(), "{old} {new}");
            start_listening(&socket).unwrap();
            drop(old_one);
            let second = TcpStream::connect(to).unwrap();
            let (_, from) = socket.accept().unwrap();
            assert_eq!(from.port(), second.local_addr().unwrap().port(), "{old} {new}");
        }
    }

    #[tokio::test]
    async fn two_weirs_have_the_halves_of_the_ports_and_a_third_waits() {
        // An address of this test's own.
        let own = Ipv4Addr::from([127, 99, fastrand::u8(..), fastrand::u8(1..255)]);
        let settings = Transparent { listen: (own, 4142).into(), ports: 4, ..Transparent::default() };
        let ports =
            |all: &[TcpListener]| all.iter().map(|it| it.local_addr().unwrap().port()).collect::<Vec<_>>();
        let port = settings.listen.port();
        let one = bind_transparent(&settings, true).await.unwrap();
        let two = bind_transparent(&settings, true).await.unwrap();
        assert_eq!((ports(&one), ports(&two)), (vec![port, port + 1], vec![port + 2, port + 3]));
        // By what else its thread does.
        let freed = async {
            sleep(Duration::from_millis(50)).await;
            drop(one);
        };
        let (three, ()) = tokio::join!(bind_transparent(&settings, true), freed);
        assert_eq!(ports(&three.unwrap()), [port, port + 1]);
    }
}
