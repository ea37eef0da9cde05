//! Other network namespaces: a thread that enters them, and pods as the source of connections.
//!
//! setns(2) changes the network namespace of a thread. One thread is made for that: it runs short synchronous jobs, each in
//! the namespace asked for, and is back in its own before the next. If the way back fails, the process aborts: a thread
//! in the wrong namespace would make the next sockets there.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use nix::sched::{CloneFlags, setns};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::SockDiag;
use crate::domain::identity::ServiceAccount;

/// How many jobs may wait for the thread. One takes some microseconds; beyond that, connecting fails.
const QUEUE: usize = 4_096;

/// How many sockets may be in the making for one pod; further ones wait for these, and not in the thread's queue, which is
/// for all pods.
const MAKING: usize = 16;

/// How many questions about connections of one pod may be under way; further ones wait for these.
const ASKING: usize = 4;

type Job = Box<dyn FnOnce(&File) + Send>;

/// The thread that enters network namespaces. Ends with the last of its handles.
#[derive(Clone, Debug)]
pub struct NetnsThread {
    jobs: SyncSender<Job>,
    stats: Arc<NetnsStats>,
}

/// What the thread has done.
#[derive(Debug, Default)]
pub struct NetnsStats {
    /// Jobs that were run.
    pub jobs: AtomicU64,
    /// Jobs that were refused, because too many waited.
    pub refused: AtomicU64,
    /// How long the jobs took in all, in nanoseconds, without their wait.
    pub took_ns: AtomicU64,
}

