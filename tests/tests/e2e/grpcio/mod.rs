//! gRPC with grpcio, as an application would: through :4140, and diverted. All four kinds of call, statuses, metadata,
//! deadlines and cancels (client.py), against servers that know nothing of weir (server.py).

use std::net::SocketAddr;
use std::process::Stdio;

use crate::transparent::{Stage, TARGET, V4};
use e2e::python::python;
use e2e::{Place, Pod, Weir, folder};
use test_support::process::Running;

const SERVER: &str = include_str!("server.py");
const CLIENT: &str = include_str!("client.py");

/// A running server, which says its name.
pub(crate) struct Server {
    _process: Running,
    port: u16,
}

impl Server {
    pub(crate) fn start(place: &Place, address: &str, port: u16, name: &str) -> Self {
        let mut command = place.command(python());
        command.args(["-c", SERVER, address, &port.to_string(), name]).stdout(Stdio::piped());
        let mut process = Running::spawn("the server", &mut command).unwrap();
        let port = process.first_line().unwrap().trim().parse().expect("the server's port");
        Self { _process: process, port }
    }

    fn here(name: &str) -> Self {
        Self::start(&Place::Here, "127.0.0.1", 0, name)
    }

    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }
}

/// Runs every call over one channel; returns how many of 3,000 each server got.
#[track_caller]
fn calls(place: &Place, target: &str, authority: &str, is_only: bool) -> Vec<usize> {
    let mut command = place.command(python());
    command.args(["-c", CLIENT, target, authority]).args(is_only.then_some("only"));
    let output = command.output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    said.split_whitespace().map(|it| it.split_once('=').unwrap().1.parse().unwrap()).collect()
}

#[test]
fn every_kind_of_call_passes_through_the_explicit_proxy() {
    let server = Server::here("a");
    let weir = Weir::serving("calls", &[server.addr()]);
    assert_eq!(calls(&Place::Here, &weir.outgoing().to_string(), "calls", true), [3000]);
    assert_eq!(weir.accepted("outgoing"), 1.0);
}

#[test]
fn one_channel_spreads_its_calls_over_three_endpoints() {
    let servers = ["a", "b", "c"].map(Server::here);
    let weir = Weir::serving("calls", &servers.each_ref().map(Server::addr));
    let shares = calls(&Place::Here, &weir.outgoing().to_string(), "calls", false);
    assert!(shares.len() == 3 && shares.iter().all(|share| (840..=1140).contains(share)), "{shares:?}");
    assert_eq!(weir.accepted("outgoing"), 1.0);
}

#[test]
fn a_diverted_channel_is_balanced_call_by_call() {
    let Some(mut stage) = Stage::set() else { return };
    let server = |pod: &Pod, name| Server::start(&Place::from(pod), &pod.v4().to_string(), TARGET, name);
    let _servers = [server(&stage.a, "a"), server(&stage.b, "b")];
    let hello = folder::service("hello", &["10.96.0.10"]).port("grpc", 80, TARGET);
    let hello = hello.endpoints(&[stage.a.v4(), stage.b.v4()]);
    let builder = Weir::new().on_node(&stage.net).kubernetes(&hello);
    stage.start(builder);
    let shares = calls(&Place::from(&stage.client), V4, "", false);
    assert!(shares.len() == 2 && shares.iter().all(|share| (1260..=1740).contains(share)), "{shares:?}");
    assert_eq!(stage.weir().metric("weir_http2_connections_total", &[("listener", "transparent")]), 1.0);
}
