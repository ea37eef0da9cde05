//! Listening sockets where one weir follows another: those that are handed over, and the ports of diverted connections, which
//! are not.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Transparent;
use crate::proxy::listener::sockets::Socket;
use crate::transport::{BindError, bind, bind_range};

/// How long a weir that has handed over may take to close its ports of diverted connections. It takes some two seconds.
const FREED: Duration = Duration::from_secs(5);

/// The sockets that the weir before this one has handed over. Those that are wanted are taken out.
#[derive(Default)]
pub(super) struct Inherited {
    sockets: Vec<TcpListener>,
    taken: Vec<SocketAddr>,
}

impl Inherited {
    /// These sockets.
    pub(super) fn new(sockets: Vec<TcpListener>) -> Self {
        Self { sockets, taken: Vec::new() }
    }

    /// The socket at `address` that was handed over, or a new one.
    pub(super) fn take_or_bind(&mut self, address: SocketAddr) -> Result<TcpListener, BindError> {
        // On a node without IPv6, `[::]` is `0.0.0.0`.
        let is_it = |it: &TcpListener| {
            it.local_addr().is_ok_and(|at| at == address || is_v4_twin(at, address)) && address.port() != 0
        };
        let Some(place) = self.sockets.iter().position(is_it) else { return bind(address) };
        let socket = self.sockets.swap_remove(place);
        self.taken.extend(socket.local_addr());
        Ok(socket)
    }

    /// Whether any was taken out.
    pub(super) fn has_any(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Whether this is one of those that were taken out.
    pub(super) fn has_taken(&self, socket: &Socket) -> bool {
        socket.address().is_some_and(|at| self.taken.contains(&at))
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
pub(super) fn bind_transparent(settings: &Transparent, halves: bool) -> Result<Vec<TcpListener>, BindError> {
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
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

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
        assert_eq!(inherited.taken, [at]);
        // What is not wanted is closed.
        drop(inherited);
        assert!(bind(other).is_ok());
    }

    #[test]
    fn two_weirs_have_the_halves_of_the_ports_and_a_third_waits() {
        // An address of this test's own.
        let own = Ipv4Addr::from([127, 99, fastrand::u8(..), fastrand::u8(1..255)]);
        let settings = Transparent { listen: (own, 4142).into(), ports: 4, ..Transparent::default() };
        let ports =
            |all: &[TcpListener]| all.iter().map(|it| it.local_addr().unwrap().port()).collect::<Vec<_>>();
        let port = settings.listen.port();
        let one = bind_transparent(&settings, true).unwrap();
        let two = bind_transparent(&settings, true).unwrap();
        assert_eq!((ports(&one), ports(&two)), (vec![port, port + 1], vec![port + 2, port + 3]));
        let freed = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(one);
        });
        let three = bind_transparent(&settings, true).unwrap();
        assert_eq!(ports(&three), [port, port + 1]);
        freed.join().unwrap();
    }
}
