//! Where the large cluster's services come from, and how one of them changes.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::SERVICES;
use crate::process::{self, Running};

/// Services in one file: what a change of one of them has to read again.
const TOGETHER: usize = 50;

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `discovery.files`, which takes the very objects that a cluster serves.
    Files,
    /// `discovery.kubernetes`: the tests' API server.
    Api,
}

/// A source with its services.
pub(super) enum Source {
    Files(PathBuf),
    Api(Api),
}

/// What becomes of the endpoints of the one service that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoints {
    Gone,
    Back,
}

impl Source {
    /// A source of `SERVICES` services with so many endpoints each.
    pub(super) fn start(kind: Kind, endpoints: usize, folder: &Path) -> Result<Self> {
        match kind {
            Kind::Files => {
                let services = folder.join("services");
                fs::create_dir_all(&services)?;
                for at in (0..SERVICES).step_by(TOGETHER) {
                    let text: String = (at..at + TOGETHER).map(|n| service(n, endpoints)).collect();
                    fs::write(services.join(format!("services-{at:05}.yaml")), text)?;
                }
                Ok(Self::Files(services))
            }
            Kind::Api => Api::start(endpoints, folder).map(Self::Api),
        }
    }

    /// The host that is asked for.
    pub(super) fn host(&self) -> &'static str {
        match self {
            Self::Files(_) => "hello",
            Self::Api(_) => "s0",
        }
    }

    /// The status that shows a change. An API server's endpoint on loopback is one that weir refuses.
    pub(super) fn shown_by(&self, endpoints: Endpoints) -> u16 {
        match (self, endpoints) {
            (_, Endpoints::Gone) => 503,
            (Self::Files(_), Endpoints::Back) => 200,
            (Self::Api(_), Endpoints::Back) => 403,
        }
    }

    /// Makes the change; it is in force at the source when this returns.
    pub(super) fn change(&mut self, endpoints: Endpoints, backend: SocketAddr) -> Result<()> {
        match self {
            Self::Files(services) => {
                let new = services.join(".hello.new");
                let line = match endpoints {
                    Endpoints::Gone => String::new(),
                    Endpoints::Back => format!("{} {}\n", backend.ip(), backend.port()),
                };
                fs::write(&new, line)?;
                fs::rename(new, services.join("hello"))?;
                Ok(())
            }
            Self::Api(api) => api.tell(match endpoints {
                Endpoints::Gone => "gone",
                Endpoints::Back => "back",
            }),
        }
    }
}

/// The tests' API server in a process of its own, so that weir's figures are weir's. It ends with its standard input.
pub(super) struct Api {
    _process: Running,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Api {
    fn start(endpoints: usize, folder: &Path) -> Result<Self> {
        process::run(process::cargo().args(["build", "--quiet", "--package", "e2e", "--bin", "e2e-helper"]))?;
        let mut command = Command::new(process::target().join("debug/e2e-helper"));
        command.args(["cluster", &SERVICES.to_string(), &endpoints.to_string()]).arg(folder);
        let mut process =
            Running::spawn("the API server", command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let orders = process.child().stdin.take().context("its standard input")?;
        let answers = BufReader::new(process.child().stdout.take().context("its standard output")?);
        let mut api = Self { _process: process, orders, answers };
        api.heard()?;
        Ok(api)
    }

    fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}")?;
        self.heard()
    }

    fn heard(&mut self) -> Result<()> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the API server has ended");
        }
        Ok(())
    }
}

/// A Service and its slice, as an API server would serve them but for what weir does not read.
fn service(n: usize, endpoints: usize) -> String {
    let (high, low) = (n / 250, n % 250 + 1);
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: service-{n}, namespace: namespace-{} }}\n\
         spec: {{ clusterIP: 10.96.{high}.{low}, ports: [{{ name: http, port: 80, targetPort: 8080 }}] }}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{ name: service-{n}-x7k2p, namespace: namespace-{}, labels: {{ kubernetes.io/service-name: \
         service-{n} }} }}\naddressType: IPv4\nports: [{{ name: http, port: 8080, protocol: TCP }}]\nendpoints:\n",
        n % 100,
        n % 100,
    );
    for endpoint in 0..endpoints {
        let _ = writeln!(
            text,
            "- {{ addresses: [10.{}.{high}.{low}], conditions: {{ ready: true, serving: true, terminating: false }}, \
             nodeName: node-{}.example.internal, zone: zone-{} }}",
            128 + endpoint,
            (n + endpoint) % 5000,
            endpoint % 3,
        );
    }
    text
}
