//! One weir takes over from another, on a node with pods. With root a test that cannot run here fails; without root the whole
//! module says that it is left out.

mod crossing; // One is given up while it begins to serve; `fail: closed` with two.
mod daemon_set; // What kubelet and the DaemonSet's controller make of it.
mod failures; // One of the two dies, hangs, or is of another version.
mod http2; // Streams and connections of HTTP/2.
mod listens; // Where weir listens changes with the upgrade, or while it is under way.
mod looks; // Pods that come just when weir hands over.
mod own_traffic; // Neither diverts the other.
mod queues; // Who waits in an accept queue.
mod recovers; // What was lost comes back.
mod strangers; // Who is no weir gets nothing, and is not taken for one.
mod upgrades; // Upgrades under load, with connections that stay open.
mod wire; // Encrypted connections between pods.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::net::Net;
use e2e::raw::TcpServer;
use e2e::weir::binary;
use e2e::weir::builder::Builder;
use e2e::{Client, Pod, Request, Weir, eventually, folder};
use nix::sys::signal::Signal;

use crate::transparent::{Stage, TARGET, dialler};

/// Where the node's explicit proxy, admin and probes listen.
pub(crate) const PROXY: &str = "10.1.0.1:4140";
const ADMIN: &str = "127.0.0.1:9990";
const PROBES: &str = "127.0.0.1:9991";

/// The address of the service `database`.
const DATABASE: &str = "10.96.0.11:5432";

/// A weir of the node that hands over and takes over.
fn next(stage: &Stage, settings: impl FnOnce(Builder) -> Builder) -> Builder {
    settings(following(stage, Weir::new().on_node(&stage.net)))
}

/// The same with its sockets in the pods.
fn next_in_pods(stage: &Stage, settings: impl FnOnce(Builder) -> Builder) -> Builder {
    settings(following(stage, Weir::new().in_pods(&stage.net)))
}

fn following(stage: &Stage, builder: Builder) -> Builder {
    let database = folder::service("database", &["10.96.0.11"]).port("sql", 5432, TARGET + 1);
    let builder = builder.kubernetes(&stage.hello()).kubernetes(&database.endpoints(&[stage.b.v4()]));
    follows(builder, &stage.net)
}

/// With the fixed ports, the hand-over, and a socket of its own for exec probes.
fn follows(builder: Builder, net: &Net) -> Builder {
    follows_with(builder, net, "grace: 5m")
}

/// The same with other settings of the hand-over.
fn follows_with(builder: Builder, net: &Net, settings: &str) -> Builder {
    let socket = socket(net);
    let socket = socket.display();
    builder
        .set("admin", &format!("{{ listen: {ADMIN} }}"))
        .set("probes", &format!("{{ listen: {PROBES}, socket: ./probe.sock }}"))
        .set("drain", &format!("{{ grace: 2s, handover: {{ socket: {socket}, {settings} }} }}"))
}

/// Where the weirs of a node meet.
fn socket(net: &Net) -> PathBuf {
    net.folder().join("handover.sock")
}

/// What an exec probe says of this very weir: whether the answer is yes, and the text.
#[track_caller]
fn exec_probe(weir: &Weir, what: &str) -> (bool, String) {
    exec_probe_in(weir.folder().path(), what)
}

/// What an exec probe says of the weir with this folder.
#[track_caller]
fn exec_probe_in(folder: &Path, what: &str) -> (bool, String) {
    let mut command = Command::new(binary::weir());
    command.args(["probe", what, "--socket"]).arg(folder.join("probe.sock"));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Whether this very weir is ready.
#[track_caller]
fn is_ready(weir: &Weir) -> bool {
    exec_probe(weir, "ready").0
}

/// Starts the next weir, which has the listeners from then on and does not serve yet.
#[track_caller]
fn waiting(old: &Weir, next: Builder) -> Weir {
    let taken = || old.log().matches("the next weir takes the listeners over").count();
    let before = taken();
    let weir = next.start();
    eventually("the listeners to be taken", || taken() > before);
    let waits = "handover: the weir before this one serves until this one is ready";
    eventually("the next one to wait", || exec_probe(&weir, "ready").1.contains(waits));
    weir
}

/// A weir that takes the listeners and never gets ready, since it cannot intercept.
fn unready(builder: Builder) -> Builder {
    builder.set(
        "transparent",
        "{ sockets: node, cgroup: /sys/fs/cgroup/none/such, required: true, ports: 2, listen: \"[::]:4400\" }",
    )
}

/// Lets an [`unready`] one get ready.
#[track_caller]
fn gets_ready(weir: &Weir) {
    is_required(weir, false);
}

/// Whether an [`unready`] one has to intercept in order to be ready.
#[track_caller]
fn is_required(weir: &Weir, is_required: bool) {
    let file = weir.folder().path().join("weir.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, now) = (format!("required: {}", !is_required), format!("required: {is_required}"));
    assert!(text.contains(&before), "{text}");
    weir.folder().config(&text.replace(&before, &now));
    weir.signal(Signal::SIGHUP);
}

/// Starts the next weir, waits until it serves, and tells the one before it to stop, as kubelet does.
#[track_caller]
fn upgrade(old: &Weir, next: Builder) -> Weir {
    let weir = next.start();
    weir.expect_log("serving in place of the weir before this one");
    old.expect_log("the next weir serves");
    eventually("readiness of the next", || weir.admin_get("/ready").status == 200);
    old.signal(Signal::SIGTERM);
    weir
}

/// The server behind the service `database`: it says back what it is told.
fn database(pod: &Pod) -> TcpServer {
    TcpServer::echo(pod.listen(pod.at(TARGET + 1)).unwrap())
}

/// A tunnel to the database, through the explicit proxy.
#[track_caller]
fn tunnel(stage: &Stage) -> Client {
    let mut client = Client::over(dialler(&stage.client, PROXY)().unwrap());
    client.start(&Request::new("CONNECT", "database:5432"));
    assert_eq!(client.head().status(), Some(200));
    client
}

/// Whether what is said comes back.
#[track_caller]
fn echoes(client: &mut Client, word: &str) {
    client.send(word).expect(word);
}

/// Waits for its end, which comes once nothing is open in it any more.
#[track_caller]
fn ends(mut weir: Weir) {
    assert_eq!(weir.wait(Duration::from_secs(30)).code(), Some(0), "{}", weir.log());
}

/// The status of the probes' answer for `path`.
#[track_caller]
fn probe(net: &Net, path: &str) -> u16 {
    let stream = net.node().connect(PROBES.parse().unwrap()).expect("the probes' listener");
    Client::over(stream).ask(&Request::get(path).with("Host", "localhost").with("Connection", "close")).status
}
