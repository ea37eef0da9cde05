//! Steps in the pods' network namespaces that are not on the way of a connection.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;

use crate::intercept::NetnsId;
use crate::transport::NetnsThread;

/// How long a step may take, its wait for the thread included.
pub(in crate::app) const LIMIT: Duration = Duration::from_secs(1);

/// The thread for such steps. At most one for each namespace is under way: one that the kernel is slow in costs the others
/// its time once, and not at every look.
pub(in crate::app) struct Looks {
    thread: NetnsThread,
    /// Steps that may still be under way.
    running: BTreeMap<NetnsId, Weak<()>>,
}

/// Why a step brought nothing.
#[derive(Debug)]
pub(in crate::app) enum NoLook {
    /// It, or the one before it there, takes too long.
    Busy,
    /// The kernel's error.
    Failed(io::Error),
}

impl Looks {
    pub(in crate::app) fn new(thread: NetnsThread) -> Self {
        Self { thread, running: BTreeMap::new() }
    }

    /// Runs `body` in the network namespace that `netns` returns, which is `id`.
    ///
    /// # Errors
    ///
    /// [`NoLook`]
    pub(in crate::app) async fn run<T: Send + 'static>(
        &mut self,
        id: NetnsId,
        netns: impl FnOnce() -> io::Result<OwnedFd> + Send + 'static,
        body: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, NoLook> {
        if self.running.get(&id).is_some_and(|it| it.strong_count() > 0) {
            return Err(NoLook::Busy);
        }
        let running = Arc::new(());
        self.running.insert(id, Arc::downgrade(&running));
        let step = self.thread.run(netns, move || {
            let _running = running;
            body()
        });
        match timeout(LIMIT, step).await {
            Ok(done) => done.map_err(NoLook::Failed),
            Err(_) => Err(NoLook::Busy),
        }
    }

    /// Forgets steps that have ended.
    pub(in crate::app) fn forget_ended(&mut self) {
        self.running.retain(|_, it| it.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc;

    use super::*;

    fn own() -> io::Result<OwnedFd> {
        File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    }

    #[tokio::test]
    async fn a_step_that_hangs_is_given_up_and_no_second_one_waits_behind_it() {
        let Ok(thread) = NetnsThread::start() else { return };
        let mut looks = Looks::new(thread.clone());
        let (go_on, hangs) = mpsc::channel::<()>();
        let hung = looks.run((1, 1), own, move || Ok(hangs.recv().is_err())).await;
        assert!(matches!(hung, Err(NoLook::Busy)), "{hung:?}");
        // Given up while it waits for the thread: it never runs.
        let (ran, runs) = mpsc::channel();
        let waits = looks.run((1, 2), own, move || Ok(ran.send("ran").is_ok())).await;
        assert!(matches!(waits, Err(NoLook::Busy)), "{waits:?}");
        // The hanging one is not asked again: the error comes at once, and nothing is put into the queue.
        let again = looks.run((1, 1), own, || Ok(())).await;
        assert!(matches!(again, Err(NoLook::Busy)), "{again:?}");
        drop(go_on);
        // What is behind them in the queue tells that both are over.
        thread.run(own, || Ok(())).await.unwrap();
        assert!(runs.recv().is_err());
        looks.run((1, 1), own, || Ok(())).await.unwrap();
        looks.forget_ended();
        assert!(looks.running.is_empty());
    }
}
