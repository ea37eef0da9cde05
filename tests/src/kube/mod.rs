//! An API server's double: what weir's discovery and kubectl ask of one, with a history to watch and faults to order.
//!
//! It serves on loopback, by plain HTTP or, where a test asks for it, by TLS, from a thread of its own, and holds everything in memory. One log of changes gives
//! resource versions to objects, lists and watches alike, as etcd does. The shapes are those of a real 1.36 server
//! (`tests/fixtures/kube`); kubectl, which knows nothing of weir, is the other witness.
//!
//! Deliberately absent: schemas and defaulting (what is stored is what was sent), tables (kubectl prints what it gets),
//! admission, and strategic merges, which are done as plain merges: lists are replaced whole.

mod discovery;
mod faults;
mod form;
mod list;
mod objects;
mod query;
mod resource;
mod reviews;
mod secure;
mod serve;
mod status;
mod store;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::net::Pod;
use crate::net::place::Place;

pub use faults::{Act, Faults, Refusal};
pub use objects::{Endpoint, pod, service, slice};
pub use query::Seen;
pub use secure::Authority;
use serve::{Command, Shared};
use store::Store;

/// A running API server; it stops when dropped.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// One with the namespaces `default` and `kube-system` and nothing else.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_in(Place::Here)
    }

    /// The same on the loopback of this place.
    #[track_caller]
    pub fn start_in(place: Place) -> Self {
        Self::serving(&place, crate::raw::loopback(), None)
    }

    /// The same by TLS, with a certificate of `authority`.
    #[track_caller]
    pub fn start_secured(authority: &Authority) -> Self {
        Self::start_secured_at(authority, crate::raw::loopback())
    }

    /// The same at this address.
    #[track_caller]
    pub fn start_secured_at(authority: &Authority, at: SocketAddr) -> Self {
        Self::serving(&Place::Here, at, Some((authority, at.ip())))
    }

    /// The same in this pod, with a certificate for `service`, the address of a Service whose endpoint it is, and for no other.
    #[track_caller]
    pub fn start_behind(authority: &Authority, pod: &Pod, service: IpAddr) -> Self {
        Self::serving(&Place::from(pod), pod.at(0), Some((authority, service)))
    }

    /// The same in this pod, at its address, so that others reach it.
    #[track_caller]
    pub fn start_at(pod: &Pod) -> Self {
        Self::serving(&Place::from(pod), pod.at(0), None)
    }

    #[track_caller]
    fn serving(place: &Place, at: SocketAddr, secured: Option<(&Authority, IpAddr)>) -> Self {
        let listener = place.listen(at).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let secured = secured.map(|(authority, name)| authority.acceptor(name));
        let shared = Arc::new(Shared::default());
        let (commands, orders) = mpsc::unbounded_channel();
        let serving = shared.clone();
        let thread = std::thread::spawn(move || serve::run(listener, secured, serving, orders));
        let server = Self { address, shared, commands, thread: Some(thread) };
        for name in ["default", "kube-system"] {
            server.put(serde_json::json!({ "kind": "Namespace", "metadata": { "name": name } }));
        }
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig that leads here into `folder`.
    #[track_caller]
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        self.kubeconfig_with(folder, "secret")
    }

    /// The same with another bearer token.
    #[track_caller]
    pub fn kubeconfig_with(&self, folder: &Path, token: &str) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: double\n\
             clusters: [{{ name: double, cluster: {{ server: \"http://{}\" }} }}]\n\
             contexts: [{{ name: double, context: {{ cluster: double, user: double }} }}]\n\
             users: [{{ name: double, user: {{ token: {token} }} }}]\n",
            self.address
        );
        std::fs::write(&path, text).expect("a kubeconfig");
        path
    }

    /// Creates `object`, or replaces the one of its name. It says its `kind` and its `metadata.name`; a namespaced one
    /// without a namespace is in `default`. Its resource version.
    #[track_caller]
    pub fn put(&self, object: Value) -> u64 {
        let version = self.store().put(object).expect("an object of a kind this server has");
        self.shared.changed();
        version
    }

    /// Knows Dtabs, and the Prometheus operator's kinds, from now on.
    pub fn define_custom(&self) {
        self.define_monitors();
    }

    /// Knows the Prometheus operator's kinds from now on, as after `kubectl apply` of their definitions.
    pub fn define_monitors(&self) {
        self.shared.custom.store(true, Ordering::SeqCst);
    }

    /// Deletes an object; `plural` is the resource, `services`. Whether there was one.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let deleted = self.store().delete(plural, namespace, name).is_some();
        self.shared.changed();
        deleted
    }

    /// The object as it is stored.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.store().get(plural, namespace, name).map(|it| it.value.clone())
    }

    /// Every object of a resource.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        self.store().all(plural).into_iter().map(|it| it.value.clone()).collect()
    }

    /// The version of the newest change.
    pub fn version(&self) -> u64 {
        self.store().version()
    }

    /// Forgets its history: whoever goes on from an older version than the newest is told 410.
    pub fn compact(&self) {
        self.store().compact();
    }

    /// Comes back with what its etcd had when history was last forgotten: no change since has ever been, and its versions go
    /// on from there.
    pub fn restore(&self) {
        self.down();
        self.store().restore();
        self.up();
    }

    /// Does something to every watch that is open now.
    pub fn act(&self, act: Act) {
        self.shared.act(act);
    }

    /// Changes what is wrong with it from now on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.faults.lock().expect("no fault panicked"));
        self.shared.changed();
    }

    /// Refuses a resource (`*` for all) from now on.
    pub fn refuse(&self, plural: &str, refusal: Refusal) {
        self.faults(|faults| {
            faults.refused.insert(plural.to_owned(), refusal);
        });
    }

    /// Nothing is wrong with it any more.
    pub fn heal(&self) {
        self.faults(|faults| *faults = Faults::default());
    }

    /// Drops every connection and listens no more.
    pub fn down(&self) {
        let (done, told) = std::sync::mpsc::channel();
        let _ = self.commands.send(Command::Down(done));
        let _ = told.recv_timeout(Duration::from_secs(5));
    }

    /// Listens again, on the same port.
    pub fn up(&self) {
        let (done, told) = std::sync::mpsc::channel();
        let _ = self.commands.send(Command::Up(done));
        let _ = told.recv_timeout(Duration::from_secs(5));
    }

    /// Knows this bearer token as the user's, for TokenReviews.
    pub fn knows_token(&self, token: &str, user: &str) {
        let mut tokens = self.shared.tokens.lock().expect("no review panicked");
        tokens.insert(token.to_owned(), user.to_owned());
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no request panicked").clone()
    }

    /// How many requests of this verb (`get`, `list`, `watch`, …) there were for a resource.
    pub fn count(&self, verb: &str, plural: &str) -> usize {
        self.seen().iter().filter(|it| it.verb == verb && it.plural == plural).count()
    }

    /// Whether everything has been told of these resources: for each there is a watch to which nothing has happened that
    /// would make its client give it up, and to which the newest version has been written.
    pub fn has_told(&self, plurals: &[&str]) -> bool {
        plurals.iter().all(|plural| self.told(plural) > 0)
    }

    /// How many watches for a resource have been told everything.
    pub fn told(&self, plural: &str) -> usize {
        let version = self.version();
        let watches = self.shared.watches.lock().expect("no watch panicked");
        watches.values().filter(|it| it.plural == plural && it.told == Some(version)).count()
    }

    /// The version of the last bookmark that the newest watch for a resource was sent.
    pub fn bookmarked(&self, plural: &str) -> Option<u64> {
        let watches = self.shared.watches.lock().expect("no watch panicked");
        watches.values().rfind(|it| it.plural == plural)?.bookmarked
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().expect("no change panicked")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
