//! What is told of the network namespaces: to the workers, which look for their clients in them, and to people.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::reconcile::{Joined, Reconciler, name_of};
use crate::control::{NetnsState, SeenNetns};
use crate::intercept::PodOf;

impl Reconciler {
    /// Publishes what there is, for the workers and for people.
    pub(super) fn publish(&mut self) {
        if let Some(pods) = &self.control.shared.pods {
            let with =
                |it: &Joined| it.facts.addresses.iter().map(|at| (*at, it.pod.clone())).collect::<Vec<_>>();
            pods.tell(self.joined.values().flat_map(with));
        }
        self.control.netns.has_looked.store(true, Ordering::SeqCst);
        let files = self.files.len() + self.unknown.len();
        let mut seen = Vec::with_capacity(self.joined.len() + self.left.len() + files);
        if let Ok(interception) = &*self.control.programs.lock() {
            seen.extend(self.joined.values().map(|it| SeenNetns {
                name: it.name.clone(),
                cookie: Some(it.pod.cookie()),
                v6: it.facts.v6,
                state: match (interception.pod_of(it.pod.cookie()), it.facts.direct()) {
                    (PodOf::Several, _) => NetnsState::Shared,
                    (PodOf::One(_) | PodOf::Unknown, Some((state, _))) => state,
                    (PodOf::One(_) | PodOf::Unknown, None) => NetnsState::Listening,
                },
                why: it.facts.direct().map(|(_, why)| why),
                loopback: it.loopback.iter().map(|at| (at.port, at.why.clone())).collect(),
            }));
        }
        let without = |name: Arc<str>, state, why: Arc<str>| SeenNetns {
            name,
            cookie: None,
            v6: false,
            state,
            why: Some(why),
            loopback: Vec::new(),
        };
        seen.extend(self.left.values().map(|it| without(it.name.clone(), it.state, it.why.clone())));
        seen.extend(self.files.keys().map(|path| {
            without(name_of(path), NetnsState::NoNamespace, "the file is no network namespace".into())
        }));
        let joined: BTreeSet<&PathBuf> = match self.unknown.is_empty() {
            true => BTreeSet::new(),
            false => self.joined.values().map(|it| &it.path).collect(),
        };
        let unknown = self.unknown.iter().filter(|it| !joined.contains(it.0));
        seen.extend(unknown.map(|(path, why)| without(name_of(path), NetnsState::Failed, why.clone())));
        if **self.control.netns.seen.load() != seen {
            self.control.netns.seen.store(Arc::new(seen));
        }
        self.publish_without();
    }
}
