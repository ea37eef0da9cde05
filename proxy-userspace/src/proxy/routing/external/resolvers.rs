//! DNS for the explicit names of pods: each is asked from its pod's own network namespace, so that a pod that may not use
//! DNS cannot use it through weir, and an answer for one pod is never used for another.
//!
//! The servers are those of weir's configuration, or of its own `/etc/resolv.conf`, as they are reached from the pod.

use std::sync::Arc;

use hashlink::LruCache;
use socket2::{Socket, Type};

use super::{Asker, ExternalClusters};
use crate::discovery::dns::{Dns, Made, MakeSocket};
use crate::transport::{PodNetns, ReceiveBuffers};

/// How many pods have a resolver; the one unused for longest goes, and its answers with it.
pub(super) const RESOLVERS: usize = 512;

/// The resolvers by the cookies of network namespaces.
pub(super) type Resolvers = LruCache<u64, Dns>;

/// Makes sockets in the network namespace of a pod.
struct InPod(Arc<PodNetns>);

impl MakeSocket for InPod {
    fn make(&self, v6: bool, kind: Type) -> Made<Socket> {
        let pod = self.0.clone();
        Box::pin(async move {
            let socket = pod.socket(v6, kind).await?;
            ReceiveBuffers::bound_usual(&socket)?;
            Ok(socket)
        })
    }
}

impl ExternalClusters {
    /// The resolver that asks for `asker`.
    pub(super) fn resolver(&self, asker: &Asker) -> Option<Dns> {
        let node = self.dns.load_full()?;
        let Some(pod) = asker.from() else { return Some(Dns::clone(&node)) };
        let mut resolvers = self.resolvers.lock();
        if let Some(known) = resolvers.get(&pod.cookie()) {
            return Some(known.clone());
        }
        let new = node.through(Arc::new(InPod(pod.clone())));
        if !pod.has_ended() {
            resolvers.insert(pod.cookie(), new.clone());
        }
        Some(new)
    }
}
