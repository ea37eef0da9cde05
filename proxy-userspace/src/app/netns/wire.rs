//! weir in the pods for connections of other weirs (`identity.wire`): where, and as which service accounts.
//!
//! A pod of this node is known by the name of its network namespace's file, which the container runtime chose: no address,
//! which a pod could add to its own ones.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::looks::{LIMIT, NoLook};
use super::reconcile::{Joined, Reconciler};
use crate::app::identity;
use crate::config::Wire;
use crate::domain::identity::ServiceAccount;
use crate::intercept::{self, NetnsId};
use crate::proxy::listener::sockets::Socket;

/// What the table of sources is called in [`Reconciler::said`], where the others are namespaces' files.
const SOURCES: &str = "identity.wire.allow";

impl Reconciler {
    /// Takes other weirs' connections in the pods that have an identity, and nowhere else.
    pub(super) async fn follow_wire(&mut self) {
        let settings = self.control.settings();
        let wire = settings.identity.as_ref().and_then(|it| it.wire.as_ref());
        let told = match &mut *self.control.programs.lock() {
            Ok(programs) => programs.wire_sources(wire.map(|it| it.allow.ranges()).unwrap_or_default()),
            Err(_) => Ok(()),
        };
        self.say(SOURCES.into(), told.map_err(|why| why.to_string()));
        let (accounts, mut is_new) = (accounts(wire), false);
        for id in self.joined.keys().copied().collect::<Vec<_>>() {
            let Some(joined) = self.joined.get_mut(&id) else { continue };
            let account = accounts.get(&*joined.name).copied();
            is_new |= joined.pod.set_account(account);
            match (account, &joined.wire) {
                (Some(_), None) => {
                    let name = joined.name.clone();
                    let taken = self.take_wire(id).await;
                    self.say(name, taken);
                }
                (None, Some(_)) => self.leave_wire(id),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        if is_new {
            identity::forget(&self.control.shared);
        }
        let there: HashSet<_> = self.joined.values().map(|it| it.name.clone()).collect();
        self.said.retain(|what, _| &**what == SOURCES || there.contains(what));
    }

    /// The service account of the pod whose network namespace's file has this name.
    pub(super) fn account_of(&self, name: &str) -> Option<ServiceAccount> {
        let settings = self.control.settings();
        let wire = settings.identity.as_ref().and_then(|it| it.wire.as_ref())?;
        wire.pods.iter().find(|it| it.netns == name).map(|it| it.account.clone())
    }

    /// Says once why connections of other weirs are not taken, until it is another reason or none.
    fn say(&mut self, what: Arc<str>, done: Result<(), String>) {
        let Err(why) = done else {
            self.said.remove(&what);
            return;
        };
        if self.said.get(&what) != Some(&why) {
            tracing::warn!(what = &*what, "connections of other weirs are not taken: {why}");
            self.said.insert(what, why);
        }
    }

    async fn take_wire(&mut self, id: NetnsId) -> Result<(), String> {
        let Some(Joined { pod, name, .. }) = self.joined.get(&id) else { return Ok(()) };
        let (pod, name, port) = (pod.clone(), name.clone(), self.prepared.sockets().port);
        let entered = pod.clone();
        let made =
            self.prepared.looks.run(id, move || entered.open(), move || intercept::listen_on_wire(port));
        let tcp = made.await.map_err(|why| match why {
            NoLook::Failed(cause) => cause.to_string(),
            NoLook::Busy => format!("no answer from the kernel within {LIMIT:?}"),
        })?;
        if let Ok(interception) = &mut *self.control.programs.lock() {
            interception.take_wire(pod.cookie(), Some(tcp.as_fd())).map_err(|why| why.to_string())?;
        }
        tracing::info!(netns = &*name, cookie = pod.cookie(), "taking connections of other weirs in a pod");
        let socket = Socket::in_pod(&self.incoming, tcp, pod);
        if let Some(joined) = self.joined.get_mut(&id) {
            joined.wire = Some(Arc::downgrade(&socket));
            self.control.shared.sockets.add(socket);
        }
        Ok(())
    }

    fn leave_wire(&mut self, id: NetnsId) {
        let Some(joined) = self.joined.get_mut(&id) else { return };
        let Some(socket) = joined.wire.take() else { return };
        if let Ok(interception) = &mut *self.control.programs.lock()
            && let Err(why) = interception.take_wire(joined.pod.cookie(), None)
        {
            tracing::warn!(netns = &*joined.name, "connections of other weirs are still taken there: {why}");
        }
        if let Some(socket) = socket.upgrade() {
            self.control.shared.sockets.remove(&socket);
        }
    }
}

/// The service accounts of this node's pods, by the names of their network namespaces' files.
fn accounts(wire: Option<&Wire>) -> HashMap<&str, &ServiceAccount> {
    wire.iter().flat_map(|it| &it.pods).map(|it| (&*it.netns, &it.account)).collect()
}
