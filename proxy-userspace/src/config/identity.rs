//! `identity`: who this node's pods are to other weirs, and whom weir believes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::fields::Section;
use super::problem::{Mistake, quoted};
use super::tree::Node;
use super::{Allow, Certificate, values};
use crate::domain::identity::{ServiceAccount, TrustDomain};

/// The most ranges in `wire.allow`.
const MOST_RANGES: usize = 1024;

/// The most addresses in `wire.peers`.
const MOST_PEERS: usize = 10_000;

/// The default of `wire.handshakes`.
const HANDSHAKES: u32 = 100;

/// The most certificates: as many service accounts as a node's pods can have.
const MOST: usize = 1000;

/// Identities from files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `trustDomain`: what vouches for IDs, `spiffe://<trust domain>/…`. Default `cluster.local`.
    pub trust_domain: TrustDomain,
    /// `files.bundle`: the root certificates of the trust domain, in one PEM file.
    pub bundle: PathBuf,
    /// `files.certificates`: one for each service account.
    pub certificates: Vec<Own>,
    /// `wire`: what is encrypted between weirs; nothing if it is absent.
    pub wire: Option<Wire>,
}

/// `wire`: what is encrypted between weirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// `allow`: where connections of other weirs come from. Default: private, unique local, link-local and loopback ranges.
    pub allow: Allow,
    /// `handshakes`: how many TLS handshakes of clients that do not prove who they are may begin at one pod within a second,
    /// of which one source may have a fifth. 1 to 100,000, default 100.
    pub handshakes: u32,
    /// `mode`: what becomes of connections that cannot be encrypted. Default `permissive`.
    pub mode: WireMode,
    /// `plain`: addresses that are reached without TLS in `strict` mode, too. Default none.
    pub plain: Vec<IpNet>,
    /// `pods`: this node's pods that have an identity.
    pub pods: Vec<WirePod>,
    /// `peers`: where the pods are that take TLS.
    pub peers: Vec<Peer>,
}

/// What becomes of a pod's connection to an endpoint that cannot be encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireMode {
    /// It is made in plain, and counted.
    #[default]
    Permissive,
    /// It is not made, if the endpoint is a service's.
    Strict,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WirePod {
    /// `netns`: the name of its file in `transparent.netns`.
    pub netns: String,
    /// `name`: its service account.
    pub account: ServiceAccount,
}

/// Pods that take TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `name`: their service account.
    pub account: ServiceAccount,
    /// `addresses`: their own addresses.
    pub addresses: Vec<IpAddr>,
}

/// The certificate of a service account, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// `name`: whose it is, which the certificate has to say as well.
    pub account: ServiceAccount,
    /// `certificate` and `key`: the PEM files.
    pub files: Certificate,
}

/// `base` is the folder that a relative path is relative to.
pub(super) fn read(mut section: Section<'_, '_>, base: &Path) -> Option<Identity> {
    let mut trust_domain = TrustDomain::default();
    section.set("trustDomain", &mut trust_domain, |node| {
        let text = values::text(node)?;
        text.parse().map_err(|error| Mistake::new(format!("{} is no trust domain: {error}", quoted(text))))
    });
    section.set("source", &mut (), source);
    section.not_yet("mode", "write it as `wire: { mode: … }`");
    if !section.has("files") {
        let mistake = Mistake::new("there are no files to read identities from");
        section.mistake("files", mistake.hint("write `files: { bundle: …, certificates: […] }`"));
    }
    let files = section.section("files").and_then(|files| read_files(files, base));
    let wire = section.switch("wire").map(read_wire);
    let (bundle, certificates) = files.unwrap_or_default();
    let has = |account: &ServiceAccount| certificates.iter().any(|own| own.account == *account);
    let pods = wire.iter().flat_map(|wire| &wire.pods).filter(|_| section.has("files"));
    for without in
        pods.filter(|pod| !has(&pod.account)).map(|pod| pod.account.to_string()).collect::<Vec<_>>()
    {
        let mistake = Mistake::new(format!("`pods` has {}, which has no certificate", quoted(&without)));
        section.mistake("wire", mistake.hint("add one to `files.certificates`, or take the pod out"));
    }
    section.finish();
    Some(Identity { trust_domain, bundle, certificates, wire })
}

fn read_wire(mut section: Section<'_, '_>) -> Wire {
    let allow = Allow::read(&mut section);
    let mut handshakes = HANDSHAKES;
    section.set("handshakes", &mut handshakes, values::count(1..=100_000));
    let mut mode = WireMode::default();
    section.set(
        "mode",
        &mut mode,
        values::choice(&[("permissive", WireMode::Permissive), ("strict", WireMode::Strict)]),
    );
    let plain = section.list("plain", values::cidr).unwrap_or_default();
    let pods = section.sections("pods", |mut pod| {
        let mut netns = None;
        pod.set("netns", &mut netns, |node| Ok(Some(values::text(node)?.to_owned())));
        let account = account(&mut pod);
        missing(&mut pod, &["netns", "name"]);
        pod.finish();
        Some(WirePod { netns: netns?, account: account? })
    });
    let peers = section.sections("peers", |mut peer| {
        let account = account(&mut peer);
        let addresses = peer.list("addresses", address).unwrap_or_default();
        missing(&mut peer, &["name", "addresses"]);
        peer.finish();
        Some(Peer { account: account?, addresses })
    });
    let wire = Wire {
        allow,
        handshakes,
        mode,
        plain,
        pods: pods.into_iter().flatten().collect(),
        peers: peers.into_iter().flatten().collect(),
    };
    for (key, what, hint) in check_wire(&wire) {
        section.mistake(key, Mistake::new(what).hint(hint));
    }
    section.finish();
    wire
}

