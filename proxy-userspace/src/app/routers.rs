//! The listeners of the explicit proxy, one for each router, which may have several addresses.
//!
//! A reload compares them by addresses and by label, so that a router that is renamed keeps its socket, and one that moves
//! its connections. A router that is taken out of the configuration closes its listener; requests on the connections
//! that are left are answered 503 and the connections closed, since no other router's rules are meant for them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::inherited::Inherited;
use super::listeners::moved;
use crate::config::{Outgoing, Settings};
use crate::proxy::listener::sockets::Socket;
use crate::proxy::listener::{Listener, ListenerId, ListenerKind};
use crate::transport::{BindError, bind};

/// The routers' listeners, in the order of the configuration.
pub(super) struct Routers(Vec<RouterListener>);

struct RouterListener {
    label: Box<str>,
    listener: Arc<Listener>,
    /// The addresses in force, as configured unless one could not be bound, each with its socket.
    sockets: Vec<(SocketAddr, Arc<Socket>)>,
}

impl RouterListener {
    /// A router without a socket.
    fn new(router: &Outgoing) -> Self {
        let listener = Listener::new(ListenerKind::Outgoing);
        Self { label: router.label.clone(), listener, sockets: Vec::new() }
    }

    /// Listens at `to`, and nowhere else, on sockets made by `make`. Returns the sockets that are not needed any more, to be
    /// retired. If one address cannot be bound, all stays as it was.
    fn open(
        &mut self,
        to: &[SocketAddr],
        mut make: impl FnMut(SocketAddr) -> Result<TcpListener, BindError>,
    ) -> Result<Vec<Arc<Socket>>, BindError> {
        let mut before = self.sockets.clone();
        let mut sockets = Vec::with_capacity(to.len());
        for at in to {
            match before.iter().position(|(kept, _)| kept == at) {
                Some(known) => sockets.push(before.remove(known)),
                None => sockets.push((*at, Socket::new(&self.listener, make(*at)?))),
            }
        }
        self.sockets = sockets;
        self.listener.listens_at(self.bound());
        Ok(before.into_iter().map(|(_, socket)| socket).collect())
    }

    /// Where it is configured to listen.
    fn configured(&self) -> Vec<SocketAddr> {
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
            it.open(&router.listen, |at| inherited.take_or_bind(at)).map(|_| it)
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
        let mut before = std::mem::take(&mut self.0);
        let (mut gone, mut failed) = (Vec::new(), Vec::new());
        for router in written.all_routers() {
            let known = same(&before, router).map(|at| before.remove(at));
            let mut it = known.unwrap_or_else(|| RouterListener::new(router));
            it.label = router.label.clone();
            if it.configured() != router.listen {
                match it.open(&router.listen, bind) {
                    Ok(old) => {
                        gone.extend(old);
                        moved(
                            ListenerKind::Outgoing,
                            router.is_labelled().then_some(&*it.label),
                            &it.bound(),
                        );
                    }
                    Err(error) if router.is_labelled() => failed.push(format!("{}: {error}", it.label)),
                    Err(error) => failed.push(error.to_string()),
                }
            }
            self.0.push(it);
        }
        for it in before {
            it.listener.close();
            tracing::info!(router = &*it.label, "the router was taken out of the configuration");
            gone.extend(it.sockets.into_iter().map(|(_, socket)| socket));
        }
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

/// Which of `before` is `router`: the one with one of its addresses and its label, else with one of its addresses, which
/// could not be bound again, else with its label.
fn same(before: &[RouterListener], router: &Outgoing) -> Option<usize> {
    let shares =
        |it: &RouterListener| it.sockets.iter().any(|(at, _)| at.port() != 0 && router.listen.contains(at));
    let is_called = |it: &RouterListener| it.label == router.label;
    before
        .iter()
        .position(|it| (shares(it) || it.configured() == router.listen) && is_called(it))
        .or_else(|| before.iter().position(shares))
        .or_else(|| before.iter().position(is_called))
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
        // Renamed to one another: each stays where its clients are.
        let (gone, failed) = routers.change(&settings(&[("a", two), ("b", one)]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (vec![b, a], 0, 0));
        // One moves, and the other is gone.
        let (gone, failed) = routers.change(&settings(&[("b", three.clone())]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (vec![a], 2, 0));
        assert_eq!(routers.bound().collect::<Vec<_>>(), [("b", three)]);
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
}
