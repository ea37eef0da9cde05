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

use super::asker::Asker;
use crate::discovery::dns::{Answer, DnsError};
use crate::domain::shares::Ledger;
use crate::proxy::holders::{Group, Holder, HolderId};
use crate::proxy::upstream::Source;
use crate::telemetry::Counter;

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
mod tests;
