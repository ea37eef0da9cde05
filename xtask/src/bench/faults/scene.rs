//! The node: weir on it, a client's pod, and two pods that stand for two other nodes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::server;
use crate::bench::target;
use crate::launch::{self, Weir};
use crate::node::{ADDRESS, Node};
use crate::process::Running;

/// Where weir listens.
pub(super) const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ADDRESS), 4140);

/// A pretend node, with nothing running on it yet.
pub(super) struct Scene {
    pub(super) node: Node,
    pub(super) client: usize,
    pub(super) a: usize,
    pub(super) b: usize,
}

impl Scene {
    pub(super) fn create() -> Result<Self> {
        let mut node = Node::create("weir-bench")?;
        let [client, a, b] = ["client", "a", "b"].map(|name| node.add_pod(name));
        Ok(Self { client: client?, a: a?, b: b?, node })
    }

    /// An HTTP server in this pod.
    pub(super) fn serve(&self, pod: usize) -> Result<SocketAddr> {
        self.listen(pod, server::answer)
    }

    /// A server in this pod that answers with interim answers, for as long as anybody takes them.
    pub(super) fn flood(&self, pod: usize) -> Result<SocketAddr> {
        self.listen(pod, server::flood)
    }

    /// A server in this pod that sends everything back.
    pub(super) fn echo(&self, pod: usize) -> Result<SocketAddr> {
        self.listen(pod, server::echo)
    }

    fn listen(&self, pod: usize, serve: fn(TcpStream) -> std::io::Result<()>) -> Result<SocketAddr> {
        let pod = &self.node.pods[pod];
        let listener = pod.netns.inside(|| TcpListener::bind((pod.address, 0)))??;
        let address = listener.local_addr()?;
        server::run(listener, serve);
        Ok(address)
    }

    /// weir with these services, once it listens; its log is in the folder of this name.
    pub(super) fn start(
        &self,
        binary: &Path,
        name: &str,
        services: &[(&str, &[SocketAddr])],
        sections: &str,
    ) -> Result<Running> {
        let folder = target::scratch(name)?;
        let mut files = Vec::new();
        for (name, endpoints) in services {
            files.push((*name, launch::endpoints(endpoints)?));
        }
        let setting = Weir {
            listen: PROXY,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9990)),
            workers: Some(2),
            sections: sections.to_owned(),
            services: &files,
            ..Weir::before(&[])
        };
        let mut command = launch::command(binary, &setting.write(&folder)?, &folder)?;
        self.node.netns.hold(&mut command);
        let mut process = Running::start("weir", &mut command)?;
        let pause = || {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        };
        process
            .wait_until(Duration::from_secs(20), || self.connect(), pause)
            .with_context(|| format!("its log is {}", folder.join("weir.log").display()))?;
        Ok(process)
    }

    /// A connection from the client's pod to weir.
    pub(super) fn connect(&self) -> Result<TcpStream> {
        Ok(self.node.pods[self.client].netns.inside(|| TcpStream::connect(PROXY))??)
    }

    /// A tunnel through weir to this service, which was seen to carry bytes.
    pub(super) fn tunnel(&self, service: &str) -> Result<TcpStream> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let asked = format!("CONNECT {service}:80 HTTP/1.1\r\nHost: {service}:80\r\n\r\nping");
        stream.write_all(asked.as_bytes())?;
        let mut said = Vec::new();
        while !said.ends_with(b"ping") {
            let mut byte = [0];
            ensure!(stream.read(&mut byte)? == 1, "no tunnel: {}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        Ok(stream)
    }
}
