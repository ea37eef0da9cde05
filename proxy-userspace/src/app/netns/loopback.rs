//! The explicit proxy at the loopback addresses of enrolled pods: `http_proxy=http://127.0.0.1:4140` needs no address of the node.
//!
//! The port is the one that a router has on the node. A program of the pod that has it keeps it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::follow::ROUND;
use super::looks::{LIMIT, NoLook};
use super::reconcile::{Joined, Reconciler};
use crate::config::Outgoing;
use crate::control::{Stage, State};
use crate::domain::enrol;
use crate::intercept::{self, Enrol, NetnsId};
use crate::proxy::listener::sockets::Socket;
use crate::proxy::listener::{Listener, ListenerKind};

/// One port at a pod's loopback addresses.
pub(super) struct Loopback {
    listener: Arc<Listener>,
    pub(super) port: u16,
    /// The sockets; no more than the workers' own keeps them open.
    sockets: Vec<Weak<Socket>>,
    /// Why weir does not listen there.
    pub(super) why: Option<Arc<str>>,
}

impl Loopback {
    fn is(&self, listener: &Arc<Listener>, port: u16) -> bool {
        Arc::ptr_eq(&self.listener, listener) && self.port == port
    }
}

impl Reconciler {
    /// Listens at the loopback addresses of enrolled pods where the routers listen on the node, and nowhere else.
    pub(super) async fn follow_loopback(&mut self) {
        let (mut wanted, enrolled) = (wanted(&self.control), enrolled(&self.control));
        if self.control.shared.pods.as_ref().is_none_or(|it| it.unable().is_some()) {
            // A program that cannot connect says so; one that is never answered does not say why.
            wanted.clear();
        }
        let end = Instant::now() + ROUND;
        for id in self.joined.keys().copied().collect::<Vec<_>>() {
            let Some(joined) = self.joined.get_mut(&id) else { continue };
            let is_enrolled = enrolled
                .as_ref()
                .is_none_or(|all| joined.facts.addresses.iter().any(|address| all.contains(address)));
            let here = if is_enrolled { wanted.as_slice() } else { &[] };
            let is_wanted = |it: &Loopback| here.iter().any(|(listener, port)| it.is(listener, *port));
            for gone in joined.loopback.extract_if(.., |it| !is_wanted(it)) {
                gone.sockets
                    .iter()
                    .filter_map(Weak::upgrade)
                    .for_each(|it| self.control.shared.sockets.remove(&it));
            }
            for (listener, port) in here {
                let there = |it: &Loopback| it.is(listener, *port) && it.why.is_none();
                let is_there = self.joined.get(&id).is_none_or(|joined| joined.loopback.iter().any(there));
                if !is_there && Instant::now() < end {
                    self.listen(id, listener, *port).await;
                }
            }
        }
    }

    async fn listen(&mut self, id: NetnsId, listener: &Arc<Listener>, port: u16) {
        let Some(Joined { pod, .. }) = self.joined.get(&id) else { return };
        let pod = pod.clone();
        let inherited = self.control.netns.take_inherited(pod.cookie(), port);
        let made = if inherited.is_empty() {
            let entered = pod.clone();
            self.prepared.looks.run(id, move || entered.open(), move || bind(port)).await
        } else {
            Ok(inherited)
        };
        let (made, why) = match made {
            Ok(made) => (made, None),
            Err(NoLook::Failed(cause)) if cause.kind() == io::ErrorKind::AddrInUse => {
                (Vec::new(), Some("a program of the pod has the port".into()))
            }
            Err(NoLook::Failed(cause)) => (Vec::new(), Some(cause.to_string().into())),
            Err(NoLook::Busy) => {
                (Vec::new(), Some(format!("no answer from the kernel within {LIMIT:?}").into()))
            }
        };
        let made = made.into_iter().map(|tcp| Socket::in_pod(listener, tcp, pod.clone())).collect::<Vec<_>>();
        let sockets = made.iter().map(Arc::downgrade).collect();
        let Some(joined) = self.joined.get_mut(&id) else { return };
        joined.loopback.retain(|it| !it.is(listener, port));
        joined.loopback.push(Loopback { listener: listener.clone(), port, sockets, why });
        made.into_iter().for_each(|it| self.control.shared.sockets.add(it));
    }
}

/// The routers' ports on the node that are not only at its own loopback addresses, and that are to be in pods.
fn wanted(control: &State) -> Vec<(Arc<Listener>, u16)> {
    if *control.handover.stage.borrow() == Stage::Waits {
        // The weir before this one listens there, and hands these sockets over last.
        return Vec::new();
    }
    let settings = control.settings();
    let is_in_pods = |listener: &Listener, port: u16| {
        let label = listener.router();
        let is_its = |it: &&Outgoing| it.is_labelled().then_some(&*it.label) == label.as_deref();
        settings.all_routers().find(is_its).is_some_and(|it| it.is_in_pods(port))
    };
    let mut wanted = Vec::<(Arc<Listener>, u16)>::new();
    for listener in control.listeners().into_iter().filter(|it| it.kind == ListenerKind::Outgoing) {
        for at in listener.addresses().iter().filter(|at| !at.ip().to_canonical().is_loopback()) {
            // Of several routers at one port of different addresses, the first has it.
            if is_in_pods(&listener, at.port()) && wanted.iter().all(|(_, port)| *port != at.port()) {
                wanted.push((listener.clone(), at.port()));
            }
        }
    }
    wanted
}

/// The addresses of enrolled pods; `None` if all pods are. They only say where weir listens: whose a connection is, the kernel
/// says.
fn enrolled(control: &State) -> Option<HashSet<IpAddr>> {
    if control.programs.lock().as_ref().is_ok_and(|it| it.enrols() == Enrol::All) {
        return None;
    }
    let enrolment = control.enrolment.load_full().unwrap_or_default();
    let enrolled = enrolment.pods.values().filter(|it| it.state == enrol::State::Enrolled);
    Some(enrolled.flat_map(|it| it.pod.addresses.iter().map(IpAddr::to_canonical)).collect())
}

/// Listens at the loopback addresses of the calling thread's network namespace. That of IPv6 need not exist yet (IPV6_FREEBIND).
fn bind(port: u16) -> io::Result<Vec<TcpListener>> {
    let at = |ip: IpAddr| intercept::listen_at(SocketAddr::new(ip, port));
    let mut made = vec![at(Ipv4Addr::LOCALHOST.into())?];
    match at(Ipv6Addr::LOCALHOST.into()) {
        Ok(v6) => made.push(v6),
        Err(cause) if is_without_v6(&cause) => {}
        // For lack of something, say: it is tried again.
        Err(cause) => return Err(cause),
    }
    Ok(made)
}

/// Whether the error says that there is no IPv6.
fn is_without_v6(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_without_ipv6_is_served_at_ipv4_alone() {
        for (errno, is_without) in [
            (libc::EAFNOSUPPORT, true),
            (libc::EADDRNOTAVAIL, true),
            (libc::EADDRINUSE, false),
            (libc::EMFILE, false),
            (libc::ENOBUFS, false),
            (libc::EACCES, false),
        ] {
            assert_eq!(is_without_v6(&io::Error::from_raw_os_error(errno)), is_without, "{errno}");
        }
    }
}
