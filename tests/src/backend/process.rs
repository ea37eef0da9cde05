//! A backend in a process of its own, so that a test can kill it as an operating system does.

use std::net::SocketAddr;
use std::process::Stdio;

use test_support::process::Running;

use crate::net::place::Place;
use crate::raw;
use crate::weir::binary;

/// A child process that answers every request 200 with its name.
pub struct BackendProcess {
    name: String,
    place: Place,
    address: SocketAddr,
    child: Option<Running>,
}

impl BackendProcess {
    /// Starts one on a free loopback port.
    #[track_caller]
    pub fn start(name: &str) -> Self {
        Self::start_in(Place::Here, raw::loopback(), name)
    }

    /// Starts one at this address of `place`.
    #[track_caller]
    pub fn start_in(place: impl Into<Place>, address: SocketAddr, name: &str) -> Self {
        let mut backend = Self { name: name.into(), place: place.into(), address, child: None };
        backend.restart();
        backend
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child = None;
    }

    /// Starts it again on the same port.
    #[track_caller]
    pub fn restart(&mut self) {
        let mut command = self.place.command(binary::helper());
        command.args(["backend", &self.address.to_string(), &self.name]);
        let mut child =
            Running::spawn("a backend", command.stdout(Stdio::piped()).stdin(Stdio::piped())).unwrap();
        let line = child.first_line().unwrap();
        self.address = line.parse().unwrap_or_else(|_| panic!("the backend process said {line:?}"));
        self.child = Some(child);
    }
}
