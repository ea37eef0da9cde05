//! Who asks for the address of a name, and how much more it may ask.

use std::sync::Arc;

use crate::proxy::holders::Holder;
use crate::proxy::upstream::Source;
use crate::transport::PodNetns;

/// Questions of one look-up: a name's A and AAAA records.
const QUESTIONS: usize = 2;

/// The client that asks, and how much more its request may ask.
#[derive(Debug)]
pub struct Asker {
    pub(super) holder: Arc<Holder>,
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
    pub(super) fn spend(&mut self) -> bool {
        match self.questions.checked_sub(QUESTIONS) {
            Some(left) => self.questions = left,
            None => self.spent = true,
        }
        !self.spent
    }
}
