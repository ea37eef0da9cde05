//! Look-ups in progress: one per name, however many requests wait for it, with a limit on all and a fair share for each
//! client.
//!
//! The look-up of a name that never answers lasts until its timeout. Without shares, one client with enough such names
//! would block the look-ups of all others. So a client may have as many as nobody else wants; when no other one may be
//! started, the client most above its share (`domain/shares`) gives up its oldest for one that is below its own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::discovery::dns::{Answer, DnsError};
use crate::domain::shares::Ledger;
use crate::proxy::holders::{Group, Holder, HolderId};
use crate::proxy::upstream::Source;
use crate::telemetry::Counter;
use crate::transport::PodNetns;

/// Questions of one look-up: a name's A and AAAA records.
const QUESTIONS: usize = 2;

/// The client that asks, and how much more its request may ask.
#[derive(Debug)]
pub struct Asker {
    holder: Arc<Holder>,
    from: Option<Arc<PodNetns>>,
    questions: usize,
    spent: bool,
    /// Names that DNS denied for it.
    denied: Vec<Box<str>>,
}

impl Asker {
    /// A request of `holder` that may cause up to `questions` DNS questions, which are asked from the network namespace of a pod,
    /// or else from the node.
    pub fn new(holder: Arc<Holder>, from: Option<Arc<PodNetns>>, questions: usize) -> Self {
        Self { holder, from, questions, spent: false, denied: Vec::new() }
    }

    /// The pod from whose network namespace it asks.
    pub(super) fn from(&self) -> Option<&Arc<PodNetns>> {
        self.from.as_ref()
    }

    /// From where it asks.
    pub(super) fn source(&self) -> Source {
        self.from.as_ref().map_or(Source::Node, |pod| Source::Pod(pod.cookie()))
    }

    /// The same client, for one look-up that its request does not wait for.
    pub(super) fn once(&self) -> Self {
        Self::new(self.holder.clone(), self.from.clone(), QUESTIONS)
    }

    /// Whether it tried to exceed its allowance.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Records that the name does not exist: its request need not ask again.
    pub(super) fn deny(&mut self, name: &str) {
        self.denied.push(name.into());
    }

    /// Whether DNS denied this name.
    pub(super) fn is_denied(&self, name: &str) -> bool {
        self.denied.iter().any(|it| **it == *name)
    }

    /// Takes one look-up from its allowance.
    fn spend(&mut self) -> bool {
        match self.questions.checked_sub(QUESTIONS) {
            Some(left) => self.questions = left,
            None => self.spent = true,
        }
        !self.spent
    }
}

/// Why a name was not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The client has its share of look-ups in progress, or had more, and this one was given up for another client.
    Client = 0,
    /// The node has reached its limit, and no client has more than its share.
    Node = 1,
    /// The request has reached its limit of questions.
    Request = 2,
    /// weir is stopping.
    Stopping = 3,
}

impl Busy {
    /// The labels of [`LookUps::refused`], in order.
    pub const LABELS: [&'static str; 4] = ["client", "node", "request", "stopping"];
}

/// What is asked, and from where.
type Question = (Source, Box<str>);

/// The result of a look-up.
type Told = Result<Answer, DnsError>;

/// The look-ups in progress.
#[derive(Debug, Default)]
pub struct LookUps {
    state: Mutex<State>,
    /// Look-ups that were not started, by reason: [`Busy::LABELS`].
    pub refused: [Counter; Busy::LABELS.len()],
}

#[derive(Debug)]
struct State {
    names: HashMap<Question, UnderWay>,
    ledger: Ledger<Group, HolderId>,
    next: u64,
}

#[derive(Debug)]
struct UnderWay {
    told: watch::Receiver<Option<Told>>,
    holder: Arc<Holder>,
    /// The later, the higher.
    number: u64,
    /// Ends it; none before it has begun.
    stop: Option<AbortHandle>,
}

/// A look-up in progress.
struct Turn {
    all: Arc<LookUps>,
    question: Question,
    number: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { names: HashMap::new(), ledger: Ledger::new(0), next: 0 }
    }
}

