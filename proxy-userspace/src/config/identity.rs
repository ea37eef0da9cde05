//! `identity`: who this node's pods are to other weirs, and whom weir believes.

use std::path::{Path, PathBuf};

use super::fields::Section;
use super::problem::{Mistake, quoted};
use super::tree::Node;
use super::{Certificate, values};
use crate::domain::identity::{ServiceAccount, TrustDomain};

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
    section.not_yet("mode", "remove it; weir does not yet encrypt anything by its identities");
    if !section.has("files") {
        let mistake = Mistake::new("there are no files to read identities from");
        section.mistake("files", mistake.hint("write `files: { bundle: …, certificates: […] }`"));
    }
    let files = section.section("files").and_then(|files| read_files(files, base));
    section.finish();
    let (bundle, certificates) = files?;
    Some(Identity { trust_domain, bundle, certificates })
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
    let mut seen = std::collections::HashSet::new();
    for twice in certificates.iter().map(|it| &it.account).filter(|it| !seen.insert(*it)) {
        let mistake = Mistake::new(format!("{} is here twice", quoted(&twice.to_string())));
        section.mistake("certificates", mistake.hint("a service account has one certificate"));
    }
    section.finish();
    Some((bundle?, certificates))
}

fn read_own(mut section: Section<'_, '_>, base: &Path) -> Option<Own> {
    let (mut name, mut certificate, mut key) = (None, None, None);
    section.set("name", &mut name, |node| {
        let text = values::text(node)?;
        let account = text.parse::<ServiceAccount>().map_err(|_| {
            let mistake = Mistake::new(format!("{} is no service account", quoted(text)));
            mistake.hint("write its namespace and its name, as in `shop/frontend`")
        });
        account.map(Some)
    });
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
