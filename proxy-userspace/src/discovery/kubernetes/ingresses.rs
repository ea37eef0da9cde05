//! Ingresses, listed and watched where a router's identifier is `io.l5d.ingress`, and the rules made of them.
//!
//! One watch is for all routers: of the namespace, where all of them name the same one, else of the whole cluster.
//! Ingresses of other classes are left to their controllers, right or wrong. One with mistakes keeps its last good state;
//! if there is none, its rules without mistakes count.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::detour::Detour;
use super::follow::{Follower, Name, News};
use super::health::Health;
use super::resource::{Focus, Object, Resource};
use crate::config::Kubernetes;
use crate::discovery::objects::IngressObject;
use crate::domain::identify::ingress::{Ingress, IngressRules, IngressSource, IngressTable};

/// From a first change to the rules that have it: later changes in this time are included.
const GATHER: Duration = Duration::from_millis(100);
/// Most updates that wait to be taken in, and that are taken in at once.
const QUEUE: usize = 256;

/// Where the rules of each source are, before the first list and after.
pub type IngressTables = BTreeMap<IngressSource, Arc<IngressTable>>;

/// Follows the Ingresses that are wanted.
#[derive(Debug)]
pub struct IngressKeeper {
    wanted: watch::Sender<Arc<BTreeSet<IngressSource>>>,
    known: watch::Sender<IngressTables>,
    health: Arc<Health>,
}

impl IngressKeeper {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self { wanted: watch::Sender::default(), known: watch::Sender::default(), health }
    }

    /// Follows these from now on. What is known of others is forgotten.
    pub fn want(&self, wanted: BTreeSet<IngressSource>) {
        if **self.wanted.borrow() == wanted {
            return;
        }
        self.known.send_modify(|known| {
            known.retain(|it, _| wanted.contains(it));
            for it in &wanted {
                known.entry(it.clone()).or_default();
            }
        });
        self.wanted.send_replace(Arc::new(wanted));
    }

    /// What is known of them. Changes also when something is wrong with an object.
    pub fn known(&self) -> watch::Receiver<IngressTables> {
        self.known.subscribe()
    }

    /// Waits until the first list is complete or has failed, for `limit` at most.
    pub async fn known_within(&self, limit: Duration) {
        let (mut known, mut health) = (self.known(), self.health.changes());
        let all = async {
            while known.borrow_and_update().values().any(|table| table.rules().is_none())
                && self.health.status(Resource::Ingresses).failure.is_none()
            {
                tokio::select! {
                    _ = known.changed() => {}
                    _ = health.changed() => {}
                }
            }
        };
        let _ = timeout(limit, all).await;
    }

    /// Follows the sources that the current settings name, until shutdown.
    ///
    /// # Errors
    ///
    /// A follower ended, which never happens by itself.
    pub(super) async fn follow(
        self: Arc<Self>,
        mut settings: watch::Receiver<Arc<Kubernetes>>,
        detour: Arc<Detour>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut wanted = self.wanted.subscribe();
        let mut fold = Fold::default();
        loop {
            let (now, which) = (settings.borrow_and_update().clone(), wanted.borrow_and_update().clone());
            if which.is_empty() {
                fold = Fold::default();
                self.health.forget(Resource::Ingresses);
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                ended = self.follow_these(&now, &which, &detour, &mut fold) => return ended,
                // The senders live as long as the cluster.
                Ok(()) = settings.changed() => {}
                Ok(()) = wanted.changed() => {}
            }
        }
    }

    /// Follows `which` until the task is dropped.
    async fn follow_these(
        &self,
        settings: &Arc<Kubernetes>,
        which: &BTreeSet<IngressSource>,
        detour: &Arc<Detour>,
        fold: &mut Fold,
    ) -> anyhow::Result<()> {
        let (news, mut told) = mpsc::channel(QUEUE);
        let mut followers = JoinSet::new();
        if which.is_empty() {
            return std::future::pending().await;
        }
        let follower = Follower {
            resource: Resource::Ingresses,
            settings: settings.clone(),
            focus: focus(which),
            access: Arc::new(Access::new((**settings).clone(), detour.clone())),
            health: self.health.clone(),
            news,
        };
        followers.spawn(follower.run());
        // What is known may be of other namespaces and classes.
        fold.is_whole = false;
        let mut due = None;
        let mut batch = Vec::with_capacity(QUEUE);
        loop {
            tokio::select! {
                Some(ended) = followers.join_next() => match ended {
                    Ok(()) => bail!("the follower of Ingresses ended"),
                    Err(panicked) => bail!("the follower of Ingresses ended: {panicked}"),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    fold.has_changed = false;
                    self.publish(which, &fold.objects, settings.ingress_rules);
                }
                taken = told.recv_many(&mut batch, QUEUE) => {
                    if taken == 0 {
                        bail!("nobody tells of Ingresses any more");
                    }
                    batch.drain(..).for_each(|news| fold.take(news));
                    if fold.has_changed && fold.is_whole && due.is_none() {
                        due = Some(Instant::now() + GATHER);
                    }
                }
            }
        }
    }

    /// Makes the rules of all sources anew, and puts those that differ into force.
    fn publish(&self, which: &BTreeSet<IngressSource>, objects: &BTreeMap<Name, Known>, most: usize) {
        let put = |source: &IngressSource, table: &IngressTable| {
            let rules = IngressRules::new(source, objects.values().map(|it| &it.ingress), most);
            let earlier = table.rules();
            if earlier.as_deref() == Some(&rules) {
                return;
            }
            let (count, left_out) = (rules.len(), rules.left_out());
            tracing::info!(rules = count, "the rules of {source} are in force");
            if let Some(reason) = left_out
                .reasons
                .first()
                .filter(|_| earlier.is_none_or(|earlier| earlier.left_out() != left_out))
            {
                let count = left_out.taken + left_out.too_many + left_out.share;
                tracing::warn!(count, "rules of {source} are left out, the first is {reason}");
            }
            table.put(Arc::new(rules));
        };
        // More may be wanted by now: what is known of that has yet to be listed.
        self.known.send_modify(|known| {
            for (source, table) in known.iter().filter(|(source, _)| which.contains(source)) {
                put(source, table);
            }
        });
        self.health.known(Resource::Ingresses);
    }
}

