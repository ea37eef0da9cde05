//! What is measured: weir, HAProxy, a bare hyper proxy, and no proxy at all, before the same backends.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::os::cpu;
use crate::process::Running;

/// The fields of a request after Host, alike for all.
pub(super) const HEAD: &str = "User-Agent: bench\r\nAccept: */*\r\n";

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Weir,
    Haproxy,
    /// The least that a proxy made of hyper can cost.
    Hyper,
    Direct,
    /// Another build of weir, to compare with.
    Before,
}

impl Who {
    pub(crate) const ALL: [Self; 5] = [Self::Weir, Self::Haproxy, Self::Hyper, Self::Direct, Self::Before];

    /// Those that `--only` chooses from.
    pub(crate) const USUAL: [Self; 4] = [Self::Weir, Self::Haproxy, Self::Hyper, Self::Direct];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Haproxy => "haproxy",
            Self::Hyper => "hyper",
            Self::Direct => "direct",
            Self::Before => "before",
        }
    }

    /// The request target as its clients send it: absolute-form to a proxy that is asked by name, else origin-form.
    pub(crate) fn place(self, service: &str) -> String {
        match self {
            Self::Weir | Self::Before => format!("http://{service}/"),
            Self::Haproxy | Self::Hyper | Self::Direct => "/".to_owned(),
        }
    }

    /// A small GET.
    pub(crate) fn request(self, close: Connection) -> Vec<u8> {
        self.get("hello", close)
    }

    /// A small GET of this service.
    pub(crate) fn get(self, service: &str, close: Connection) -> Vec<u8> {
        let target = self.place(service);
        let last = match close {
            Connection::Keep => "",
            Connection::Close => "Connection: close\r\n",
        };
        format!("GET {target} HTTP/1.1\r\nHost: {service}\r\n{HEAD}{last}\r\n").into_bytes()
    }
}

/// Whether the client asks for the connection to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Keep,
    Close,
}

/// Something that answers requests.
pub(crate) struct Target {
    pub(crate) who: Who,
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where large bodies go and come from.
    pub(crate) large: Vec<SocketAddr>,
    /// Where byte tunnels to the backends of large bodies begin: weir is asked for one by CONNECT. None for who has none.
    pub(crate) tunnel: Option<SocketAddr>,
    pub(crate) process: Option<Running>,
}

impl Target {
    /// The backends themselves.
    pub(crate) fn direct(backends: &[SocketAddr], large: &[SocketAddr]) -> Self {
        Self {
            who: Who::Direct,
            addresses: backends.to_vec(),
            large: large.to_vec(),
            tunnel: None,
            process: None,
        }
    }

    /// A proxy that was told to listen at `address`, and at `large` for large bodies; waits until it answers.
    pub(crate) fn proxy(
        who: Who,
        command: &mut Command,
        address: SocketAddr,
        large: SocketAddr,
    ) -> Result<Self> {
        let mut process = Running::start(who.name(), command)?;
        wait_for_answer(&mut process, who, address)?;
        let tunnel = matches!(who, Who::Weir | Who::Before).then_some(address);
        Ok(Self { who, addresses: vec![address], large: vec![large], tunnel, process: Some(process) })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Running::pid)
    }

    /// CPU time that the proxy has had; none for no proxy.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.pid().map_or(Ok(Duration::ZERO), cpu::of_process)
    }
}

/// Asks every half millisecond until a 200 comes.
pub(crate) fn wait_for_answer(process: &mut Running, who: Who, address: SocketAddr) -> Result<()> {
    let pause = || {
        std::thread::sleep(Duration::from_micros(500));
        Ok(())
    };
    process.wait_until(Duration::from_secs(30), || ask(who, address), pause)
}

fn ask(who: Who, address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&who.request(Connection::Close))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "it answers {}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// How HAProxy is to be set up: in a way that favours it, with reuse of any idle connection and without a log.
pub(crate) struct Haproxy<'a> {
    pub(crate) threads: usize,
    /// Where it listens, and the backends of that listener.
    pub(crate) listeners: &'a [(SocketAddr, &'a [SocketAddr])],
    /// Where it carries bytes unread, and to which backends.
    pub(crate) tunnel: Option<(SocketAddr, &'a [SocketAddr])>,
    /// Services that the first listener tells apart by their Host, all on its backends.
    pub(crate) services: &'a [String],
}

impl Haproxy<'_> {
    /// `haproxy`, its configuration in `folder`.
    pub(crate) fn command(&self, folder: &Path) -> Result<Command> {
        let mut text = format!(
            "global\n  nbthread {}\n  maxconn 4096\n\
             defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n",
            self.threads
        );
        for (index, (listen, backends)) in self.listeners.iter().enumerate() {
            writeln!(text, "frontend in{index}\n  bind {listen}\n  default_backend out{index}")?;
            let named: &[String] = if index == 0 { self.services } else { &[] };
            if !named.is_empty() {
                writeln!(text, "  use_backend %[req.hdr(host)]")?;
            }
            let own = format!("out{index}");
            for name in std::iter::once(&own).chain(named) {
                writeln!(text, "backend {name}\n  balance roundrobin")?;
                for (index, backend) in backends.iter().enumerate() {
                    writeln!(text, "  server s{index} {backend}")?;
                }
            }
        }
        if let Some((listen, backends)) = self.tunnel {
            writeln!(text, "listen tunnel\n  mode tcp\n  bind {listen}\n  balance roundrobin")?;
            for (index, backend) in backends.iter().enumerate() {
                writeln!(text, "  server s{index} {backend}")?;
            }
        }
        let path = folder.join("haproxy.cfg");
        fs::write(&path, text)?;
        let mut command = Command::new("haproxy");
        command.env("PATH", crate::process::search_path()).arg("-db").arg("-f").arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }
}

/// The bare hyper proxy with these listeners and the backends of each.
pub(crate) fn hyper_command(binary: &Path, listeners: &[(SocketAddr, &[SocketAddr])]) -> Command {
    let mut command = Command::new(binary);
    command.args(hyper_arguments(listeners));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Its arguments.
pub(crate) fn hyper_arguments(listeners: &[(SocketAddr, &[SocketAddr])]) -> Vec<String> {
    let listener = |(listen, backends): &(SocketAddr, &[SocketAddr])| {
        let backends: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
        format!("{listen}={}", backends.join(","))
    };
    listeners.iter().map(listener).collect()
}

/// A folder below `target/bench`, empty.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let folder = crate::process::target().join("bench").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
