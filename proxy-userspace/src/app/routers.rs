//! The listeners of the explicit proxy, one for each router, which may have several addresses.
//!
//! A reload compares them by label: a router that keeps its label keeps its connections, also where it moves, and one that
//! is renamed at its address, too. A socket stays open as long as any router listens at its address: if
//! that is another router's now, the socket is handed to that. A router that is taken out of the configuration closes
//! its listener; requests on the connections that are left are answered 503 and the connections closed, since no other
//! router's rules are meant for them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::inherited::Inherited;
use super::listeners::moved;
use super::router_moves::{Move, Place, Plan};
use crate::config::{Outgoing, Settings};
use crate::proxy::listener::sockets::Socket;
use crate::proxy::listener::{Listener, ListenerId, ListenerKind};
use crate::transport::BindError;

/// The routers' listeners, in the order of the configuration.
pub(super) struct Routers(Vec<RouterListener>);

pub(super) struct RouterListener {
    pub(super) label: Box<str>,
    listener: Arc<Listener>,
    /// The addresses in force, as configured unless one could not be bound, each with its socket.
    pub(super) sockets: Vec<(SocketAddr, Arc<Socket>)>,
}

impl RouterListener {
    /// A router without a socket.
    fn new(router: &Outgoing) -> Self {
        let listener = Listener::new(ListenerKind::Outgoing);
        Self { label: router.label.clone(), listener, sockets: Vec::new() }
    }

    /// Listens at `to`, on sockets made by `make`.
    fn open(
        &mut self,
        to: &[SocketAddr],
        mut make: impl FnMut(SocketAddr) -> Result<TcpListener, BindError>,
    ) -> Result<(), BindError> {
        for at in to {
            self.sockets.push((*at, Socket::new(&self.listener, make(*at)?)));
        }
        self.listener.listens_at(self.bound());
        Ok(())
    }

    /// Listens on the sockets of `plan`, and on no other. Returns those it listened on before and does not any more.
    fn take_over(&mut self, plan: Plan) -> impl Iterator<Item = Arc<Socket>> + use<> {
        let mut before: Vec<_> = std::mem::take(&mut self.sockets).into_iter().map(Some).collect();
        for (at, place) in plan {
            let socket = match place {
                Place::Kept(number) => before[number].take().map(|(_, socket)| socket),
                Place::Handed { from, tcp, .. } => {
                    from.hand_over();
                    Some(Socket::new(&self.listener, tcp))
                }
                Place::New(tcp) => Some(Socket::new(&self.listener, tcp)),
            };
            self.sockets.extend(socket.map(|it| (at, it)));
        }
        self.listener.listens_at(self.bound());
        before.into_iter().flatten().map(|(_, socket)| socket)
    }

    /// Where it is configured to listen.
    pub(super) fn configured(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(at, _)| *at).collect()
    }

    /// Where it listens.
    fn bound(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(_, socket)| socket.address()).collect()
    }
}

impl Routers {
    /// Binds what `settings` asks for, and is not `inherited`.
    ///
    /// # Errors
    ///
    /// The first address that cannot be bound.
    pub(super) fn bind(settings: &Settings, inherited: &mut Inherited) -> Result<Self, BindError> {
        let open = |router: &Outgoing| {
            let mut it = RouterListener::new(router);
            it.open(&router.listen, |at| inherited.take_or_bind(at)).map(|()| it)
        };
        settings.all_routers().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Opens each listener to the clients in `settings`, for at most `limit` connections. The routers are those of
    /// `settings`.
    pub(super) fn follow(&self, settings: &Settings, limit: usize) {
        for (it, router) in self.0.iter().zip(settings.all_routers()) {
            it.listener.of_router(router.is_labelled().then_some(&*router.label));
            it.listener.open_to(&router.allow, limit, router.via);
        }
    }

    /// Closes each listener to clients that `settings` do not allow, and opens it to nobody. The routers are those of
    /// `settings`.
    pub(super) fn narrow(&self, settings: &Settings) {
        for (it, router) in self.0.iter().zip(settings.all_routers()) {
            it.listener.narrow_to(&router.allow);
        }
    }

    /// Makes the routers those of `written`. Returns the sockets to be retired, and what could not be bound: that
    /// router stays where it was.
    pub(super) fn change(&mut self, written: &Settings) -> (Vec<Arc<Socket>>, Vec<String>) {
        let before = std::mem::take(&mut self.0);
        let to: Vec<&Outgoing> = written.all_routers().collect();
        let Move { which, mut plans, failed } = Move::plan(&before, &to);
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        let mut gone = Vec::new();
        for (at, router) in to.into_iter().enumerate() {
            let known = which[at].and_then(|known| before[known].take());
            let mut it = known.unwrap_or_else(|| RouterListener::new(router));
            it.label = router.label.clone();
            if let Some(plan) = plans[at].take() {
                gone.extend(it.take_over(plan));
                moved(ListenerKind::Outgoing, router.is_labelled().then_some(&*it.label), &it.bound());
            }
            self.0.push(it);
        }
        for it in before.into_iter().flatten() {
            it.listener.close();
            it.listener.listens_at(Vec::new());
            tracing::info!(router = &*it.label, "the router was taken out of the configuration");
            gone.extend(it.sockets.into_iter().map(|(_, socket)| socket));
        }
        // These are still open, as another router's.
        gone.retain(|it| !it.is_handed_over());
        (gone, failed)
    }

    /// The addresses in force, none for a router that does not listen.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Vec<SocketAddr>> {
        self.0.iter().map(RouterListener::configured)
    }

