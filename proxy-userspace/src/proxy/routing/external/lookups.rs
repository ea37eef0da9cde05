//! Look-ups in progress: one per name, however many requests wait for it, with a limit on all and a share for each
//! client.
//!
//! The look-up of a name that never answers lasts until its timeout. Without shares, one client with enough such names
//! would block the look-ups of all others. A client may have a quarter of what the others leave free, which keeps some
//! for the next client: the dynamic threshold of shared switch memory (Choudhury and Hahne, "Dynamic Queue Length
//! Thresholds for Shared-Memory Packet Switches", 1998).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::discovery::dns::{Answer, DnsError};
use crate::telemetry::Counter;

/// Questions of one look-up: a name's A and AAAA records.
const QUESTIONS: usize = 2;

/// The client that asks, and how much more its request may ask.
#[derive(Debug)]
pub struct Asker {
    client: IpAddr,
    questions: usize,
    spent: bool,
    /// Names that DNS denied for it.
    denied: Vec<Box<str>>,
}

impl Asker {
    /// A request of `client` that may cause up to `questions` DNS questions.
    pub fn new(client: IpAddr, questions: usize) -> Self {
        Self { client: client.to_canonical(), questions, spent: false, denied: Vec::new() }
    }

    /// The same client, for one look-up that its request does not wait for.
    pub(super) fn once(&self) -> Self {
        Self::new(self.client, QUESTIONS)
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
    /// The client has reached its share of look-ups in progress.
    Client = 0,
    /// The node has reached its limit.
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

/// The result of a look-up.
type Told = Result<Answer, DnsError>;

/// The look-ups in progress.
#[derive(Debug, Default)]
pub struct LookUps {
    state: Mutex<State>,
    /// Look-ups that were not started, by reason: [`Busy::LABELS`].
    pub refused: [Counter; Busy::LABELS.len()],
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<Box<str>, watch::Receiver<Option<Told>>>,
    /// How many of them each client has started.
    clients: HashMap<IpAddr, usize>,
}

/// A look-up in progress.
struct Turn {
    all: Arc<LookUps>,
    name: Box<str>,
    client: IpAddr,
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
        ask: impl FnOnce(Box<str>) -> A,
    ) -> Result<Told, Busy>
    where
        A: Future<Output = Told> + Send + 'static,
    {
        let mut told = self.join(name, asker, most, control, ask).inspect_err(|why| {
            self.refused[*why as usize].inc();
        })?;
        let told = told.wait_for(Option::is_some).await;
        told.ok().and_then(|told| told.clone()).ok_or(Busy::Stopping)
    }

    fn join<A>(
        self: &Arc<Self>,
        name: &str,
        asker: &mut Asker,
        most: usize,
        control: &Handle,
        ask: impl FnOnce(Box<str>) -> A,
    ) -> Result<watch::Receiver<Option<Told>>, Busy>
    where
        A: Future<Output = Told> + Send + 'static,
    {
        let mut state = self.state.lock();
        if let Some(told) = state.names.get(name) {
            return Ok(told.clone());
        }
        let free = most.saturating_sub(state.names.len());
        let own = state.clients.get(&asker.client).copied().unwrap_or_default();
        may_begin(own, free)?;
        if !asker.spend() {
            return Err(Busy::Request);
        }
        let (tell, told) = watch::channel(None);
        state.names.insert(name.into(), told.clone());
        *state.clients.entry(asker.client).or_default() += 1;
        drop(state);
        let turn = Turn { all: self.clone(), name: name.into(), client: asker.client };
        let asking = ask(name.into());
        // It continues when its request is gone: others may wait for it.
        control.spawn(async move {
            let answer = asking.await;
            drop(turn);
            tell.send_replace(Some(answer));
        });
        Ok(told)
    }
}

/// A client may have one in this many of the free look-ups.
const SHARE: usize = 4;

/// Whether a client with `own` look-ups in progress may start one more while `free` are left.
fn may_begin(own: usize, free: usize) -> Result<(), Busy> {
    match (own, free) {
        (_, 0) => Err(Busy::Node),
        (0, _) => Ok(()),
        _ if own < free / SHARE => Ok(()),
        _ => Err(Busy::Client),
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        state.names.remove(&self.name);
        let Some(own) = state.clients.get_mut(&self.client) else { return };
        *own -= 1;
        if *own == 0 {
            state.clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::{Duration, Instant};

    use super::*;

    fn client(last: u8) -> Asker {
        Asker::new([10, 1, 0, last].into(), 1000)
    }

    /// How many names that never answer `asker` gets in progress, and why not more.
    fn fill(look_ups: &Arc<LookUps>, asker: &mut Asker, most: usize, prefix: &str) -> (usize, Busy) {
        let mut begun = 0;
        loop {
            let name = format!("{prefix}{begun}.test");
            match look_ups.join(&name, asker, most, &Handle::current(), |_| pending()) {
                Ok(_) => begun += 1,
                Err(why) => return (begun, why),
            }
        }
    }

    #[tokio::test]
    async fn whatever_some_clients_ask_another_one_gets_its_share() {
        let look_ups = Arc::new(LookUps::default());
        let mut shares = Vec::new();
        for number in 0..20 {
            let (begun, why) = fill(&look_ups, &mut client(number), 256, &format!("n{number}-"));
            assert_eq!(why, Busy::Client);
            shares.push(begun);
        }
        assert!(shares.iter().all(|&begun| begun > 0), "{shares:?}");
        assert!((40..=64).contains(&shares[0]), "alone it has a good part: {shares:?}");
        assert!(look_ups.under_way() < 256);
    }

    #[tokio::test]
    async fn the_bound_on_all_holds_and_what_is_over_makes_room() {
        let look_ups = Arc::new(LookUps::default());
        let (told, wait) = tokio::sync::oneshot::channel::<()>();
        let ask = |_: Box<str>| async {
            let _ = wait.await;
            Err(DnsError::NoSuchName)
        };
        let control = Handle::current();
        let mut first = look_ups.join("a.test", &mut client(1), 1, &control, ask).unwrap();
        let second = look_ups.join("a.test", &mut client(2), 1, &control, |_| pending());
        assert!(second.is_ok(), "it waits for the same");
        let third = look_ups.join("b.test", &mut client(2), 1, &control, |_| pending());
        assert_eq!(third.unwrap_err(), Busy::Node);
        told.send(()).unwrap();
        let answer = first.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(answer, Some(Err(DnsError::NoSuchName)));
        assert_eq!(second.unwrap().borrow().clone(), Some(Err(DnsError::NoSuchName)));
        assert_eq!((look_ups.under_way(), look_ups.state.lock().clients.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_request_may_ask_only_so_much_and_waits_for_others_as_it_likes() {
        let look_ups = Arc::new(LookUps::default());
        fill(&look_ups, &mut client(1), 16, "other");
        let mut asker = Asker::new([10, 1, 0, 2].into(), 3);
        let control = Handle::current();
        let mut join = |name: &str| look_ups.join(name, &mut asker, 256, &control, |_| pending()).map(drop);
        assert_eq!(join("a.test"), Ok(()));
        assert_eq!(join("b.test"), Err(Busy::Request));
        assert_eq!(join("other0.test"), Ok(()));
        assert!(asker.is_spent());
    }

    #[tokio::test]
    async fn an_answer_reaches_everybody_who_waits_for_it() {
        let look_ups = Arc::new(LookUps::default());
        let answer = Answer { addresses: vec![[10, 1, 0, 9].into()], valid_until: Instant::now() };
        let given = answer.clone();
        let slow = |_: Box<str>| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(given)
        };
        let control = Handle::current();
        let (mut one, mut two) = (client(1), client(2));
        let (first, second) = tokio::join!(
            look_ups.answer("a.test", &mut one, 1, &control, slow),
            look_ups.answer("a.test", &mut two, 1, &control, |_| pending()),
        );
        assert_eq!((first, second), (Ok(Ok(answer.clone())), Ok(Ok(answer))));
    }
}
