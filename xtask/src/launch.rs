//! weir as its users have it: a configuration, a process, and the pages of its admin port.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a page of the admin port may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How weir is to be set up.
pub(crate) struct Weir<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// None for as many as weir takes by itself.
    pub(crate) workers: Option<usize>,
    /// The endpoints of `hello`.
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
        Self { listen: any, admin: any, workers: Some(1), backends, sections: String::new(), services: &[] }
    }

    /// Writes configuration and services below `folder`; returns the configuration's path.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let services = folder.join("services");
        fs::create_dir_all(&services)?;
        if !self.backends.is_empty() {
            fs::write(services.join("hello"), endpoints(self.backends)?)?;
        }
        for (name, text) in self.services {
            fs::write(services.join(name), text)?;
        }
        let mut text = format!(
            "outgoing: {{ listen: \"{}\" }}\nadmin: {{ listen: \"{}\" }}\ndiscovery:\n  files: {{ path: \"{}\" }}\n",
            self.listen,
            self.admin,
            services.display()
        );
        if let Some(workers) = self.workers {
            text.insert_str(0, &format!("workers: {workers}\n"));
        }
        text.push_str(&self.sections);
        let path = folder.join("weir.yaml");
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// `weir run`, its log in `folder`.
pub(crate) fn command(binary: &Path, config: &Path, folder: &Path) -> Result<Command> {
    let log = fs::File::create(folder.join("weir.log"))?;
    let mut command = Command::new(binary);
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// A service file's text.
pub(crate) fn endpoints(addresses: &[SocketAddr]) -> Result<String> {
    let mut text = String::new();
    for address in addresses {
        writeln!(text, "{} {}", address.ip(), address.port())?;
    }
    Ok(text)
}

/// One page of its admin port.
pub(crate) fn page(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("reading {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("{path}: {}: {}", head.lines().next().unwrap_or_default(), body.trim());
    }
    Ok(body.to_owned())
}