impl LookUps {
    /// How many are in progress.
    pub fn under_way(&self) -> usize {
        self.state.lock().names.len()
    }

    /// The result of `ask`, which runs on `control`, for `name`; or the result of another request's look-up of it that
    /// is in progress. At most `most` run at the same time.
    pub(super) async fn answer<A>(
        self: &Arc<Self>,
        name: &str,
        asker: &mut Asker,
        most: usize,
        control: &Handle,
        ask: impl Fn(Box<str>) -> A,
    ) -> Result<Told, Busy>
    where
        A: Future<Output = Told> + Send + 'static,
    {
        let mut busy = Busy::Stopping;
        // Another client's look-up may be given up for a third one: then this client asks itself.
        for _ in 0..2 {
            let joined = self.join(name, asker, most, control, &ask);
            let (mut told, is_own) = joined.inspect_err(|why| self.refused[*why as usize].inc())?;
            let told = told.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
            match told {
                Some(told) => return Ok(told),
                None if is_own => {
                    busy = Busy::Client;
                    break;
                }
                None => {}
            }
        }
        self.refused[busy as usize].inc();
        Err(busy)
    }

    /// What is told of `name`, and whether this client has begun to ask.
    fn join<A>(
        self: &Arc<Self>,
        name: &str,
        asker: &mut Asker,
        most: usize,
        control: &Handle,
        ask: &impl Fn(Box<str>) -> A,
    ) -> Result<(watch::Receiver<Option<Told>>, bool), Busy>
    where
        A: Future<Output = Told> + Send + 'static,
    {
        let question = (asker.source(), Box::from(name));
        let mut state = self.state.lock();
        if let Some(there) = state.names.get(&question) {
            return Ok((there.told.clone(), false));
        }
        state.ledger.set_limit(most);
        let gives_way = state.gives_way(&asker.holder)?;
        if !asker.spend() {
            return Err(Busy::Request);
        }
        if let Some(oldest) = gives_way {
            state.end(&oldest);
        }
        let (tell, told) = watch::channel(None);
        let number = state.begin(question.clone(), &asker.holder, told.clone());
        drop(state);
        let turn = Turn { all: self.clone(), question: question.clone(), number };
        let asking = ask(name.into());
        // It continues when its request is gone: others may wait for it.
        let task = control.spawn(async move {
            let answer = asking.await;
            drop(turn);
            tell.send_replace(Some(answer));
        });
        self.state.lock().may_stop(&question, number, task.abort_handle());
        Ok((told, true))
    }
}

impl State {
    /// The look-up that ends, if that is needed for one more of `holder`.
    fn gives_way(&self, holder: &Holder) -> Result<Option<Question>, Busy> {
        if !self.ledger.is_full() {
            return Ok(None);
        }
        let Some((_, from)) = self.ledger.gives_way(&holder.group, holder.id) else {
            let own = self.ledger.used_by(&holder.group, holder.id).own;
            return Err(if own > 0 { Busy::Client } else { Busy::Node });
        };
        let of = self.names.iter().filter(|(_, it)| it.holder.id == from);
        let oldest = of.min_by_key(|(_, it)| it.number).map(|(question, _)| question.clone());
        oldest.map(Some).ok_or(Busy::Node)
    }

    fn begin(
        &mut self,
        question: Question,
        holder: &Arc<Holder>,
        told: watch::Receiver<Option<Told>>,
    ) -> u64 {
        self.next += 1;
        self.ledger.add(&holder.group, holder.id);
        let holder = holder.clone();
        self.names.insert(question, UnderWay { told, holder, number: self.next, stop: None });
        self.next
    }

    /// Look-up `number` can be ended by `stop`. It may be over already, or given up.
    fn may_stop(&mut self, question: &Question, number: u64, stop: AbortHandle) {
        match self.names.get_mut(question) {
            Some(there) if there.number == number => there.stop = Some(stop),
            Some(_) | None => stop.abort(),
        }
    }

