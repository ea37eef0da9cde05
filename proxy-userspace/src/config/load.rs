//! From a file or a text to checked settings.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::fields::{Report, Section};
use super::problem::{ConfigError, Mistake, Problem};
use super::settings::Settings;
use super::tree::{Bounds, Node, read_yaml};
use super::{
    Discovery, Enrol, Outgoing, Sockets, admin, breaker, discovery, drain, dtab, identifier, identity,
    limits, listeners, log, names, outgoing, policies, routers, transparent, values,
};
use crate::domain::route::Configured;

/// A configuration written by hand has a few kilobytes; a much larger file is some other file.
const BOUNDS: Bounds = Bounds { bytes: 1 << 20, nodes: 20_000 };

/// The settings in the file at `path`, or the defaults without one.
///
/// # Errors
/// Every mistake in the file at once; or, if it cannot be read, one sentence that says so.
pub fn load(path: Option<&Path>) -> Result<Settings, ConfigError> {
    // Waits for a pipe, since a shell's `<(…)` is one.
    path.map_or_else(|| Ok(Settings::default()), |path| load_from(path, |path| File::open(path)))
}

/// As [`load`], for a running process that must not block: reads only a regular file that is not empty. An empty file
/// is what a full disk, or an editor for a moment, leaves, and would set every default at once.
///
/// # Errors
/// As for [`load`], and for an empty file.
pub fn load_again(path: &Path) -> Result<Settings, ConfigError> {
    let text = read(path, open_regular)?;
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Err(ConfigError::unreadable(path, "empty (write `{}` for all the defaults)"));
    }
    of_text(path, &text)
}

/// Opens a regular file for reading without blocking. Anything else is refused at once: opening a pipe, for example,
/// waits for its writer.
///
/// # Errors
/// It cannot be opened, or is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other("it is not a regular file"))
}

fn load_from(path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> Result<Settings, ConfigError> {
    of_text(path, &read(path, open)?)
}

fn of_text(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&path.display().to_string(), text, base)
}

fn read(path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    // One byte more than the limit, so that a file at the limit is accepted and a larger one is detected.
    let limit = BOUNDS.bytes as u64 + 1;
    open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::unreadable(path, format!("cannot be read: {error}")))?;
    if bytes.len() > BOUNDS.bytes {
        return Err(ConfigError::unreadable(path, "larger than 1 MiB: this is no configuration of weir"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ConfigError::unreadable(path, format!("not text: byte {at} is not UTF-8"))
    })
}

/// Parses the settings in `text`. `name` is the file's name in problems; its relative paths are relative to `base`.
///
/// # Errors
/// Every mistake at once, in the order of the text.
pub fn parse(name: &str, text: &str, base: &Path) -> Result<Settings, ConfigError> {
    let mut report = Report::new(name);
    let documents = read_yaml(text, BOUNDS).map_err(|error| {
        let problem = Problem::at(name, error.at, "", Mistake::new(error.what));
        ConfigError { problems: vec![problem] }
    })?;
    if let Some(second) = documents.get(1) {
        report.add(second.at, "", Mistake::new("a second document").hint("a configuration is one document"));
    }
    let settings = match documents.first() {
        Some(root) => read_root(root, base, &mut report),
        None => Settings::default(),
    };
    let problems = report.into_problems();
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
}

fn read_root(node: &Node, base: &Path, report: &mut Report) -> Settings {
    let mut settings = Settings::default();
    if let Some(mistake) = another_format(node) {
        report.add(node.at, "", mistake);
        return settings;
    }
    if let Some(root) = Section::open(node, "", report) {
        read_sections(root, base, &mut settings);
        routers::check(node, report);
        listeners::check(&settings, node, report);
        check_enrol(&settings, node, report);
        check_clients(&settings, node, report);
        check_tokens(&settings, node, report);
        check_handover(&settings, node, report);
        check_wire(&settings, node, report);
        routers::check_objects(&settings, node, report);
    }
    settings
}

/// The known format of another program that the file has, if any: each of its keys would be unknown.
fn another_format(root: &Node) -> Option<Mistake> {
    if root.get("apiVersion").is_some() && root.get("kind").is_some() {
        let hint = "in a ConfigMap, that is the text of a key of `data`";
        return Some(Mistake::new("a Kubernetes object, not weir's configuration").hint(hint));
    }
    root.get("routers").is_some().then(|| {
        Mistake::new("linkerd's configuration, not weir's").hint("`weir import FILE` makes weir's of it")
    })
}

/// Pods can only be enrolled if a source reports them.
fn check_enrol(settings: &Settings, root: &Node, report: &mut Report) {
    let written = settings.transparent.as_ref().and_then(|it| it.enrol);
    if written != Some(Enrol::Pods) || settings.discovery != Discovery::default() {
        return;
    }
    let at = root.get("transparent").and_then(|it| it.get("enrol")).map_or(root.at, |enrol| enrol.at);
    let mistake = Mistake::new("nothing tells of pods, so none would be diverted");
    report.add(at, "transparent.enrol", mistake.hint("set `discovery`, or write `enrol: all`"));
}

