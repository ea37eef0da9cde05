//! What diversion adds to a connect(): a pod connects, in turns, to a plain listener on the node and to a service
//! address that weir takes over.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::figures::{Figures, Quantity, Spread};
use super::target::{self, Who};
use crate::launch::{self, Weir};
use crate::node::{ADDRESS, Node};
use crate::os::cpu::{self, Cores};
use crate::os::interrupt;
use crate::process::Running;
use crate::setup;

const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const ROUNDS: usize = 5;

/// The hidden command that runs inside the pod.
#[derive(clap::Args)]
pub(crate) struct Connects {
    direct: SocketAddr,
    diverted: SocketAddr,
    count: usize,
    core: usize,
}

pub(crate) fn measure(weir: &Path, cores: Cores, quick: bool, figures: &mut Figures) -> Result<()> {
    setup::ensure(&[setup::IP])?;
    let mut node = Node::create("weir-bench")?;
    let pod = node.add_pod("client")?;
    let listener = node.netns.inside(|| TcpListener::bind((ADDRESS, 0)))??;
    let direct = listener.local_addr()?;
    let _acceptor = Acceptor::start(listener, cores.proxy)?;
    let _weir = start_weir(weir, cores, &node)?;
    let count = if quick { 500 } else { 4_000 };
    for _ in 0..ROUNDS {
        interrupt::check()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("connects")
            .args([direct.to_string(), SERVICE.to_string(), count.to_string(), cores.load.to_string()])
            .stdin(Stdio::null());
        node.pods[pod].hold(&mut command)?;
        let printed = crate::process::output(&mut command)?;
        let (direct, diverted) = printed.trim().split_once(' ').context("two medians")?;
        figures.add(Quantity::ConnectDirect, Who::Weir, direct.parse()?);
        figures.add(Quantity::ConnectDiverted, Who::Weir, diverted.parse()?);
    }
    Ok(())
}

/// weir on the node, ready to take the service's connections.
fn start_weir(weir: &Path, cores: Cores, node: &Node) -> Result<Running> {
    let folder = target::scratch("divert")?;
    let listen = SocketAddr::from((ADDRESS, 4140));
    let backend = node.netns.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
    let backends = [backend.local_addr()?];
    let sections = format!(
        "transparent:\n  sockets: node\n  listen: \"[::]:4142\"\n  addresses: [{ADDRESS}]\n  cgroup: {}\n  required: true\n",
        node.pods_cgroup().display()
    );
    let services = [("bench.yaml", service_document())];
    let setting = Weir {
        listen,
        admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9990)),
        sections,
        services: &services,
        ..Weir::before(&backends)
    };
    let mut command = launch::command(weir, &setting.write(&folder)?, &folder)?;
    node.netns.hold(cpu::pinned(&mut command, cores.proxy));
    let mut process = Running::start("weir", &mut command)?;
    // Diversion is on once a connection to the service, which nothing else serves, succeeds.
    let probe = || {
        let mut command = Command::new("/proc/self/exe");
        command.args(["connects", &SERVICE.to_string(), &SERVICE.to_string(), "1", &cores.load.to_string()]);
        node.pods[0].hold(&mut command)?;
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        ensure!(status.success(), "weir diverted nothing");
        Ok(())
    };
    process
        .wait_until(Duration::from_secs(20), probe, || interrupt::sleep(Duration::from_millis(50)))
        .with_context(|| format!("its log is {}", folder.join("weir.log").display()))?;
    Ok(process)
}

fn service_document() -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: bench, namespace: default }}\n\
         spec:\n  clusterIP: {}\n  ports: [{{ name: http, port: 80, targetPort: 8080, protocol: TCP }}]\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{ name: bench-1, namespace: default, labels: {{ kubernetes.io/service-name: bench }} }}\n\
         addressType: IPv4\nports: [{{ name: http, port: 8080, protocol: TCP }}]\n\
         endpoints: [{{ addresses: [10.244.0.99], conditions: {{ ready: true }} }}]\n",
        SERVICE.ip()
    )
}

/// Inside the pod: connects in turns, and prints the two medians in microseconds.
pub(crate) fn connects(options: &Connects) -> Result<()> {
    cpu::pin_thread(options.core)?;
    let connect = |address| -> Result<f64> {
        let begun = Instant::now();
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        let took = begun.elapsed().as_secs_f64() * 1e6;
        drop(stream);
        Ok(took)
    };
    let (mut direct, mut diverted) = (Vec::new(), Vec::new());
    for _ in 0..options.count {
        direct.push(connect(options.direct)?);
        diverted.push(connect(options.diverted)?);
    }
    let median = |values: &[f64]| Spread::of(values).map_or(0.0, |spread| spread.median);
    println!("{:.3} {:.3}", median(&direct), median(&diverted));
    Ok(())
}

/// Accepts and closes, as a stand-in for the application that would be reached without diversion.
struct Acceptor {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Acceptor {
    fn start(listener: TcpListener, core: usize) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let accept = || -> Result<()> {
                    cpu::pin_thread(core)?;
                    let mut epoll = crate::os::epoll::Epoll::new()?;
                    epoll.add(&listener, 0)?;
                    while !stop.load(Ordering::Relaxed) {
                        epoll.wait(Duration::from_millis(100))?.for_each(drop);
                        while listener.accept().is_ok() {}
                    }
                    Ok(())
                };
                accept().expect("accepting on loopback does not fail");
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
