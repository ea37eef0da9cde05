//! `discovery`: where services come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fields::Section;
use super::problem::Mistake;
use super::tree::Node;
use super::values;

/// The sources of the catalog. Default: none, so that there are only DNS names and the original destinations of
/// diverted connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// `files`: a folder of service files.
    pub files: Option<Files>,
    /// `kubernetes`: an API server. For a service in both sources, the files take precedence.
    pub kubernetes: Option<Kubernetes>,
}

/// A watched folder in place of an API server, `io.l5d.fs` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `path`: the folder. A relative path is relative to the folder of the configuration file.
    pub path: PathBuf,
    /// `fileCount`: the most files read; further ones, by name, are reported and skipped. Default 10,000.
    pub file_count: usize,
    /// `fileBytes`: the largest file; a larger one is reported and skipped. A Service with its slices for 1,000
    /// endpoints takes about 300 KiB. Default 16 MiB.
    pub file_bytes: usize,
}

impl Files {
    /// The folder at `path`, with the default bounds.
    pub fn at(path: PathBuf) -> Self {
        Self { path, file_count: 10_000, file_bytes: 16 << 20 }
    }
}

/// A Kubernetes API server, listed once and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// `kubeconfig`: the file with the server's address and weir's credentials. Without it: inside a cluster the pod's
    /// service account, else the file in `KUBECONFIG`, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// `context`: the context of the kubeconfig; without it, the current one.
    pub context: Option<String>,
    /// `node`: this node's name. Without it: `NODE_NAME` in the environment, else the host name.
    pub node: Option<String>,
    /// `jitter`: a new list after a lost watch waits a random time up to this, since all nodes of a cluster lose their
    /// watches at the same moment. The first list does not wait, since requests depend on it. 0 to 10 min, default 500
    /// ms.
    pub jitter: Duration,
    /// `connectTimeout`: the time limit for connecting to the server. 100 ms to 1 min, default 3 s.
    pub connect_timeout: Duration,
    /// `readTimeout`: the time limit for the start of a response, and for each further part of a list. 100 ms to 5 min,
    /// default 15 s.
    pub read_timeout: Duration,
    /// `silence`: how long a watch may receive nothing, not even a bookmark (usually one per minute), before it is
    /// restarted. 1 s to 1 h, default 2 min.
    pub silence: Duration,
    /// `nodes`: the most nodes whose addresses are watched, so that a Service's `nodePort` at any of them is that
    /// Service. In a larger cluster, and with 0, only this node's own addresses are known. 0 to 5,000, default 200.
    pub nodes: usize,
    /// `ingressRules`: the most rules of Ingresses that a router follows; an Ingress that would be beyond is left out, the
    /// newest first. 1 to 100,000, default 10,000.
    pub ingress_rules: usize,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            node: None,
            jitter: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(15),
            silence: Duration::from_mins(2),
            nodes: 200,
            ingress_rules: 10_000,
        }
    }
}

/// `base` is the folder for relative paths.
pub(super) fn read(mut section: Section<'_, '_>, base: &Path) -> Discovery {
    let files = section.switch("files").and_then(|files| read_files(files, base));
    let kubernetes = section.switch("kubernetes").map(|kubernetes| read_kubernetes(kubernetes, base));
    section.finish();
    Discovery { files, kubernetes }
}

fn read_kubernetes(mut section: Section<'_, '_>, base: &Path) -> Kubernetes {
    let mut kubernetes = Kubernetes::default();
    section.set("kubeconfig", &mut kubernetes.kubeconfig, |node| {
        Ok(Some(base.join(values::path(node, "a kubeconfig")?)))
    });
    section.set("context", &mut kubernetes.context, |node| Ok(Some(word(node)?.to_owned())));
    section.set("node", &mut kubernetes.node, |node| {
        let name = word(node)?;
        match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')) {
            true => Ok(Some(name.to_owned())),
            false => Err(Mistake::new("no name of a node")
                .hint("letters, digits, `-` and `.`; see `kubectl get nodes`")),
        }
    });
    let [short, second, minute] =
        [Duration::from_millis(100), Duration::from_secs(1), Duration::from_mins(1)];
    section.set("jitter", &mut kubernetes.jitter, values::duration(Duration::ZERO..=minute * 10));
    section.set("connectTimeout", &mut kubernetes.connect_timeout, values::duration(short..=minute));
    section.set("readTimeout", &mut kubernetes.read_timeout, values::duration(short..=minute * 5));
    section.set("silence", &mut kubernetes.silence, values::duration(second..=minute * 60));
    section.set("nodes", &mut kubernetes.nodes, values::count(0..=5_000));
    section.set("ingressRules", &mut kubernetes.ingress_rules, values::count(1..=100_000));
    section.finish();
    kubernetes
}

fn word(node: &Node) -> Result<&str, Mistake> {
    match values::text(node)? {
        "" => Err(Mistake::new("empty").hint("leave the key out for the default")),
        text => Ok(text),
    }
}

fn read_files(mut section: Section<'_, '_>, base: &Path) -> Option<Files> {
    let mut folder = None;
    section.set("path", &mut folder, |node| {
        Ok(Some(base.join(values::path(node, "the folder of service files")?)))
    });
    if !section.has("path") {
        section.mistake(
            "path",
            Mistake::new("missing").hint("name the folder of service files: `path: ./services`"),
        );
    }
    let mut files = Files::at(folder.clone().unwrap_or_default());
    section.set("fileCount", &mut files.file_count, values::count(1..=1_000_000));
    section.set("fileBytes", &mut files.file_bytes, values::size(1 << 10..=1 << 30));
    section.finish();
    folder.is_some().then_some(files)
}
