//! The command line. Exit codes: 0; 1 for a failure at run time; 64 for bad usage; 78 for bad configuration
//! (the last two by sysexits.h).

mod certs;
pub mod check;
mod describe;
mod dtab;
mod explain;
mod filter;
mod import;
mod probe;
mod status;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::domain::identity::{ServiceAccount, TrustDomain};
use crate::migrate;
use crate::proxy::routing::explain::Question;
use crate::telemetry::log;

/// Bad usage (EX_USAGE).
pub const EX_USAGE: u8 = 64;
/// Bad configuration (EX_CONFIG).
pub const EX_CONFIG: u8 = 78;

#[derive(Debug, Parser)]
#[command(name = "weir", version, about = "Diverts, balances and explains every call of a node's pods.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs in the foreground. SIGTERM drains; SIGHUP or a changed file reloads.
    Run {
        /// The configuration; without one, everything has its default.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Validates a configuration: every mistake, with its place and what to do.
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Makes an authority and certificates for DEVELOPMENT, and prints the `identity` section that uses them.
    Certs {
        /// The trust domain.
        #[arg(long, value_name = "DOMAIN", default_value_t = TrustDomain::default())]
        trust_domain: TrustDomain,
        /// The folder for the files.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// For how many days they are valid.
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// The service accounts, each with its namespace: `shop/frontend`.
        #[arg(required = true, value_name = "NAMESPACE/NAME")]
        accounts: Vec<ServiceAccount>,
    },
    /// Prints step by step where a name goes, and why.
    Explain {
        /// A URL (`http://hello/`), a host (`hello:8080`) or a name (`/svc/hello`).
        name: String,
        /// Entries that the request brings (`l5d-dtab`).
        #[arg(long, value_name = "DTAB", default_value = "")]
        dtab: String,
        /// The namespace of the client's pod (`names.clientNamespace`).
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// The label of the router, where there are several; without it, the first.
        #[arg(long, value_name = "LABEL")]
        router: Option<String>,
        /// Explains by this configuration, without a running weir.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The running weir's admin listener.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9990")]
        admin: String,
    },
    /// Turns a linkerd 1.x (or 0.8) configuration into weir's, on standard output.
    Import {
        /// linkerd's YAML, alone or in a Kubernetes ConfigMap, or a dtab as namerd has it; `-` reads standard input.
        file: PathBuf,
        /// Which linkerd, where the file has several: CONFIGMAP or CONFIGMAP/KEY.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Sends in plain text what linkerd encrypted, instead of refusing it.
        #[arg(long)]
        plain_text: bool,
    },
    /// Reads, changes and checks dtabs that are kept in the cluster: Dtab objects, and keys of ConfigMaps.
    Dtab {
        #[command(subcommand)]
        command: dtab::Command,
    },
    /// Exits with 0 if the weir in this container lives, or is ready: an exec probe for kubelet.
    Probe {
        /// What is asked.
        what: probe::Probe,
        /// The weir's `probes.socket`.
        #[arg(long, value_name = "PATH", default_value = probe::SOCKET)]
        socket: PathBuf,
    },
    /// Prints what a running weir is doing.
    Status {
        /// Its admin listener.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9990")]
        admin: String,
        /// For a person, or as /api/state.json has it.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// The same as `--output json`.
        #[arg(long, hide = true)]
        json: bool,
        #[command(flatten)]
        filter: filter::Filter,
    },
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are reported as errors too.
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match arguments.command {
        Command::Run { config } => crate::app::run(config),
        Command::Check { file } => check::run(&file),
        Command::Certs { trust_domain, out, days, accounts } => {
            certs::run(&trust_domain, &accounts, &out, days)
        }
        Command::Explain { name, dtab, namespace, router, config, admin } => {
            let (namespace, router) = (namespace.as_deref(), router.as_deref());
            let asked = Question { name: &name, dtab: &dtab, namespace, router };
            explain::run(asked, config.as_deref(), &admin)
        }
        Command::Import { file, name, plain_text } => {
            import::run(&file, migrate::Options { name: name.as_deref(), plain_text })
        }
        Command::Dtab { command } => dtab::run(command),
        Command::Probe { what, socket } => probe::run(what, &socket),
        Command::Status { admin, output, json, filter } => {
            status::run(&admin, json || output == Output::Json, &filter)
        }
    }
}

/// Writes the output to standard output. A closed pipe (`weir status | head`) is not a failure; a full disk is, because
/// the truncated text could be taken for complete.
fn write(text: &str) -> ExitCode {
    let mut output = std::io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            log::say(format_args!("weir: standard output cannot be written to: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}
