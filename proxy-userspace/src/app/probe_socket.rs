//! `probes.socket`: a Unix socket by which `weir probe` learns whether this very process lives and is ready.
//!
//! On the node's network two pods share the port of the probes' listener, so while one weir follows another, a probe over HTTP
//! says nothing of the one that is asked about. A file in a pod's own volume does.
//!
//! Whoever connects is told, and the connection closed; nothing is read. It is served by the control plane's thread, as the
//! probes' listener is.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use crate::control::State;

/// Maximum size of what is told: it fits into a socket's buffer, so it is written at once.
const MOST_BYTES: usize = 16 << 10;

/// The pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// What is told; the control plane's state is filled in once there is one.
#[derive(Clone, Default)]
pub(super) struct ProbeSocket(Arc<OnceLock<Arc<State>>>);

impl ProbeSocket {
    /// Answers at `path` from now on.
    ///
    /// # Errors
    ///
    /// The path cannot be listened at; one sentence.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let told = Self::default();
        if let Some(path) = path {
            let listener = listen(path)
                .with_context(|| format!("probes.socket: cannot listen at {}", path.display()))?;
            tokio::spawn(told.clone().answer(listener));
        }
        Ok(told)
    }

    /// From now on this is told of.
    pub(super) fn tell_of(&self, control: &Arc<State>) {
        let _ = self.0.set(control.clone());
    }

    async fn answer(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.write(&stream),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Whoever does not wait for the answer gets none.
    fn write(&self, stream: &UnixStream) {
        let (ready, report) = match self.0.get() {
            Some(control) => control.ready.report(),
            None => (false, "start: weir starts\n".to_owned()),
        };
        let mut text = format!("live\n{}\n{report}", if ready { "ready" } else { "not ready" });
        text.truncate(text.floor_char_boundary(MOST_BYTES));
        let _ = stream.try_write(text.as_bytes());
    }
}

/// Listens at `path`, in place of a socket that an earlier process has left there.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(facts) if facts.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => bail!("there is a file that is no socket"),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        Err(cause) => return Err(cause.into()),
    }
    let bound: io::Result<UnixListener> = UnixListener::bind(path);
    Ok(bound?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_socket_that_is_left_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _told = ProbeSocket::open(Some(&path)).unwrap();
        let mut text = String::new();
        std::os::unix::net::UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "live\nnot ready\nstart: weir starts\n");
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        let why = format!("{:#}", ProbeSocket::open(Some(&file)).err().unwrap());
        assert!(why.contains("probes.socket") && why.contains("no socket"), "{why}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        let nowhere = ProbeSocket::open(Some(&folder.path().join("none/weir.sock"))).err().unwrap();
        assert!(format!("{nowhere:#}").contains("No such file"), "{nowhere:#}");
    }
}
