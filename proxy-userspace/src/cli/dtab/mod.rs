//! `weir dtab`: reads, changes and checks dtabs that are kept in the cluster, as linkerd's `namerctl` did for namerd.
//!
//! The cluster is the one of a kubeconfig, or else the one that weir's pod is in. Exit codes are those of [`super`], and of
//! `diff` those of diff(1): 1 if there are differences, 2 if that could not be found out.

mod check;
mod diff;
mod file;
mod get;
mod set;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::import::shown;
use super::{EX_CONFIG, EX_USAGE, Output};
use crate::config::{ConfigError, Kubernetes};
use crate::discovery::kubernetes::{DtabEditor, EditError};
use crate::telemetry::log;

/// `diff` could not find out whether there are differences, as diff(1) says it.
const NOT_COMPARED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints a dtab as text that `set` takes, or lists the Dtab objects.
    Get {
        /// [NAMESPACE/]NAME of the object. Without it all Dtab objects are listed, and with NAMESPACE/ those of one namespace.
        name: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
        /// For a person or for a program.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Creates a dtab, or replaces its entries, unless somebody else has changed it meanwhile.
    Set {
        /// [NAMESPACE/]NAME of the object.
        name: String,
        /// The dtab: lines `prefix => dst ;`, a Dtab object, or namerd's list of `prefix` and `dst`; `-` reads standard input.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// The version that `get` printed: if the object has another one by now, nothing is changed.
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// Lets the API server check it all, and store nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        cluster: Cluster,
        /// For a person or for a program.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Prints which entries a file would change; exit code 1 if there are any, 2 if that cannot be found out.
    Diff {
        /// [NAMESPACE/]NAME of the object.
        name: String,
        /// The dtab, as for `set`.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        cluster: Cluster,
        /// For a person or for a program.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Validates a dtab, in a file or in the cluster: every mistake, with its place, and entries that nothing can bind.
    Check {
        /// [NAMESPACE/]NAME of the object; with --file, of the object in that file.
        #[arg(required_unless_present = "file")]
        name: Option<String>,
        /// A file with the dtab, as for `set`, instead of the object in the cluster.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// weir's configuration: its routers that read the dtab, and its namers, say what can be bound.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        cluster: Cluster,
        /// For a person or for a program.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

/// Where the object is.
#[derive(Debug, Args)]
pub(super) struct Cluster {
    /// The dtab is the text under this key of the ConfigMap NAME, and no Dtab object.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; without it, the current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// What is printed, and the exit code.
struct Done {
    text: String,
    code: u8,
}

/// Why it could not be done.
struct Failed {
    why: String,
    code: u8,
}

impl Cluster {
    fn editor(&self) -> DtabEditor {
        let (kubeconfig, context) = (self.kubeconfig.clone(), self.context.clone());
        DtabEditor::new(Kubernetes { kubeconfig, context, ..Kubernetes::default() })
    }
}

/// Does what the command says.
pub(super) fn run(command: Command) -> ExitCode {
    let is_diff = matches!(command, Command::Diff { .. });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::say(format_args!("weir: no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(done(command)) {
        Ok(Done { text, code }) => {
            let written = super::write(&text);
            if written == ExitCode::SUCCESS { ExitCode::from(code) } else { written }
        }
        Err(Failed { why, code }) => {
            log::say(why);
            ExitCode::from(if is_diff { NOT_COMPARED } else { code })
        }
    }
}

async fn done(command: Command) -> Result<Done, Failed> {
    match command {
        Command::Get { name, cluster, output } => get::run(name.as_deref(), &cluster, output).await,
        Command::Set { name, file, version, dry_run, cluster, output } => {
            let asked = set::Asked { name: &name, file: &file, version: version.as_deref(), dry_run };
            set::run(asked, &cluster, output).await
        }
        Command::Diff { name, file, cluster, output } => diff::run(&name, &file, &cluster, output).await,
        Command::Check { name, file, config, cluster, output } => {
            let (file, config) = (file.as_deref(), config.as_deref());
            check::run(check::Asked { name: name.as_deref(), file, config }, &cluster, output).await
        }
    }
}

impl Done {
    fn right(text: String) -> Self {
        Self { text, code: 0 }
    }

    /// A JSON document.
    fn json(value: &serde_json::Value, code: u8) -> Self {
        Self { text: format!("{value:#}\n"), code }
    }
}

impl Failed {
    fn new(why: impl Into<String>) -> Self {
        Self { why: format!("weir: {}", why.into()), code: 1 }
    }

    /// Every mistake in a file, a line for each.
    fn mistakes(why: String) -> Self {
        Self { why, code: EX_CONFIG }
    }
}

impl From<EditError> for Failed {
    fn from(error: EditError) -> Self {
        let code = if matches!(error, EditError::Name(_)) { EX_USAGE } else { 1 };
        Self { code, ..Self::new(error.to_string()) }
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::mistakes(error.to_string())
    }
}