    /// Where each router listens, with its label.
    pub(super) fn bound(&self) -> impl Iterator<Item = (&str, Vec<SocketAddr>)> {
        self.0.iter().map(|it| (&*it.label, it.bound()))
    }

    /// The listeners' numbers.
    pub(super) fn ids(&self) -> Vec<ListenerId> {
        self.0.iter().map(|it| it.listener.id).collect()
    }

    /// The listeners.
    pub(super) fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.0.iter().map(|it| &it.listener)
    }

    /// The open sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Arc<Socket>> {
        self.0.iter().flat_map(|it| it.sockets.iter().map(|(_, socket)| socket))
    }

    /// Gives up the sockets: weir drains.
    pub(super) fn take(&mut self) -> Vec<Arc<Socket>> {
        let all = self.0.iter_mut().flat_map(|it| std::mem::take(&mut it.sockets));
        all.map(|(_, socket)| socket).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(routers: &[(&str, Vec<SocketAddr>)]) -> Settings {
        let router = |(label, listen): &(&str, Vec<_>)| Outgoing {
            label: (*label).into(),
            listen: listen.clone(),
            ..Outgoing::default()
        };
        let mut all = routers.iter().map(router);
        let outgoing = all.next().unwrap();
        Settings { outgoing, routers: all.collect(), ..Settings::default() }
    }

    fn bound(routers: &[(&str, Vec<SocketAddr>)]) -> Routers {
        Routers::bind(&settings(routers), &mut Inherited::default()).unwrap()
    }

    /// A free address, bound just now.
    fn free() -> Vec<SocketAddr> {
        vec![TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()]
    }

    #[test]
    fn a_router_that_is_renamed_or_moved_keeps_its_listener_and_one_that_is_gone_closes_it() {
        let (one, two, three) = (free(), free(), free());
        let mut routers = bound(&[("a", one.clone()), ("b", two.clone())]);
        let [a, b] = routers.ids()[..] else { panic!() };
        // One is renamed, and comes first.
        let (gone, failed) = routers.change(&settings(&[("c", two.clone()), ("a", one.clone())]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (vec![b, a], 0, 0));
        // They change places: each has the rules of its name.
        let (gone, failed) = routers.change(&settings(&[("c", one.clone()), ("a", two.clone())]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (vec![b, a], 0, 0));
        assert_eq!(routers.bound().collect::<Vec<_>>(), [("c", one), ("a", two)]);
        // One moves, and the other is gone, and does not say that it listens.
        let closed = routers.listeners().nth(1).unwrap().clone();
        let (gone, failed) = routers.change(&settings(&[("c", three.clone())]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (vec![b], 2, 0));
        assert_eq!(routers.bound().collect::<Vec<_>>(), [("c", three)]);
        assert!(closed.addresses().is_empty() && !closed.is_used());
    }

    #[test]
    fn a_router_whose_address_is_taken_stays_where_it_was() {
        let (one, taken) = (free(), TcpListener::bind("127.0.0.1:0").unwrap());
        let mut routers = bound(&[("a", one.clone())]);
        let taken_at = vec![taken.local_addr().unwrap()];
        let both = [free(), taken_at.clone()].concat();
        let (gone, failed) = routers.change(&settings(&[("a", both), ("b", taken_at)]));
        assert!(gone.is_empty() && failed.len() == 2 && failed[1].starts_with("b: "), "{failed:?}");
        assert_eq!(routers.addresses().collect::<Vec<_>>(), [one, Vec::new()]);
    }

    #[test]
    fn a_router_that_keeps_one_of_its_addresses_keeps_its_socket_there() {
        let (one, two, three) = (free(), free(), free());
        let [both, others] = [[&one[..], &two].concat(), [&three[..], &two].concat()];
        let mut routers = bound(&[("a", both)]);
        let ids = routers.ids();
        let kept = routers.sockets().nth(1).unwrap().clone();
        let (gone, failed) = routers.change(&settings(&[("renamed", others.clone())]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (ids, 1, 0));
        assert_eq!(gone[0].address(), Some(one[0]));
        assert!(routers.sockets().any(|it| Arc::ptr_eq(it, &kept)));
        assert_eq!(routers.bound().collect::<Vec<_>>(), [("renamed", others)]);
        // Any free port twice is two sockets.
        let any: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap(); 2];
        let mut routers = bound(&[("a", any.clone())]);
        let (gone, _) = routers.change(&settings(&[("a", any)]));
        assert_eq!((gone.len(), routers.bound().next().unwrap().1.len()), (0, 2));
    }
    #[test]
    fn an_address_that_becomes_another_routers_is_never_closed_and_no_connection_gets_others_rules() {
        let (one, two, three) = (free(), free(), free());
        let both = [&one[..], &two].concat();
        let (a, b) = (|at: &[_]| ("a", at.to_vec()), |at: &[_]| ("b", at.to_vec()));
        let new = |at: &[_]| ("new", at.to_vec());
        // The routers before and after, and whose connections those of the latter are: none's of a new one.
        for (before, after, whose) in [
            // Merged.
            (vec![a(&one), b(&two)], vec![a(&both)], vec![Some(0)]),
            (vec![a(&one), b(&two)], vec![b(&both)], vec![Some(1)]),
            // Merged and renamed.
            (vec![a(&one), b(&two)], vec![new(&both)], vec![Some(0)]),
            // Split.
            (vec![a(&both)], vec![a(&one), b(&two)], vec![Some(0), None]),
            (vec![a(&both)], vec![new(&two), a(&one)], vec![None, Some(0)]),
            (vec![a(&both)], vec![b(&one), a(&two)], vec![None, Some(0)]),
            // One address moves.
            (
                vec![a(&both), b(&three)],
                vec![a(&one), b(&[&two[..], &three].concat())],
                vec![Some(0), Some(1)],
            ),
            (
                vec![b(&three), a(&both)],
                vec![b(&[&three[..], &two].concat()), a(&one)],
                vec![Some(0), Some(1)],
            ),
            // Split, and no part is the old one.
            (vec![a(&both)], vec![new(&one), b(&two)], vec![None, None]),
            // One moves to the address of one that is gone, whose connections are nobody's then.
            (vec![a(&one), b(&two)], vec![a(&two)], vec![Some(0)]),
            (vec![b(&two), a(&one)], vec![a(&two)], vec![Some(1)]),
            (vec![a(&one), b(&two)], vec![a(&two), new(&three)], vec![Some(0), None]),
            (vec![a(&one), b(&two), new(&three)], vec![a(&two), b(&three)], vec![Some(0), Some(1)]),
            (vec![a(&one), b(&[&two[..], &three].concat())], vec![a(&two)], vec![Some(0)]),
            // One moves, and a new one gets its address.
            (vec![a(&one)], vec![new(&one), a(&two)], vec![None, Some(0)]),
            (vec![a(&one), b(&two)], vec![new(&one), a(&two)], vec![None, Some(0)]),
            (vec![a(&one), b(&two)], vec![a(&two), new(&one)], vec![Some(0), None]),
            // Two change places, and one gets the place of one whose place another gets.
            (vec![a(&one), b(&two)], vec![b(&one), a(&two)], vec![Some(1), Some(0)]),
            (vec![a(&one), b(&two)], vec![b(&one), new(&two)], vec![Some(1), None]),
            // Both are renamed.
            (vec![a(&one), b(&two)], vec![("c", two.clone()), new(&one)], vec![Some(1), Some(0)]),
        ] {
            let mut routers = bound(&before);
            let (ids, clients) = (routers.ids(), before.iter().flat_map(|(_, at)| at.clone()));
            // Connections that nobody has accepted yet.
            let clients: Vec<_> = clients.map(|at| (at, std::net::TcpStream::connect(at).unwrap())).collect();
            let (gone, failed) = routers.change(&settings(&after));
            assert_eq!(failed, [""; 0], "{before:?} {after:?}");
            assert_eq!(routers.bound().collect::<Vec<_>>(), after);
            let found = routers.ids().into_iter().map(|id| ids.iter().position(|it| *it == id));
            assert_eq!(found.collect::<Vec<_>>(), whose, "{before:?} {after:?}");
            drop(gone);
            for (at, client) in clients {
                if let Some(socket) = routers.sockets().find(|it| it.address() == Some(at)) {
                    let (_, from) = socket.tcp.accept().expect("it waits in the same queue");
                    assert_eq!(from, client.local_addr().unwrap(), "{before:?} {after:?}");
                }
            }
        }
    }

    #[test]
    fn a_router_that_cannot_move_keeps_its_addresses_from_the_one_that_would_get_them() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let [one, two, three, four] = [(); 4].map(|()| free()[0]);
        let before = [("a", vec![one, two]), ("b", vec![three, four])];
        let a = || ("a", vec![two, taken.local_addr().unwrap()]);
        let b = || ("b", vec![four, one]);
        for after in [[a(), b()], [b(), a()]] {
            let mut routers = bound(&before);
            let (gone, failed) = routers.change(&settings(&after));
            assert!(gone.is_empty() && failed.len() == 2, "{failed:?}");
            let said = |label: &str| failed.iter().find(|it| it.starts_with(label)).unwrap();
            assert!(said("a: ").contains("another process"), "{failed:?}");
            assert!(said("b: ").contains("the router a keeps that address"), "{failed:?}");
            let mut bound: Vec<_> = routers.bound().collect();
            bound.sort();
            assert_eq!(bound, before);
        }
    }
}