    /// Forgets a look-up, and stops it.
    fn end(&mut self, question: &Question) {
        let Some(there) = self.names.remove(question) else { return };
        self.ledger.remove(&there.holder.group, there.holder.id);
        if let Some(stop) = there.stop {
            stop.abort();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        if state.names.get(&self.question).is_some_and(|it| it.number == self.number)
            && let Some(there) = state.names.remove(&self.question)
        {
            state.ledger.remove(&there.holder.group, there.holder.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::proxy::holders::Holders;

    fn client(holders: &Holders, last: u8) -> Asker {
        Asker::new(holders.of([10, 1, 0, last].into(), None), None, 100_000)
    }

    /// How many names that never answer `asker` gets in progress, and why not more.
    fn fill(look_ups: &Arc<LookUps>, asker: &mut Asker, most: usize, prefix: &str) -> (usize, Busy) {
        let mut begun = 0;
        loop {
            let name = format!("{prefix}{begun}.test");
            match look_ups.join(&name, asker, most, &Handle::current(), &|_| pending()) {
                Ok(_) => begun += 1,
                Err(why) => return (begun, why),
            }
        }
    }

    fn used(look_ups: &Arc<LookUps>, asker: &Asker) -> usize {
        look_ups.state.lock().ledger.used_by(&asker.holder.group, asker.holder.id).own
    }

    #[tokio::test]
    async fn whatever_some_clients_ask_another_one_gets_its_share() {
        let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
        let mut greedy = client(&holders, 1);
        assert_eq!(fill(&look_ups, &mut greedy, 256, "a-"), (256, Busy::Client), "alone it may have all");
        let mut second = client(&holders, 2);
        assert_eq!(fill(&look_ups, &mut second, 256, "b-"), (128, Busy::Client));
        assert_eq!((used(&look_ups, &greedy), look_ups.under_way()), (128, 256));
        // Nobody takes the others' any more: they have their shares.
        assert_eq!(fill(&look_ups, &mut greedy, 256, "c-"), (0, Busy::Client));
    }

    #[tokio::test]
    async fn a_hundred_clients_of_one_namespace_take_nothing_from_another_one() {
        use crate::domain::pods::{Clients, NodePods, Pod};
        let pod = |number: u8| Pod {
            namespace: if number == 0 { "shop" } else { "mob" }.into(),
            name: format!("pod-{number}").into(),
            host_network: false,
            finished: false,
            cgroup_uid: "".into(),
            addresses: vec![[10, 1, 0, number].into()],
            wishes: Default::default(),
        };
        let pods = (0..=100).map(|number| (number.to_string().into(), Arc::new(pod(number)))).collect();
        let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
        holders.tell(Arc::new(Clients::new(&NodePods { pods, known: true, ..NodePods::default() })));
        let mut mob: Vec<Asker> = (1..=100).map(|number| client(&holders, number)).collect();
        for (number, asker) in mob.iter_mut().enumerate() {
            fill(&look_ups, asker, 256, &format!("m{number}-"));
        }
        assert_eq!(look_ups.under_way(), 256);
        let mut honest = client(&holders, 0);
        assert_eq!(fill(&look_ups, &mut honest, 256, "h-").0, 128);
        for (number, asker) in mob.iter_mut().enumerate() {
            fill(&look_ups, asker, 256, &format!("n{number}-"));
        }
        assert_eq!(used(&look_ups, &honest), 128);
    }

    #[tokio::test]
    async fn the_oldest_look_up_is_given_up_and_who_waited_for_it_asks_again() {
        let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
        let (mut greedy, mut other, control) = (client(&holders, 1), client(&holders, 2), Handle::current());
        let asked = Arc::new(AtomicUsize::new(0));
        let (own, second) = (asked.clone(), asked.clone());
        // The first one never answers, and whoever asks again is told something.
        let ask = move |_: Box<str>| {
            let is_first = own.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if is_first {
                    pending::<()>().await;
                }
                Err(DnsError::NoSuchName)
            }
        };
        let all = look_ups.clone();
        let first =
            tokio::spawn(async move { all.answer("a.test", &mut greedy, 2, &Handle::current(), ask).await });
        while look_ups.under_way() == 0 {
            tokio::task::yield_now().await;
        }
        let (all, mut waits) = (look_ups.clone(), client(&holders, 3));
        let joined = tokio::spawn(async move {
            let ask = |_: Box<str>| async { Err(DnsError::NoAddress) };
            all.answer("a.test", &mut waits, 2, &Handle::current(), ask).await
        });
        tokio::task::yield_now().await;
        let mut again = client(&holders, 1);
        assert!(look_ups.join("b.test", &mut again, 2, &control, &|_| pending()).is_ok());
        assert!(look_ups.join("c.test", &mut other, 2, &control, &|_| pending()).is_ok());
        assert_eq!(first.await.unwrap(), Err(Busy::Client));
        assert_eq!(second.load(Ordering::SeqCst), 1);
        // It has none yet, but neither has any other one more than one.
        assert!(matches!(joined.await.unwrap(), Err(Busy::Node) | Ok(Err(DnsError::NoAddress))));
        assert_eq!(look_ups.refused[Busy::Client as usize].value(), 1);
    }

    #[tokio::test]
    async fn the_bound_on_all_holds_and_what_is_over_makes_room() {
        let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
        let client = |last| client(&holders, last);
        let (told, wait) = watch::channel(false);
        let ask = |_: Box<str>| {
            let mut wait = wait.clone();
            async move {
                let _ = wait.wait_for(|is_told| *is_told).await;
                Err(DnsError::NoSuchName)
            }
        };
        let control = Handle::current();
        let (mut first, _) = look_ups.join("a.test", &mut client(1), 1, &control, &ask).unwrap();
        let second = look_ups.join("a.test", &mut client(2), 1, &control, &|_| pending());
        assert!(second.is_ok(), "it waits for the same");
        let third = look_ups.join("b.test", &mut client(2), 1, &control, &|_| pending());
        assert_eq!(third.unwrap_err(), Busy::Node);
        told.send(true).unwrap();
        let answer = first.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(answer, Some(Err(DnsError::NoSuchName)));
        assert_eq!(second.unwrap().0.borrow().clone(), Some(Err(DnsError::NoSuchName)));
        assert_eq!((look_ups.under_way(), look_ups.state.lock().ledger.used()), (0, 0));
    }

    #[tokio::test]
    async fn a_request_may_ask_only_so_much_and_waits_for_others_as_it_likes() {
        let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
        fill(&look_ups, &mut client(&holders, 1), 16, "other");
        let mut asker = Asker::new(holders.of([10, 1, 0, 2].into(), None), None, 3);
        let control = Handle::current();
        let mut join = |name: &str| look_ups.join(name, &mut asker, 256, &control, &|_| pending()).map(drop);
        assert_eq!(join("a.test"), Ok(()));
        assert_eq!(join("b.test"), Err(Busy::Request));
        assert_eq!(join("other0.test"), Ok(()));
        assert!(asker.is_spent());
    }

    #[tokio::test]
    async fn an_answer_reaches_everybody_who_waits_for_it() {
        let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
        let answer = Answer { addresses: vec![[10, 1, 0, 9].into()], valid_until: Instant::now() };
        let slow = |_: Box<str>| {
            let given = answer.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(given)
            }
        };
        let control = Handle::current();
        let (mut one, mut two) = (client(&holders, 1), client(&holders, 2));
        let (first, second) = tokio::join!(
            look_ups.answer("a.test", &mut one, 1, &control, slow),
            look_ups.answer("a.test", &mut two, 1, &control, |_| pending()),
        );
        assert_eq!((first, second), (Ok(Ok(answer.clone())), Ok(Ok(answer))));
    }
}