impl NetnsThread {
    /// Starts the thread in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The thread cannot be started, or may not enter network namespaces (CAP_SYS_ADMIN).
    pub fn start() -> io::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE);
        let (tell, told) = mpsc::channel();
        let stats = Arc::new(NetnsStats::default());
        let counted = stats.clone();
        thread::Builder::new().name("weir-netns".to_owned()).spawn(move || {
            let allowed = setns(&home, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            let is_allowed = allowed.is_ok();
            let _ = tell.send(allowed);
            if !is_allowed {
                return;
            }
            while let Ok(job) = queue.recv() {
                let begun = Instant::now();
                job(&home);
                let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                counted.took_ns.fetch_add(took, Ordering::Relaxed);
                counted.jobs.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        told.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
        Ok(Self { jobs, stats })
    }

    /// Runs `body` in the network namespace that `netns` returns. `body` must be short, and leave nothing in its thread.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if too many jobs wait; else the error of `netns`, of setns(2) or of `body`.
    pub async fn run<T: Send + 'static>(
        &self,
        netns: impl FnOnce() -> io::Result<OwnedFd> + Send + 'static,
        body: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |home| {
            if tell.is_closed() {
                return; // Whoever asked for it has given up.
            }
            let done = netns().and_then(|netns| inside(home, netns.as_fd(), body));
            let _ = tell.send(done.and_then(|done| done));
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.stats.refused.fetch_add(1, Ordering::Relaxed);
                let why = "too many sockets are being made in pods' network namespaces";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
            }
            Err(TrySendError::Disconnected(_)) => return Err(ended()),
        }
        told.await.unwrap_or_else(|_| Err(ended()))
    }

    /// What it has done.
    pub fn stats(&self) -> &NetnsStats {
        &self.stats
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread for pods' network namespaces has ended")
}

/// Runs `body` in the namespace, and comes back.
fn inside<T>(home: &File, netns: BorrowedFd<'_>, body: impl FnOnce() -> T) -> io::Result<T> {
    setns(netns, CloneFlags::CLONE_NEWNET)?;
    let way_back = WayBack(home);
    let done = body();
    drop(way_back);
    Ok(done)
}

/// Comes back when dropped, also by a panic.
struct WayBack<'a>(&'a File);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if setns(self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

/// A pod's network namespace, in which weir listens and from which it connects. It is identified by the kernel's cookie,
/// never by an address.
#[derive(Debug)]
pub struct PodNetns {
    cookie: u64,
    prefix6: Ipv6Addr,
    /// weir's listener there, by which the namespace is found; no descriptor of the namespace itself is kept. `None` once
    /// the pod has ended: an open one would keep the namespace alive.
    listener: Mutex<Option<Arc<OwnedFd>>>,
    netns_of: fn(BorrowedFd<'_>) -> io::Result<OwnedFd>,
    thread: NetnsThread,
    making: Semaphore,
    asking: Semaphore,
    own: ArcSwap<[Option<IpAddr>; 2]>,
    /// The UID in the name of the pod's cgroup, once known.
    cgroup_uid: ArcSwapOption<Box<str>>,
    /// The pod's service account, where it has an identity.
    account: ArcSwapOption<ServiceAccount>,
    /// How often it was to be connected anew.
    renewed: AtomicU64,
    ended: CancellationToken,
}

impl PodNetns {
    /// The namespace of `listener`, with this cookie. `netns_of` opens the namespace of a socket.
    pub fn new(
        cookie: u64,
        prefix6: Ipv6Addr,
        listener: OwnedFd,
        netns_of: fn(BorrowedFd<'_>) -> io::Result<OwnedFd>,
        thread: NetnsThread,
    ) -> Arc<Self> {
        Arc::new(Self {
            cookie,
            prefix6,
            listener: Mutex::new(Some(Arc::new(listener))),
            netns_of,
            thread,
            making: Semaphore::new(MAKING),
            asking: Semaphore::new(ASKING),
            own: ArcSwap::from_pointee([None; 2]),
            cgroup_uid: ArcSwapOption::empty(),
            account: ArcSwapOption::empty(),
            renewed: AtomicU64::new(0),
            ended: CancellationToken::new(),
        })
    }

    /// The kernel's cookie of the namespace, unique as long as this node runs.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Whether the address stands for a destination, in weir's own /64: connecting there would be a loop.
    pub fn is_shown(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6.octets()[..8] == self.prefix6.octets()[..8],
        }
    }

    /// The pod's own addresses, as its namespace has them: for logs and for balancing, never for permissions.
    pub fn own(&self, v6: bool) -> Option<IpAddr> {
        self.own.load()[usize::from(v6)]
    }

    /// Sets the pod's own addresses (IPv4, IPv6).
    pub fn set_own(&self, own: [Option<IpAddr>; 2]) {
        self.own.store(Arc::new(own));
    }

    /// The UID in the name of the pod's cgroup, as the kernel says of the processes that connect from the namespace; none
    /// before the first has, or when processes of several pods have.
    pub fn cgroup_uid(&self) -> Option<Arc<Box<str>>> {
        self.cgroup_uid.load_full()
    }

    /// Sets the UID in the name of the pod's cgroup. Returns whether it was another one.
    pub fn set_cgroup_uid(&self, uid: Option<&str>) -> bool {
        let is_new = self.cgroup_uid.load().as_ref().map(|it| &***it) != uid;
        if is_new {
            self.cgroup_uid.store(uid.map(|uid| Arc::new(uid.into())));
        }
        is_new
    }

    /// The pod's service account, as which it is known to other weirs; none where it has no identity.
    pub fn account(&self) -> Option<Arc<ServiceAccount>> {
        self.account.load_full()
    }

    /// Sets the pod's service account. Returns whether it was another one.
    pub fn set_account(&self, account: Option<&ServiceAccount>) -> bool {
        let is_new = self.account.load().as_deref() != account;
        if is_new {
            self.account.store(account.cloned().map(Arc::new));
            self.renew();
        }
        is_new
    }

    /// From now on connections of the pod are not used again that were made before: others might be made in another way.
    pub fn renew(&self) {
        self.renewed.fetch_add(1, Ordering::Relaxed);
    }

    /// How often [`Self::renew`] was called.
    pub fn renewed(&self) -> u64 {
        self.renewed.load(Ordering::Relaxed)
    }

    /// A socket for streams (TCP) or datagrams (UDP) in the pod's namespace, non-blocking.
    ///
    /// SO_REUSEADDR for TCP, because a connection of weir's must not keep the pod's own programs from listening on its port.
    ///
    /// # Errors
    ///
    /// As [`NetnsThread::run`]; and the pod has ended.
    pub async fn socket(&self, v6: bool, kind: Type) -> io::Result<Socket> {
        // It is never closed.
        let _making = self.making.acquire().await;
        let listener = self.listener()?;
        let netns_of = self.netns_of;
        let make = move || {
            let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
            let socket = Socket::new(domain, kind, None)?;
            socket.set_nonblocking(true)?;
            socket.set_reuse_address(kind == Type::STREAM)?;
            Ok(socket)
        };
        self.thread.run(move || netns_of(listener.as_fd()), make).await
    }

    /// The cgroup in which the socket of the pod's namespace was made whose connection goes from `own` to `other`; `None` if
    /// the kernel does not say.
    ///
    /// # Errors
    ///
    /// As [`NetnsThread::run`]; [`io::ErrorKind::NotFound`] where there is no such connection; and the pod has ended.
    pub async fn cgroup_of(&self, own: SocketAddr, other: SocketAddr) -> io::Result<Option<u64>> {
        // It is never closed.
        let _asking = self.asking.acquire().await;
        let (listener, netns_of) = (self.listener()?, self.netns_of);
        let ask = move || SockDiag::open()?.cgroup_of(own, other);
        self.thread.run(move || netns_of(listener.as_fd()), ask).await
    }

    /// Opens the pod's namespace.
    ///
    /// # Errors
    ///
    /// The pod has ended, or the kernel's error.
    pub fn open(&self) -> io::Result<OwnedFd> {
        (self.netns_of)(self.listener()?.as_fd())
    }

    fn listener(&self) -> io::Result<Arc<OwnedFd>> {
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the pod's network namespace is gone");
        self.listener.lock().clone().ok_or_else(gone)
    }

    /// The pod has ended: closes what keeps its namespace, and ends all its connections.
    pub fn end(&self) {
        self.listener.lock().take();
        self.ended.cancel();
    }

    /// Waits for [`Self::end`].
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the pod has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }
}
