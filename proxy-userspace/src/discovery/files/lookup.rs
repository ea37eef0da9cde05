//! Host names in service files: resolved by the system's resolver, outside async threads.
//!
//! If a look-up fails, the name keeps its last addresses. Names are looked up again every 30 s, because the system's
//! resolver does not report a TTL.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The look-up function; tests replace it.
pub(super) type LookUp = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Maximum concurrent look-ups.
const AT_ONCE: usize = 8;
/// Maximum addresses used per name.
const ADDRESSES: usize = 256;

/// The results for every name in the files.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(BTreeMap<Arc<str>, Answer>);

#[derive(Clone, Debug, Default)]
struct Answer {
    /// The last successful result, sorted.
    addresses: Vec<IpAddr>,
    /// Why the last look-up failed.
    error: Option<String>,
}

/// The outcome of one look-up.
pub(super) type Outcome = (Arc<str>, Result<Vec<IpAddr>, String>);

impl Known {
    /// The last successful addresses of `name`.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map_or(&[], |answer| &answer.addresses)
    }

    /// Why the last look-up of `name` failed.
    pub(super) fn error(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.error.as_deref()
    }

    /// Whether `name` was looked up before.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Drops names that no file uses any more.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<Arc<str>>) {
        self.0.retain(|name, _| wanted.contains(name));
    }

    /// Stores the outcomes of look-ups.
    pub(super) fn learn(&mut self, outcomes: Vec<Outcome>) {
        for (name, outcome) in outcomes {
            let answer = self.0.entry(name).or_default();
            match outcome {
                Ok(addresses) => *answer = Answer { addresses, error: None },
                Err(error) => answer.error = Some(error),
            }
        }
    }
}

/// Calls the system's resolver.
pub(super) fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Looks up `names`, a few at a time, and returns the results that arrive `within` the time; the others have failed.
/// Blocks. A look-up that hangs stays on its thread and ends by the resolver's own timeout.
pub(super) fn look_up_all(names: &BTreeSet<Arc<str>>, within: Duration, look_up: LookUp) -> Vec<Outcome> {
    let deadline = Instant::now() + within;
    let queue = Arc::new(Mutex::new(names.iter().cloned().collect::<Vec<_>>()));
    let (answers, answered) = mpsc::channel();
    for _ in 0..names.len().min(AT_ONCE) {
        let (queue, answers) = (Arc::clone(&queue), answers.clone());
        let work = move || {
            // A closure, so that the lock is not held during a look-up.
            let next = || queue.lock().pop();
            while let Some(name) = next() {
                let outcome = checked(look_up(&name));
                if answers.send((name, outcome)).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("look-up".to_owned()).spawn(work) {
            tracing::debug!(%error, "no thread for a look-up");
        }
    }
    drop(answers);
    collect(names, &answered, deadline)
}

fn collect(
    names: &BTreeSet<Arc<str>>,
    answered: &mpsc::Receiver<Outcome>,
    deadline: Instant,
) -> Vec<Outcome> {
    let mut missing = names.clone();
    let mut outcomes = Vec::new();
    while !missing.is_empty() {
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(outcome) => {
                missing.remove(&outcome.0);
                outcomes.push(outcome);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    outcomes.extend(missing.into_iter().map(|name| (name, Err("no answer in time".to_owned()))));
    outcomes
}

fn checked(answer: io::Result<Vec<IpAddr>>) -> Result<Vec<IpAddr>, String> {
    let mut addresses = answer.map_err(|error| error.to_string())?;
    for address in &mut addresses {
        *address = address.to_canonical();
    }
    addresses.retain(|address| !address.is_unspecified() && !address.is_multicast());
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES);
    if addresses.is_empty() { Err("it has no addresses".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn fake(name: &str) -> io::Result<Vec<IpAddr>> {
        match name {
            "hangs" => {
                thread::sleep(Duration::from_secs(2));
                Ok(vec![[10, 0, 0, 9].into()])
            }
            "fails" => Err(io::Error::other("no such name")),
            "zero" => Ok(vec![[0, 0, 0, 0].into()]),
            _ => Ok(vec![[10, 0, 0, 2].into(), [10, 0, 0, 1].into(), [10, 0, 0, 2].into()]),
        }
    }

    #[test]
    fn a_name_that_hangs_holds_up_no_other() {
        let started = Instant::now();
        let outcomes =
            look_up_all(&names(&["a", "b", "fails", "hangs", "zero"]), Duration::from_millis(200), fake);
        assert!(started.elapsed() < Duration::from_secs(1));
        let mut known = Known::default();
        known.learn(outcomes);
        let expected: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        assert_eq!(known.addresses("a"), expected);
        assert_eq!(known.addresses("b"), expected);
        assert_eq!(known.error("fails"), Some("no such name"));
        assert_eq!(known.error("zero"), Some("it has no addresses"));
        assert_eq!(known.error("hangs"), Some("no answer in time"));
    }

    #[test]
    fn a_name_that_fails_keeps_its_last_good_addresses() {
        let mut known = Known::default();
        known.learn(vec![("a".into(), Ok(vec![[10, 0, 0, 1].into()]))]);
        known.learn(vec![("a".into(), Err("gone".to_owned()))]);
        assert_eq!(known.addresses("a").len(), 1);
        assert_eq!(known.error("a"), Some("gone"));
        known.retain(&names(&["b"]));
        assert!(!known.has("a"));
    }
}
