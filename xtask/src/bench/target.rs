//! What is measured: weir, HAProxy, and no proxy at all, before the same backends.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::os::cpu;
use crate::process::Running;

/// The bytes of a request after its first line, alike for all.
const HEAD: &str = "Host: hello\r\nUser-Agent: bench\r\nAccept: */*\r\n";

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Weir,
    Haproxy,
    Direct,
    /// Another build of weir, to compare with.
    Before,
}

impl Who {
    pub(crate) const ALL: [Self; 4] = [Self::Weir, Self::Haproxy, Self::Direct, Self::Before];

    /// Those that `--only` chooses from.
    pub(crate) const USUAL: [Self; 3] = [Self::Weir, Self::Haproxy, Self::Direct];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Haproxy => "haproxy",
            Self::Direct => "direct",
            Self::Before => "before",
        }
    }

    /// A GET as its clients send it: absolute-form to a proxy that is asked by name, else origin-form.
    pub(crate) fn request(self, close: Connection) -> Vec<u8> {
        let target = match self {
            Self::Weir | Self::Before => "http://hello/",
            Self::Haproxy | Self::Direct => "/",
        };
        let last = match close {
            Connection::Keep => "",
            Connection::Close => "Connection: close\r\n",
        };
        format!("GET {target} HTTP/1.1\r\n{HEAD}{last}\r\n").into_bytes()
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
    pub(crate) process: Option<Running>,
}

impl Target {
    /// The backends themselves.
    pub(crate) fn direct(backends: &[SocketAddr]) -> Self {
        Self { who: Who::Direct, addresses: backends.to_vec(), process: None }
    }

    /// A proxy that was told to listen at `address`; waits until it answers.
    pub(crate) fn proxy(who: Who, command: &mut Command, address: SocketAddr) -> Result<Self> {
        let mut process = Running::start(who.name(), command)?;
        wait_for_answer(who, address, || process.check())?;
        Ok(Self { who, addresses: vec![address], process: Some(process) })
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
pub(crate) fn wait_for_answer(
    who: Who,
    address: SocketAddr,
    mut alive: impl FnMut() -> Result<()>,
) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::from("nothing");
    while Instant::now() < deadline {
        match ask(who, address) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(answer) => last = answer,
            Err(error) => last = error.to_string(),
        }
        alive()?;
        std::thread::sleep(Duration::from_micros(500));
    }
    bail!("{} at {address} did not answer within {PATIENCE:?}; the last was: {last}", who.name());
}

fn ask(who: Who, address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&who.request(Connection::Close))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// How weir is to be set up.
pub(crate) struct Weir<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) workers: usize,
    pub(crate) backends: &'a [SocketAddr],
    /// More sections of the configuration.
    pub(crate) sections: String,
    /// More service files: their names and texts.
    pub(crate) services: &'a [(&'a str, String)],
}

impl<'a> Weir<'a> {
    /// One worker before these backends, admin on a port of its own; `listen` is still to be given.
    pub(crate) fn before(backends: &'a [SocketAddr]) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen: any, admin: any, workers: 1, backends, sections: String::new(), services: &[] }
    }

    /// Writes configuration and services below `folder`; returns the configuration's path.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let services = folder.join("services");
        fs::create_dir_all(&services)?;
        let mut hello = String::new();
        for backend in self.backends {
            writeln!(hello, "{} {}", backend.ip(), backend.port())?;
        }
        fs::write(services.join("hello"), hello)?;
        for (name, text) in self.services {
            fs::write(services.join(name), text)?;
        }
        let mut text = format!(
            "outgoing: {{ listen: \"{}\" }}\nadmin: {{ listen: \"{}\" }}\nworkers: {}\ndiscovery:\n  files: {{ path: \"{}\" }}\n",
            self.listen,
            self.admin,
            self.workers,
            services.display()
        );
        text.push_str(&self.sections);
        let path = folder.join("weir.yaml");
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// `weir run`, its log in `folder`.
pub(crate) fn weir_command(binary: &Path, config: &Path, folder: &Path) -> Result<Command> {
    let log = fs::File::create(folder.join("weir.log"))?;
    let mut command = Command::new(binary);
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// HAProxy with `threads` threads and settings that favour it: reuse of any idle connection, no log.
pub(crate) fn haproxy_command(
    listen: SocketAddr,
    backends: &[SocketAddr],
    threads: usize,
    folder: &Path,
) -> Result<Command> {
    let mut text = format!(
        "global\n  nbthread {threads}\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n\
         frontend in\n  bind {listen}\n  default_backend out\n\
         backend out\n  balance roundrobin\n"
    );
    for (index, backend) in backends.iter().enumerate() {
        writeln!(text, "  server s{index} {backend}")?;
    }
    let path = folder.join("haproxy.cfg");
    fs::write(&path, text)?;
    let mut command = Command::new("haproxy");
    command.env("PATH", crate::process::search_path());
    command.arg("-db").arg("-f").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// A folder below `target/bench`, empty.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let folder = crate::process::target().join("bench").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
