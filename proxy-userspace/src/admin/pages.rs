//! Pages whose size grows with the cluster: the metrics and the state.
//!
//! They are written on a separate thread, so that catalogs and kubelet's probes do not wait. A small page is kept: one
//! thread at a time writes it, and concurrent requests wait for it or get the previous page if it is recent. A large one
//! is written piece by piece as its client takes it (`chunks.rs`), for few clients at the same time (`slots.rs`), so that
//! it costs the same however large it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use super::Server;
use super::body::{PageBody, Streamed};
use super::chunks::{AHEAD, Chunks};
use super::serve::Asker;
use super::slots::Slots;
use crate::control::report;
use crate::proxy::memory::Refused;

/// Maximum age of a metrics page for clients other than the admin's.
const FRESH: Duration = Duration::from_secs(1);

/// Maximum size of a page that is kept.
const SMALL: usize = 256 << 10;

/// The pages.
#[derive(Debug, Default)]
pub(super) struct Pages {
    metrics: Known,
    state: Known,
    slots: Arc<Slots>,
}

/// What is known of one page.
#[derive(Debug, Default)]
struct Known {
    /// The last one, if it was small; locked while it is written.
    last: Arc<Mutex<Option<Small>>>,
    /// Whether the last one was large.
    large: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Small {
    text: Bytes,
    at: Instant,
}

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Metrics,
    State,
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPage {
    /// Memory is used up.
    Memory,
    /// It cannot be written.
    Failed(String),
}

impl Pages {
    /// The metrics as they are now, for this client.
    ///
    /// # Errors
    ///
    /// [`NoPage`]
    pub(super) async fn metrics(&self, server: &Arc<Server>, asker: &Asker) -> Result<PageBody, NoPage> {
        self.page(server, Kind::Metrics, asker, Duration::ZERO).await
    }

    /// The metrics of at most a second ago: written once a second, however many clients ask, where they are small.
    ///
    /// # Errors
    ///
    /// [`NoPage`]
    pub(super) async fn recent_metrics(
        &self,
        server: &Arc<Server>,
        asker: &Asker,
    ) -> Result<PageBody, NoPage> {
        self.page(server, Kind::Metrics, asker, FRESH).await
    }

    /// The state as it is now.
    ///
    /// # Errors
    ///
    /// [`NoPage`]
    pub(super) async fn state(&self, server: &Arc<Server>, asker: &Asker) -> Result<PageBody, NoPage> {
        self.page(server, Kind::State, asker, Duration::ZERO).await
    }

    async fn page(
        &self,
        server: &Arc<Server>,
        kind: Kind,
        asker: &Asker,
        fresh: Duration,
    ) -> Result<PageBody, NoPage> {
        let known = match kind {
            Kind::Metrics => &self.metrics,
            Kind::State => &self.state,
        };
        if !known.large.load(Ordering::Relaxed)
            && let Some(text) = known.small(server, kind, fresh).await?
        {
            return Ok(text.into());
        }
        let memory = &server.control.shared.memory;
        if memory.is_full() {
            memory.refused[Refused::Page as usize].inc();
            return Err(NoPage::Memory);
        }
        let slot = self.slots.acquire(asker.client.ip(), &asker.cut).await;
        let (told, chunks) = mpsc::channel(AHEAD);
        let (server, large) = (server.clone(), known.large.clone());
        start(move || {
            let mut page = Chunks::passed(told);
            if write(&server, kind, &mut page).is_ok() {
                large.store(page.end().0 > SMALL / 2, Ordering::Relaxed);
            }
        })?;
        Ok(PageBody::Streamed(Streamed::new(chunks, slot)))
    }
}

impl Known {
    /// The page, if it is small.
    async fn small(
        &self,
        server: &Arc<Server>,
        kind: Kind,
        fresh: Duration,
    ) -> Result<Option<Bytes>, NoPage> {
        let last = self.last.clone().lock_owned().await;
        match &*last {
            Some(page) if page.at.elapsed() < fresh => return Ok(Some(page.text.clone())),
            Some(_) | None => {}
        }
        let writing = write_small(last, server.clone(), kind, self.large.clone());
        // To its end even if its client leaves: who disconnects must not cause a second thread beside the first.
        tokio::spawn(writing).await.unwrap_or_else(|_| Err(defect()))
    }
}

/// Writes a page that is small; `None` if it is not.
async fn write_small(
    mut last: OwnedMutexGuard<Option<Small>>,
    server: Arc<Server>,
    kind: Kind,
    large: Arc<AtomicBool>,
) -> Result<Option<Bytes>, NoPage> {
    let (tell, told) = oneshot::channel();
    start(move || {
        let mut page = Chunks::kept(SMALL);
        let written = write(&server, kind, &mut page);
        let _ = tell.send(written.is_ok().then(|| page.end().1));
    })?;
    let text = told.await.map_err(|_| defect())?;
    large.store(text.is_none(), Ordering::Relaxed);
    *last = text.clone().map(|text| Small { text, at: Instant::now() });
    Ok(text)
}

/// Writes a page. An error says that its end was not needed.
fn write(server: &Arc<Server>, kind: Kind, page: &mut Chunks) -> Result<(), ()> {
    match kind {
        Kind::Metrics => server.write_metrics(page).map_err(drop),
        Kind::State => report::write(&server.control, page).map_err(drop),
    }
}

fn start(write: impl FnOnce() + Send + 'static) -> Result<(), NoPage> {
    // Not the runtime's blocking threads: tokio panics if the node cannot start one.
    let thread = thread::Builder::new().name("weir-admin".to_owned());
    let started = thread.spawn(write);
    started.map(drop).map_err(|cause| NoPage::Failed(format!("no thread for it: {cause}")))
}

fn defect() -> NoPage {
    NoPage::Failed("this is a bug in weir: the thread that writes the page has panicked".to_owned())
}
