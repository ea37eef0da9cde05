//! The task that keeps the catalog up to date.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::build::build;
use super::folder::Folder;
use super::lookup::{Known, LookUp, Outcome, look_up_all};
use super::pending::Dirty;
use super::watcher::{self, Watcher};
use super::{FileProblem, Watched, unlistable};
use crate::config::Files;
use crate::domain::catalog::Catalog;
use crate::domain::pods::NodePods;

/// How long the look-up of host names may delay the first catalog.
const FIRST_LOOK_UP: Duration = Duration::from_secs(1);
/// Maximum time of a later look-up.
const LOOK_UP: Duration = Duration::from_secs(10);
/// Interval between look-ups of host names.
const AGAIN: Duration = Duration::from_secs(30);

/// This node's name, from the downward API: only its pods are enrolled.
const NODE_NAME: &str = "NODE_NAME";

struct Task {
    files: Files,
    /// `None` while a blocking thread reads it.
    folder: Option<Folder>,
    known: Known,
    names: BTreeSet<Arc<str>>,
    look_up: LookUp,
    /// Whether a look-up is running: one round at a time.
    looking_up: bool,
    answers: (mpsc::Sender<Vec<Outcome>>, mpsc::Receiver<Vec<Outcome>>),
    again: Instant,
    /// This node's name, if set.
    node: Option<String>,
    catalog: watch::Sender<Arc<Catalog>>,
    node_pods: watch::Sender<Arc<NodePods>>,
    problems: watch::Sender<Arc<Vec<FileProblem>>>,
    left_out: watch::Sender<usize>,
}

enum Wake {
    Files(Dirty),
    Answers(Vec<Outcome>),
    LookUpAgain,
}

/// Implements [`watch_files`](super::watch_files), with the given resolver.
pub(super) fn start(
    mut files: Files,
    look_up: LookUp,
    shutdown: CancellationToken,
) -> anyhow::Result<(Watched, impl Future<Output = ()> + Send + 'static)> {
    files.path = watcher::absolute(&files.path).with_context(|| unlistable(&files.path))?;
    // Watch first, then read: a change in between is then an event and not lost.
    let mut watcher = Watcher::new(&files.path);
    let folder = Folder::open(files.clone()).with_context(|| unlistable(&files.path))?;
    watcher.follow_below(folder.folders());
    let node = std::env::var(NODE_NAME).ok().filter(|name| !name.is_empty());
    let mut known = Known::default();
    let mut built = build(&folder, node.as_deref(), &known, &Catalog::default());
    if !built.names.is_empty() {
        known.learn(look_up_all(&built.names, FIRST_LOOK_UP, look_up));
        built = build(&folder, node.as_deref(), &known, &Catalog::default());
    }
    report_new(&[], &built.problems);
    let (catalog, catalog_watch) = watch::channel(Arc::new(built.catalog));
    let (node_pods, residents_watch) = watch::channel(Arc::new(built.node_pods));
    let (problems, problems_watch) = watch::channel(Arc::new(built.problems));
    let (left_out, left_out_watch) = watch::channel(folder.left_out());
    let mut task = Task {
        files,
        folder: Some(folder),
        known,
        names: built.names,
        look_up,
        looking_up: false,
        answers: mpsc::channel(1),
        again: Instant::now() + AGAIN,
        node,
        catalog,
        node_pods,
        problems,
        left_out,
    };
    let run = async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = task.run(watcher) => {}
        }
    };
    let watched = Watched {
        catalog: catalog_watch,
        node_pods: residents_watch,
        problems: problems_watch,
        left_out: left_out_watch,
    };
    Ok((watched, run))
}

impl Task {
    async fn run(&mut self, mut watcher: Watcher) {
        let mut look = watcher::look();
        loop {
            let wake = tokio::select! {
                dirty = watcher.next(&mut look) => Wake::Files(dirty),
                Some(answers) = self.answers.1.recv() => Wake::Answers(answers),
                () = time::sleep_until(self.again), if !self.looking_up && !self.names.is_empty() => Wake::LookUpAgain,
            };
            match wake {
                Wake::Files(dirty) => {
                    let changed = self.read(dirty).await;
                    if let Some(folder) = &self.folder {
                        watcher.follow_below(folder.folders());
                    }
                    if !changed {
                        continue;
                    }
                }
                Wake::Answers(answers) => {
                    self.looking_up = false;
                    self.known.learn(answers);
                }
                Wake::LookUpAgain => {
                    self.again = Instant::now() + AGAIN;
                    self.look_up(self.names.clone());
                    continue;
                }
            }
            self.rebuild();
        }
    }

    /// Reads what has changed, on a blocking thread; returns whether there was anything.
    async fn read(&mut self, dirty: Dirty) -> bool {
        let (folder, files) = (self.folder.take(), self.files.clone());
        let read = task::spawn_blocking(move || match folder {
            Some(mut folder) => {
                let changed = folder.refresh(&dirty);
                Ok((folder, changed))
            }
            // The last reader panicked and its folder was lost.
            None => Folder::open(files).map(|folder| (folder, true)),
        });
        let error = match read.await {
            Ok(Ok((folder, changed))) => {
                self.folder = Some(folder);
                return changed;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(%error, "service files are not read; the last catalog stays");
        false
    }

    fn rebuild(&mut self) {
        let Some(folder) = &self.folder else { return };
        self.left_out.send_replace(folder.left_out());
        let before = Arc::clone(&self.catalog.borrow());
        let built = build(folder, self.node.as_deref(), &self.known, &before);
        self.look_up_new(&built.names);
        if built.catalog != *before {
            self.catalog.send_replace(Arc::new(built.catalog));
        }
        if built.node_pods != **self.node_pods.borrow() {
            self.node_pods.send_replace(Arc::new(built.node_pods));
        }
        let before = Arc::clone(&self.problems.borrow());
        if built.problems != *before {
            report_new(&before, &built.problems);
            self.problems.send_replace(Arc::new(built.problems));
        }
    }

    /// Looks up names that were never looked up.
    fn look_up_new(&mut self, names: &BTreeSet<Arc<str>>) {
        if self.names.is_empty() {
            self.again = Instant::now() + AGAIN;
        }
        if *names != self.names {
            self.names.clone_from(names);
            self.known.retain(names);
        }
        let new: BTreeSet<_> = names.iter().filter(|name| !self.known.has(name)).cloned().collect();
        if !new.is_empty() && !self.looking_up {
            self.look_up(new);
        }
    }

    /// Starts a round of look-ups. Not on the runtime's blocking threads: a resolver that hangs would delay the
    /// shutdown.
    fn look_up(&mut self, names: BTreeSet<Arc<str>>) {
        let (look_up, answers) = (self.look_up, self.answers.0.clone());
        let round = move || {
            // If nobody receives the answers, the task has ended.
            let _ = answers.blocking_send(look_up_all(&names, LOOK_UP, look_up));
        };
        match thread::Builder::new().name("look-ups".to_owned()).spawn(round) {
            Ok(_) => self.looking_up = true,
            Err(error) => tracing::warn!(%error, "no thread to look host names up"),
        }
    }
}

/// Logs new problems.
fn report_new(before: &[FileProblem], now: &[FileProblem]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        tracing::warn!(%problem, "service file");
    }
}