/// What is wrong with it as a whole: the key, the mistake, and a hint.
fn check_wire(wire: &Wire) -> Vec<(&'static str, String, String)> {
    let mut said = Vec::new();
    if wire.allow.ranges().len() > MOST_RANGES {
        said.push((
            "allow",
            format!("{} ranges", wire.allow.ranges().len()),
            format!("at most {MOST_RANGES}"),
        ));
    }
    let mut seen = HashSet::new();
    for twice in wire.pods.iter().filter(|it| !seen.insert(&it.netns)) {
        said.push((
            "pods",
            format!("{} is here twice", quoted(&twice.netns)),
            "a pod has one service account".to_owned(),
        ));
    }
    let mut seen = HashSet::new();
    let addresses = wire.peers.iter().flat_map(|it| &it.addresses);
    for twice in addresses.filter(|it| !seen.insert(it.to_canonical())) {
        said.push(("peers", format!("{twice} is here twice"), "an address is one pod's".to_owned()));
    }
    if seen.len() > MOST_PEERS {
        said.push(("peers", format!("{} addresses", seen.len()), format!("at most {MOST_PEERS}")));
    }
    said
}

fn address(node: &Node) -> Result<IpAddr, Mistake> {
    let text = values::text(node)?;
    text.parse().map_err(|_| {
        Mistake::new(format!("{} is no address", quoted(text))).hint("write a pod's own address")
    })
}

/// The section's `name`.
fn account(section: &mut Section<'_, '_>) -> Option<ServiceAccount> {
    let mut name = None;
    section.set("name", &mut name, |node| {
        let text = values::text(node)?;
        let account = text.parse::<ServiceAccount>().map_err(|_| {
            let mistake = Mistake::new(format!("{} is no service account", quoted(text)));
            mistake.hint("write its namespace and its name, as in `shop/frontend`")
        });
        account.map(Some)
    });
    name
}

/// Says which of these keys the section lacks.
fn missing(section: &mut Section<'_, '_>, keys: &[&'static str]) {
    let all = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ");
    for key in keys.iter().filter(|key| !section.has(key)).copied().collect::<Vec<_>>() {
        section.mistake(key, Mistake::new(format!("`{key}` is missing")).hint(format!("write {all}")));
    }
}

/// Where identities come from.
fn source(node: &Node) -> Result<(), Mistake> {
    match values::text(node)? {
        "files" => Ok(()),
        text @ ("issuer" | "spire") => {
            let mistake = Mistake::new(format!("{} is not in this version yet", quoted(text)));
            Err(mistake.hint("write `files`, or remove it"))
        }
        text => Err(Mistake::new(format!("{} is not a choice", quoted(text))).hint("write `files`")),
    }
}

fn read_files(mut section: Section<'_, '_>, base: &Path) -> Option<(PathBuf, Vec<Own>)> {
    let mut bundle = None;
    section.set("bundle", &mut bundle, path(base, "a file with root certificates"));
    let certificates = section.sections("certificates", |section| read_own(section, base));
    if !section.has("bundle") {
        let mistake = Mistake::new("without root certificates no peer's certificate could be verified");
        section.mistake("bundle", mistake.hint("name a file with them: `bundle: ca.crt`"));
    }
    if certificates.len() > MOST {
        let mistake = Mistake::new(format!("{} certificates", certificates.len()));
        section.mistake("certificates", mistake.hint(format!("at most {MOST}")));
    }
    let certificates: Vec<Own> = certificates.into_iter().flatten().collect();
    let mut seen = HashSet::new();
    for twice in certificates.iter().map(|it| &it.account).filter(|it| !seen.insert(*it)) {
        let mistake = Mistake::new(format!("{} is here twice", quoted(&twice.to_string())));
        section.mistake("certificates", mistake.hint("a service account has one certificate"));
    }
    section.finish();
    Some((bundle?, certificates))
}

fn read_own(mut section: Section<'_, '_>, base: &Path) -> Option<Own> {
    let (mut certificate, mut key) = (None, None);
    let name = account(&mut section);
    section.set("certificate", &mut certificate, path(base, "a file with a certificate"));
    section.set("key", &mut key, path(base, "a file with its private key"));
    for key in ["name", "certificate", "key"] {
        if !section.has(key) {
            let mistake = Mistake::new(format!("`{key}` is missing"));
            section.mistake(key, mistake.hint("write `name`, `certificate` and `key`"));
        }
    }
    section.finish();
    Some(Own { account: name?, files: Certificate { certificate: certificate?, key: key? } })
}

fn path(base: &Path, what: &'static str) -> impl Fn(&Node) -> Result<Option<PathBuf>, Mistake> {
    move |node| Ok(Some(base.join(values::path(node, what)?)))
}