/// What to ask for.
fn focus(which: &BTreeSet<IngressSource>) -> Focus {
    let mut namespaces: BTreeSet<_> = which.iter().map(|it| it.namespace.clone()).collect();
    Focus {
        namespace: namespaces.pop_first().flatten().filter(|_| namespaces.is_empty()),
        classes: which.iter().map(|it| it.class.clone()).collect(),
        ..Focus::default()
    }
}

/// An Ingress as it is in force.
#[derive(Debug)]
struct Known {
    ingress: Arc<Ingress>,
    /// Whether it had no mistakes.
    is_good: bool,
}

#[derive(Debug, Default)]
struct Fold {
    objects: BTreeMap<Name, Known>,
    /// Those in the unfinished list so far.
    seen: HashSet<Name>,
    /// Whether a list is complete and no other begun.
    is_whole: bool,
    has_changed: bool,
}

impl Fold {
    fn take(&mut self, news: News) {
        match news {
            News::Begin(_) => {
                self.is_whole = false;
                self.seen.clear();
            }
            News::Set(object) => {
                if let Object::Ingress(object) = *object {
                    self.set(object);
                }
            }
            News::Senseless(_, name) => {
                self.has_changed = true;
                self.seen.insert(name);
            }
            News::Gone(_, name) => self.has_changed |= self.objects.remove(&name).is_some(),
            News::Complete(_) => {
                (self.is_whole, self.has_changed) = (true, true);
                let seen = std::mem::take(&mut self.seen);
                self.objects.retain(|name, _| seen.contains(name));
            }
            News::Denied(_) => {}
        }
    }

