//! The facts of one client connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio_util::task::AbortOnDropHandle;

use crate::allocator::Charge;
use crate::config::Limits;
use crate::proxy::clock::Clocks;
use crate::proxy::fault::Fault;
use crate::proxy::holders::Holder;
use crate::proxy::listener::{CloseReason, ConnectionPermit, Listener};
use crate::proxy::memory::Memory;
use crate::proxy::routing::ClientPod;
use crate::proxy::routing::resolve::Client;
use crate::proxy::tcp;
use crate::proxy::upstream::Source;
use crate::proxy::upstream::cluster::{Cluster, Lease};
use crate::transport::{Activity, Carrier, PodNetns};

/// What a client's connection and one to an endpoint need besides their buffers: tasks, timers, and the kernel's sockets.
const CHARGE: usize = 24 * 1024;

/// The destination of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// weir: each request names its destination.
    Explicit,
    /// This address; the client does not know of weir.
    Diverted(SocketAddr),
}

/// The facts of one client connection, fixed once it is accepted.
#[derive(Debug)]
pub struct Session {
    /// Its listener.
    pub listener: Arc<Listener>,
    /// Its permit, held as long as anything serves the connection, including a tunnel.
    permit: ConnectionPermit,
    /// The client.
    pub client: SocketAddr,
    /// The client's address for everything that is permitted by address: a pod's is what the cluster says, where the pod itself
    /// may have chosen that of `client`. It is unspecified where nobody says it, so that only rules for everybody permit it.
    pub permitted_as: IpAddr,
    /// Where the client connected to.
    pub origin: Origin,
    /// How many weirs, and routers between them, an explicit client's connection has passed (domain/hops).
    pub passed: u8,
    /// What the connection is doing.
    pub activity: Activity,
    /// The clocks of its exchanges.
    pub clocks: Clocks,
    /// The cluster of the dialled address, once it was needed: only for an address that no service owns.
    pub external: RefCell<Option<Arc<Cluster>>>,
    /// The client's pod.
    pub pod: ClientPod,
    /// What the connection needs besides buffers; only held.
    _charge: Charge,
    /// The network namespace of the client's pod, if weir has sockets there; then connections to endpoints are made there too.
    pub netns: Option<Arc<PodNetns>>,
    /// What all its requests are answered, if it is not served. Its listener is then one of no router.
    pub refused: Option<Box<Fault>>,
    /// Only held: ends the connection with its pod, where nothing else does.
    _ends_with_pod: Option<AbortOnDropHandle<()>>,
}

/// From where the requests of a connection go on.
#[derive(Debug, Default)]
pub struct Onward {
    /// As [`Session::netns`].
    pub netns: Option<Arc<PodNetns>>,
    /// As [`Session::permitted_as`] and [`Session::pod`], unless the address of the client tells both.
    pub known_as: Option<(IpAddr, ClientPod)>,
    /// As [`Session::refused`].
    pub refused: Option<Box<Fault>>,
    /// What ends the connection with its pod.
    pub ends_with_pod: Option<AbortOnDropHandle<()>>,
}

impl Session {
    /// The facts of a connection that was accepted now and has passed `passed` weirs.
    pub fn new(
        listener: Arc<Listener>,
        permit: ConnectionPermit,
        client: SocketAddr,
        origin: Origin,
        passed: u8,
        onward: Onward,
    ) -> Rc<Self> {
        let activity = permit.activity().clone();
        let known_as = onward.known_as.unwrap_or_else(|| (client.ip(), ClientPod::at(client.ip())));
        Rc::new(Self {
            listener,
            permit,
            client,
            permitted_as: known_as.0,
            origin,
            passed,
            activity,
            clocks: Clocks::default(),
            external: RefCell::default(),
            pod: known_as.1,
            netns: onward.netns,
            refused: onward.refused,
            _ends_with_pod: onward.ends_with_pod,
            _charge: Charge::new(CHARGE),
        })
    }

    /// Whose connection it is now: its pod may have become known after it was accepted.
    pub fn holder(&self) -> &Arc<Holder> {
        self.permit.holder()
    }

    /// Copies between this client and an endpoint until both ends are closed, and finishes the lease.
    pub async fn forward(
        &self,
        stats: &tcp::Stats,
        limits: &Limits,
        lease: Lease,
        client: impl Carrier,
        server: impl Carrier,
    ) {
        tcp::forward(stats, limits, &self.listener, self.holder().id, lease, client, server).await;
    }

    /// Whether it ends with its current answers, since another connection waits for its place.
    pub fn is_short_of_room(&self) -> bool {
        self.permit.is_short_of_room()
    }

    /// What `served` returns; `None`, and it is dropped, if the connection is to end for lack of memory first.
    pub async fn unless_shed<T>(&self, served: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.activity.shedding() => {
                self.listener.count_closed(CloseReason::Memory);
                None
            }
            served = served => Some(served),
        }
    }

    /// What `carried` returns, which carries its bytes both ways; `None`, and it is dropped, if the connection is to end for
    /// lack of memory first, or when it goes on then.
    pub async fn carrying<T>(&self, memory: &Memory, carried: impl Future<Output = T>) -> Option<T> {
        let mut carried = pin!(carried);
        self.unless_shed(poll_fn(|cx| {
            match memory.cuts(|| self.holder().id, &self.activity) {
                // It ends by the same way as if it had been told to.
                Some(held) if !self.activity.is_shed() => {
                    memory.cut(held, &self.activity);
                    Poll::Pending
                }
                _ => carried.as_mut().poll(cx),
            }
        }))
        .await
    }

    /// Where its connections to endpoints are made.
    pub fn source(&self) -> Source {
        self.netns.as_ref().map_or(Source::Node, |it| Source::Pod(it.cookie()))
    }
}

impl Client for Session {
    fn holder(&self) -> Arc<Holder> {
        self.permit.holder().clone()
    }

    fn netns(&self) -> Option<&Arc<PodNetns>> {
        self.netns.as_ref()
    }

    fn is_lent(&self, own: &[IpAddr]) -> bool {
        let client = self.client.ip().to_canonical();
        let is_node = client.is_loopback() || own.iter().any(|own| own.to_canonical() == client);
        self.netns.is_none() && !is_node
    }
}
