//! Pages that grow with the cluster: the metrics and the state.
//!
//! Each is written on a thread of its own, because catalogs and the answers to kubelet must not wait for it, and by no
//! more than one thread at a time. Whoever asks meanwhile waits for it, or is given what was written a moment ago.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::Server;
use crate::control::report;

/// How old a page of metrics may be that an outsider is given.
const FRESH: Duration = Duration::from_secs(1);

/// The pages, and who writes one.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// The last metrics; locked while anything is written.
    last: Arc<Mutex<Option<Metrics>>>,
}

#[derive(Debug)]
struct Metrics {
    text: Bytes,
    at: Instant,
}

impl Pages {
    /// The metrics as they are now.
    ///
    /// # Errors
    ///
    /// Why there are none: no thread to write them.
    pub(super) async fn metrics(&self, server: &Arc<Server>) -> Result<Bytes, String> {
        let last = self.last.clone().lock_owned().await;
        write_metrics(last, server.clone()).await
    }

    /// The metrics as they were within the last second: however many ask, they are written once a second.
    ///
    /// # Errors
    ///
    /// As [`Self::metrics`].
    pub(super) async fn recent_metrics(&self, server: &Arc<Server>) -> Result<Bytes, String> {
        let last = self.last.clone().lock_owned().await;
        match &*last {
            Some(page) if page.at.elapsed() < FRESH => Ok(page.text.clone()),
            Some(_) | None => write_metrics(last, server.clone()).await,
        }
    }

    /// The state as it is now.
    ///
    /// # Errors
    ///
    /// As [`Self::metrics`].
    pub(super) async fn state(&self, server: &Arc<Server>) -> Result<Bytes, String> {
        let (last, server) = (self.last.clone().lock_owned().await, server.clone());
        let writing = async move {
            let _last = last;
            on_a_thread(move || report::write(&server.control).into()).await
        };
        to_its_end(writing).await
    }
}

async fn write_metrics(
    mut last: OwnedMutexGuard<Option<Metrics>>,
    server: Arc<Server>,
) -> Result<Bytes, String> {
    to_its_end(async move {
        let text = on_a_thread(move || server.write_metrics().into()).await?;
        *last = Some(Metrics { text: text.clone(), at: Instant::now() });
        Ok(text)
    })
    .await
}

/// Runs a task that ends also when its caller leaves: a client that goes away must not start a second thread beside the
/// first.
async fn to_its_end(
    task: impl Future<Output = Result<Bytes, String>> + Send + 'static,
) -> Result<Bytes, String> {
    tokio::spawn(task).await.unwrap_or_else(|_| Err("a defect of weir's".to_owned()))
}

async fn on_a_thread(write: impl FnOnce() -> Bytes + Send + 'static) -> Result<Bytes, String> {
    let (tell, told) = oneshot::channel();
    // Not the runtime's blocking threads: it panics where the node has no room for one.
    let thread = thread::Builder::new().name("weir-admin".to_owned());
    match thread.spawn(move || drop(tell.send(write()))) {
        Ok(_) => told.await.map_err(|_| "a defect of weir's".to_owned()),
        Err(cause) => Err(format!("no thread for it: {cause}")),
    }
}