    fn set(&mut self, IngressObject { ingress, mistakes }: IngressObject) {
        self.has_changed = true;
        let name = Name { namespace: ingress.namespace.clone(), name: ingress.name.clone() };
        if !self.is_whole {
            self.seen.insert(name.clone());
        }
        let is_good = mistakes.is_empty();
        if !is_good && self.objects.get(&name).is_some_and(|before| before.is_good) {
            return;
        }
        self.objects.insert(name, Known { ingress, is_good });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn source(namespace: Option<&str>, class: &str) -> IngressSource {
        let namespace = namespace.map(Arc::from);
        IngressSource { namespace, class: class.into(), ignore_default_backends: false }
    }

    fn object(name: &str, path: &str) -> News {
        let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
        let paths = json!([{ "path": path, "pathType": "Prefix", "backend": backend }]);
        let value: Value = json!({
            "metadata": { "name": name, "namespace": "shop" }, "spec": { "rules": [{ "http": { "paths": paths } }] },
        });
        News::Set(Box::new(Object::Ingress(IngressObject::read(&value).unwrap())))
    }

    fn name(name: &str) -> Name {
        Name { namespace: "shop".into(), name: name.into() }
    }

    fn paths(fold: &Fold) -> Vec<String> {
        let rules = fold.objects.values().flat_map(|it| &it.ingress.rules);
        rules.map(|rule| rule.path.text.to_string()).collect()
    }

    #[test]
    fn an_ingress_with_mistakes_keeps_its_last_good_state_until_it_is_gone() {
        let of = Resource::Ingresses;
        let mut fold = Fold::default();
        for news in [News::Begin(of), object("a", "/a"), object("b", "bad"), News::Complete(of)] {
            fold.take(news);
        }
        assert_eq!((paths(&fold), fold.is_whole), (vec!["/a".to_owned()], true));
        fold.take(object("a", "bad"));
        fold.take(News::Senseless(of, name("a")));
        // Never good before: whatever of it can be followed counts.
        fold.take(object("b", "/b"));
        assert_eq!(paths(&fold), ["/a", "/b"]);
        // A list in which it is as bad as before.
        for news in [News::Begin(of), object("a", "bad"), News::Senseless(of, name("b"))] {
            fold.take(news);
            assert!(!fold.is_whole);
        }
        fold.take(News::Complete(of));
        assert_eq!(paths(&fold), ["/a", "/b"]);
        fold.take(News::Gone(of, name("a")));
        for news in [News::Begin(of), News::Complete(of)] {
            fold.take(news);
        }
        assert_eq!(paths(&fold), [""; 0]);
    }

    #[test]
    fn what_is_wanted_since_a_list_was_asked_for_is_not_known_by_it() {
        let keeper = IngressKeeper::new(Arc::default());
        let [one, two] = [source(None, "a"), source(None, "b")];
        let first = BTreeSet::from([one.clone()]);
        keeper.want(first.clone());
        keeper.want(BTreeSet::from([one.clone(), two.clone()]));
        keeper.publish(&first, &BTreeMap::new(), 10);
        let known = keeper.known().borrow().clone();
        assert!(known[&one].rules().is_some() && known[&two].rules().is_none());
        // And what is not wanted any more does not come back.
        keeper.want(BTreeSet::from([two.clone()]));
        keeper.publish(&first, &BTreeMap::new(), 10);
        assert_eq!(keeper.known().borrow().keys().collect::<Vec<_>>(), [&two]);
    }

    #[test]
    fn one_namespace_is_asked_for_if_all_routers_name_it_and_else_all() {
        for (sources, namespace) in [
            (vec![source(Some("shop"), "a"), source(Some("shop"), "b")], Some("shop")),
            (vec![source(Some("shop"), "a"), source(Some("other"), "a")], None),
            (vec![source(Some("shop"), "a"), source(None, "a")], None),
            (vec![source(None, "a")], None),
        ] {
            let focus = focus(&sources.iter().cloned().collect());
            assert_eq!(focus.namespace.as_deref(), namespace, "{sources:?}");
            assert!(sources.iter().all(|it| focus.classes.contains(&it.class)));
        }
    }
}
