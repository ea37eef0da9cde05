//! Connections between weirs: which peers take TLS, and the configurations for it.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::limit::HandshakeLimit;
use super::store::InForce;
use super::tls;
use crate::config::{self, WireMode};
use crate::domain::identity::ServiceAccount;

/// How many TLS configurations are kept, for each side. Beyond that all are made anew.
const KEPT: usize = 4096;

/// What connections between weirs are made by. It is replaced as a whole when anything of it changes.
pub struct Links {
    identities: Arc<InForce>,
    /// The pods of other nodes, by address.
    peers: HashMap<IpAddr, ServiceAccount>,
    mode: WireMode,
    /// What is reached without TLS in any mode.
    plain: Vec<IpNet>,
    /// The handshakes of clients that have not proven who they are; it goes on when other things change.
    limit: Arc<HandshakeLimit>,
    handshakes: u32,
    provider: Arc<CryptoProvider>,
    /// By the two service accounts, the client's first.
    clients: Mutex<HashMap<(ServiceAccount, ServiceAccount), Arc<ClientConfig>>>,
    servers: Mutex<HashMap<ServiceAccount, Arc<ServerConfig>>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Links {
    /// `before` are the ones that these replace.
    pub(super) fn new(
        wire: &config::Wire,
        identities: Arc<InForce>,
        provider: Arc<CryptoProvider>,
        before: Option<&Self>,
    ) -> Self {
        let at = |peer: &config::Peer| {
            let account = peer.account.clone();
            peer.addresses.iter().map(move |at| (at.to_canonical(), account.clone())).collect::<Vec<_>>()
        };
        let peers = wire.peers.iter().flat_map(at).collect();
        let handshakes = wire.handshakes;
        let limit = match before {
            Some(before) if before.handshakes == handshakes => before.limit.clone(),
            _ => Arc::new(HandshakeLimit::new(handshakes)),
        };
        let (clients, servers) = Default::default();
        let (mode, plain) = (wire.mode, wire.plain.clone());
        Self { identities, peers, mode, plain, limit, handshakes, provider, clients, servers }
    }

    /// Whether pods may connect to this endpoint of a service without TLS.
    pub fn may_be_plain(&self, endpoint: IpAddr) -> bool {
        let endpoint = endpoint.to_canonical();
        self.mode == WireMode::Permissive || self.plain.iter().any(|range| range.contains(&endpoint))
    }

    /// What becomes of connections that cannot be encrypted.
    pub fn mode(&self) -> WireMode {
        self.mode
    }

    /// Limits the handshakes of other weirs' clients with this node's pods.
    pub fn limit(&self) -> &HandshakeLimit {
        &self.limit
    }

    /// Whose the pod at this address is, if it takes TLS.
    pub fn peer(&self, address: IpAddr) -> Option<&ServiceAccount> {
        self.peers.get(&address.to_canonical())
    }

    /// How many addresses take TLS.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// What `own` says to `peer`; `None` if `own` has no certificate.
    pub fn client(&self, own: &ServiceAccount, peer: &ServiceAccount) -> Option<Arc<ClientConfig>> {
        kept(&self.clients, &(own.clone(), peer.clone()), || {
            let (certificate, bundle) =
                (self.identities.certificates.get(own)?, self.identities.bundle.as_ref()?);
            let expected = self.identities.trust_domain.id_of(peer);
            tls::client(certificate, bundle, expected, &self.provider).ok()
        })
    }

    /// What `own` says to its clients; `None` if it has no certificate.
    pub fn server(&self, own: &ServiceAccount) -> Option<Arc<ServerConfig>> {
        kept(&self.servers, own, || {
            let (certificate, bundle) =
                (self.identities.certificates.get(own)?, self.identities.bundle.as_ref()?);
            tls::server(certificate, bundle, &self.provider).ok()
        })
    }
}

/// What is kept for `key`, or what `make` makes.
fn kept<K: Clone + Eq + std::hash::Hash, V>(
    all: &Mutex<HashMap<K, Arc<V>>>,
    key: &K,
    make: impl FnOnce() -> Option<V>,
) -> Option<Arc<V>> {
    let mut all = all.lock();
    if let Some(kept) = all.get(key) {
        return Some(kept.clone());
    }
    let made = Arc::new(make()?);
    if all.len() >= KEPT {
        all.clear();
    }
    all.insert(key.clone(), made.clone());
    Some(made)
}