/// What is encrypted between weirs goes from pod to pod. `auto` may go to the node, and nothing would be encrypted then.
fn check_wire(settings: &Settings, root: &Node, report: &mut Report) {
    let is_on = settings.identity.as_ref().is_some_and(|it| it.wire.is_some());
    if !is_on || settings.transparent.as_ref().is_some_and(|it| it.sockets == Sockets::Pod) {
        return;
    }
    let at = root.get("identity").and_then(|it| it.get("wire")).map_or(root.at, |it| it.at);
    let mistake = Mistake::new("weir may have no sockets in the pods, and then nothing would be encrypted");
    report.add(at, "identity.wire", mistake.hint("write `transparent: { sockets: pod }`"));
}

/// Two weirs that divert at the same time need ports of their own.
fn check_handover(settings: &Settings, root: &Node, report: &mut Report) {
    let on_node = settings.transparent.as_ref().filter(|it| it.sockets != Sockets::Pod);
    if settings.drain.handover.is_none() || on_node.is_none_or(|it| it.ports >= 2) {
        return;
    }
    let at = root.get("drain").and_then(|it| it.get("handover")).map_or(root.at, |it| it.at);
    let mistake = Mistake::new("each of two weirs needs a port for diverted connections, and there is one");
    report.add(at, "drain.handover", mistake.hint("set `transparent.ports` to 2 or more"));
}

/// Tokens can only be checked by an API server.
fn check_tokens(settings: &Settings, root: &Node, report: &mut Report) {
    let tokens = settings.probes.as_ref().and_then(|it| it.metrics.tokens);
    if tokens != Some(true) || settings.discovery.kubernetes.is_some() {
        return;
    }
    let written = ["probes", "metrics", "tokens"].iter().try_fold(root, |node, key| node.get(key));
    let mistake = Mistake::new("there is no API server to ask about tokens");
    let hint = "set `discovery.kubernetes`, or write `allow` with the clients that may read the metrics";
    report.add(written.map_or(root.at, |it| it.at), "probes.metrics.tokens", mistake.hint(hint));
}

/// The same is true for finding the pod of a client.
fn check_clients(settings: &Settings, root: &Node, report: &mut Report) {
    if !settings.names.client_namespace || settings.discovery != Discovery::default() {
        return;
    }
    let at = root.get("names").and_then(|it| it.get("clientNamespace")).map_or(root.at, |it| it.at);
    let mistake = Mistake::new("nothing tells of pods, so no client's namespace would be known");
    report.add(at, "names.clientNamespace", mistake.hint("set `discovery`, or remove it"));
}

fn read_sections(mut root: Section<'_, '_>, base: &Path, settings: &mut Settings) {
    let routers = match root.is_list("outgoing") {
        true => root.sections("outgoing", outgoing::read),
        false => root.section("outgoing").map(outgoing::read).into_iter().collect(),
    };
    settings.transparent = root.switch("transparent").map(transparent::read);
    settings.identity = root.switch("identity").and_then(|section| identity::read(section, base));
    root.not_yet("incoming", "remove it; weir does not yet take calls from other weirs");
    if let Some(section) = root.section("admin") {
        settings.admin = admin::read(section, base);
    }
    settings.probes = root.switch("probes").map(|section| admin::read_probes(section, base));
    root.set("workers", &mut settings.workers, values::count(1..=64));
    if let Some(section) = root.section("names") {
        settings.names = names::read(section);
    }
    if let Some(ranges) = root.list("refuse", values::cidr) {
        settings.refuse = ranges;
    }
    if let Some(section) = root.section("drain") {
        settings.drain = drain::read(section, base);
    }
    if let Some(section) = root.section("discovery") {
        settings.discovery = discovery::read(section, base);
    }
    let general = dtab::read(&mut root);
    let mut routers = routers.into_iter().map(|(router, own)| {
        let dtab = own.within(&general, router.interpreter.as_ref());
        Outgoing { dtab, ..router }
    });
    if let Some(first) = routers.next() {
        (settings.outgoing, settings.routers) = (first, routers.collect());
    }
    settings.dtab = general.dtab();
    if let Some(namers) = root.list("namers", identifier::namer) {
        // Namers that are not configured keep their defaults, after these. A duplicate would only give the same answer
        // twice.
        let is_named = |it: &Configured| {
            namers.iter().any(|named| (&named.prefix, &named.resolver) == (&it.prefix, &it.resolver))
        };
        settings.namers.retain(|it| !is_named(it));
        settings.namers.splice(0..0, namers);
    }
    if let Some(section) = root.section("limits") {
        settings.limits = limits::read(section);
    }
    if let Some(section) = root.section("breaker") {
        settings.breaker = breaker::read(section);
    }
    if let Some(section) = root.section("policies") {
        settings.policies = policies::read(section);
    }
    if let Some(section) = root.section("log") {
        settings.log = log::read(section);
    }
    root.finish();
}
