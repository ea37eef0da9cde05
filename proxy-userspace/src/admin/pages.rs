//! Pages whose size grows with the cluster: the metrics and the state.
//!
//! They are written on a separate thread, so that catalogs and kubelet's probes do not wait, and by at most one thread
//! at a time. Concurrent requests wait for it or get the previous page if it is recent.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::Server;
use crate::control::report;

/// Maximum age of a metrics page for clients other than the admin's.
const FRESH: Duration = Duration::from_secs(1);

/// The pages, and the lock of their writer.
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

    /// The metrics of at most a second ago: written once a second, however many clients ask.
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

/// Runs a task to its end even if its caller is dropped: a client that disconnects must not cause a second thread
/// beside the first.
async fn to_its_end(
    task: impl Future<Output = Result<Bytes, String>> + Send + 'static,
) -> Result<Bytes, String> {
    tokio::spawn(task).await.unwrap_or_else(|_| Err("a defect of weir's".to_owned()))
}

async fn on_a_thread(write: impl FnOnce() -> Bytes + Send + 'static) -> Result<Bytes, String> {
    let (tell, told) = oneshot::channel();
    // Not the runtime's blocking threads: tokio panics if the node cannot start one.
    let thread = thread::Builder::new().name("weir-admin".to_owned());
    match thread.spawn(move || drop(tell.send(write()))) {
        Ok(_) => told.await.map_err(|_| "a defect of weir's".to_owned()),
        Err(cause) => Err(format!("no thread for it: {cause}")),
    }
}
