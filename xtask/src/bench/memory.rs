//! RssAnon, memory that is a process's own: at rest, with 512 connections open and idle, half a minute after they ended, with
//! connections that are idle after large bodies, and after calls to many services.
//!
//! Two workers each; weir with interception on where the machine allows it, since its maps and programs count too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use test_support::cgroup::{self, Cgroup};

use super::backend::{ANSWER, Backends};
use super::figures::{Figures, Quantity};
use super::large;
use super::load::{self, Plan, Shape};
use super::target::{self, Connection, Haproxy, Target, Who};
use crate::launch::{self, Weir};
use crate::os::{cpu, interrupt};
use crate::setup;

const WORKERS: usize = 2;
const CONNECTIONS: usize = 512;
const STREAMS: usize = 64;
const SERVICES: usize = 1000;
/// Calls to each service, one after the other: enough that each of its three endpoints has one.
const CALLS: usize = 12;

/// What memory is measured before.
pub(crate) struct Memory<'a> {
    pub(crate) weir: &'a Path,
    pub(crate) backends: &'a Backends,
    pub(crate) large: &'a large::Backends,
    pub(crate) figures: &'a mut Figures,
    pub(crate) remarks: &'a mut Vec<String>,
}

impl Memory<'_> {
    /// Measures weir or HAProxy.
    pub(crate) fn measure(&mut self, who: Who) -> Result<()> {
        let started = self.start(who, &[])?;
        println!("    {}: ten seconds of rest", who.name());
        self.note(Quantity::MemoryIdle, &started, Duration::from_secs(10))?;
        let open = load(&started.proxy)?;
        self.note(Quantity::Memory512, &started, Duration::from_secs(5))?;
        drop(open);
        println!("    {}: half a minute after the load", who.name());
        self.note(Quantity::MemoryAfter, &started, Duration::from_secs(30))?;
        let open = large::leave_idle(&started.proxy, STREAMS)?;
        self.note(Quantity::MemoryStreamed, &started, Duration::from_secs(5))?;
        drop((open, started));

        let names: Vec<String> = (0..SERVICES).map(|index| format!("service-{index}")).collect();
        let started = self.start(who, &names)?;
        call_each(&started.proxy, &names)?;
        self.note(Quantity::MemoryServices, &started, Duration::from_secs(2))
    }

    fn note(&mut self, quantity: Quantity, started: &Started, rest: Duration) -> Result<()> {
        interrupt::sleep(rest)?;
        if let Some(pid) = started.proxy.pid() {
            self.figures.add(quantity, started.proxy.who, cpu::anonymous(pid)? as f64 / 1e6);
        }
        Ok(())
    }

    fn start(&mut self, who: Who, services: &[String]) -> Result<Started> {
        let folder = target::scratch("memory")?;
        let (listen, large) = (target::free_address()?, target::free_address()?);
        if who == Who::Haproxy {
            let listeners = [(listen, &*self.backends.addresses), (large, &*self.large.addresses)];
            let haproxy = Haproxy { threads: WORKERS, listeners: &listeners, tunnel: None, services };
            let proxy = Target::proxy(who, &mut haproxy.command(&folder)?, listen, large)?;
            return Ok(Started { proxy, _cgroup: None });
        }
        let (config, cgroup) = self.weir(&folder, listen, services)?;
        let mut command = launch::command(self.weir, &config, &folder)?;
        Ok(Started { proxy: Target::proxy(who, &mut command, listen, listen)?, _cgroup: cgroup })
    }

    /// Writes weir's configuration.
    fn weir(
        &mut self,
        folder: &Path,
        listen: SocketAddr,
        names: &[String],
    ) -> Result<(PathBuf, Option<Cgroup>)> {
        let hello = launch::endpoints(&self.backends.addresses)?;
        let mut services = vec![("large", launch::endpoints(&self.large.addresses)?)];
        services.extend(names.iter().map(|name| (name.as_str(), hello.clone())));
        let backends = &self.backends.addresses;
        let mut setting =
            Weir { listen, workers: Some(WORKERS), services: &services, ..Weir::before(backends) };
        let mut cgroup = None;
        match setup::interception_possible() {
            Ok(()) => {
                let made = pods_of_nobody()?;
                setting.sections = transparent(made.path())?;
                cgroup = Some(made);
            }
            Err(why) => self.remarks.push(format!("memory was measured without interception: {why}")),
        }
        Ok((setting.write(folder)?, cgroup))
    }
}

/// A proxy, and a cgroup that is removed after the process.
struct Started {
    proxy: Target,
    _cgroup: Option<Cgroup>,
}

/// Two and a half seconds of load; returns its connections, which are idle then.
fn load(proxy: &Target) -> Result<Vec<TcpStream>> {
    let request = proxy.who.request(Connection::Keep);
    let plan = Plan {
        addresses: &proxy.addresses,
        request: &request,
        connections: CONNECTIONS,
        shape: Shape::Closed,
        warm_up: Duration::from_millis(500),
        length: Duration::from_secs(2),
        limit: None,
    };
    load::run_and_keep(&plan)
}

/// Calls each service on one connection.
fn call_each(proxy: &Target, names: &[String]) -> Result<()> {
    let mut stream = TcpStream::connect(proxy.addresses[0])?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = [0; 4096];
    for name in names {
        interrupt::check()?;
        let request = proxy.who.get(name, Connection::Keep);
        for _ in 0..CALLS {
            stream.write_all(&request)?;
            let mut filled = 0;
            while !answer[..filled].ends_with(b"Hello, World!") {
                match stream.read(&mut answer[filled..])? {
                    0 => bail!("not the answer: {}", String::from_utf8_lossy(&answer[..filled])),
                    count => filled += count,
                }
            }
            if !answer.starts_with(&ANSWER[..12]) {
                bail!("not a 200: {}", String::from_utf8_lossy(&answer[..filled]));
            }
        }
    }
    Ok(())
}

/// A cgroup that no process is in: the programs are attached and idle.
pub(super) fn pods_of_nobody() -> Result<Cgroup> {
    let parent = cgroup::mount().unwrap_or_default();
    Cgroup::create(&parent, &format!("weir-bench-{}", std::process::id()))
}

pub(super) fn transparent(cgroup: &Path) -> Result<String> {
    let port = target::free_address()?.port();
    let cgroup = cgroup.display();
    Ok(format!(
        "transparent:\n  sockets: node\n  listen: \"[::]:{port}\"\n  ports: 1\n  cgroup: {cgroup}\n  required: true\n"
    ))
}
