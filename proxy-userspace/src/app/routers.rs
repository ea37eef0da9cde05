//! The listeners of the explicit proxy, one for each router.
//!
//! A reload compares them by address and by label, so that a router that is renamed keeps its socket, and one that moves
//! its connections. A router that is taken out of the configuration closes its listener; requests on the connections
//! that are left are answered 503 and the connections closed, since no other router's rules are meant for them.

use std::net::SocketAddr;
use std::sync::Arc;

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
    /// The address as it is in force: as configured, unless it could not be bound.
    at: Option<SocketAddr>,
    socket: Option<Arc<Socket>>,
}

impl RouterListener {
    /// A router without a socket.
    fn new(router: &Outgoing) -> Self {
        let listener = Listener::new(ListenerKind::Outgoing);
        Self { label: router.label.clone(), listener, at: None, socket: None }
    }

    /// Listens at `to`. Returns the socket before, which is to be retired.
    fn open(&mut self, to: Option<SocketAddr>) -> Result<Option<Arc<Socket>>, BindError> {
        let new = to.map(|at| bind(at).map(|it| Socket::new(&self.listener, it))).transpose()?;
        self.at = to;
        Ok(std::mem::replace(&mut self.socket, new))
    }

    fn address(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.address()
    }
}

impl Routers {
    /// Binds what `settings` asks for.
    ///
    /// # Errors
    ///
    /// The first address that cannot be bound.
    pub(super) fn bind(settings: &Settings) -> Result<Self, BindError> {
        let open = |router: &Outgoing| {
            let mut it = RouterListener::new(router);
            it.open(router.listen).map(|_| it)
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
            if it.at != router.listen {
                match it.open(router.listen) {
                    Ok(old) => {
                        gone.extend(old);
                        moved(
                            ListenerKind::Outgoing,
                            router.is_labelled().then_some(&*it.label),
                            it.address(),
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
            gone.extend(it.socket);
        }
        (gone, failed)
    }

    /// The addresses in force, `None` for a router that does not listen.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Option<SocketAddr>> {
        self.0.iter().map(|it| it.at)
    }

    /// Where each router listens, with its label.
    pub(super) fn bound(&self) -> impl Iterator<Item = (&str, Option<SocketAddr>)> {
        self.0.iter().map(|it| (&*it.label, it.address()))
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
        self.0.iter().filter_map(|it| it.socket.as_ref())
    }

    /// Gives up the sockets: weir drains.
    pub(super) fn take(&mut self) -> Vec<Arc<Socket>> {
        self.0.iter_mut().filter_map(|it| it.socket.take()).collect()
    }
}

/// Which of `before` is `router`: the one with its address and label, else with its address, which could not be bound
/// again, else with its label.
fn same(before: &[RouterListener], router: &Outgoing) -> Option<usize> {
    let is_at = |it: &RouterListener| it.at == router.listen;
    let has_port = router.listen.is_some_and(|listen| listen.port() != 0);
    let is_called = |it: &RouterListener| it.label == router.label;
    before
        .iter()
        .position(|it| is_at(it) && is_called(it))
        .or_else(|| before.iter().position(|it| has_port && is_at(it)))
        .or_else(|| before.iter().position(is_called))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(routers: &[(&str, Option<SocketAddr>)]) -> Settings {
        let router =
            |&(label, listen): &(&str, _)| Outgoing { label: label.into(), listen, ..Outgoing::default() };
        let mut all = routers.iter().map(router);
        let outgoing = all.next().unwrap();
        Settings { outgoing, routers: all.collect(), ..Settings::default() }
    }

    /// A free address, bound just now.
    fn free() -> Option<SocketAddr> {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().ok()
    }

    #[test]
    fn a_router_that_is_renamed_or_moved_keeps_its_listener_and_one_that_is_gone_closes_it() {
        let (one, two, three) = (free(), free(), free());
        let mut routers = Routers::bind(&settings(&[("a", one), ("b", two)])).unwrap();
        let [a, b] = routers.ids()[..] else { panic!() };
        // Renamed to one another: each stays where its clients are.
        let (gone, failed) = routers.change(&settings(&[("a", two), ("b", one)]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (vec![b, a], 0, 0));
        // One moves, and the other is gone.
        let (gone, failed) = routers.change(&settings(&[("b", three)]));
        assert_eq!((routers.ids(), gone.len(), failed.len()), (vec![a], 2, 0));
        assert_eq!(routers.bound().collect::<Vec<_>>(), [("b", three)]);
    }

    #[test]
    fn a_router_whose_address_is_taken_stays_where_it_was() {
        let (one, taken) = (free(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let mut routers = Routers::bind(&settings(&[("a", one)])).unwrap();
        let taken_at = taken.local_addr().ok();
        let (gone, failed) = routers.change(&settings(&[("a", taken_at), ("b", taken_at)]));
        assert!(gone.is_empty() && failed.len() == 2 && failed[1].starts_with("b: "), "{failed:?}");
        assert_eq!(routers.addresses().collect::<Vec<_>>(), [one, None]);
    }
}
