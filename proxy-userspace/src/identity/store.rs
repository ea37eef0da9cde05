//! What is in force, and how it follows the files.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio_rustls::rustls::crypto::CryptoProvider;

use super::bundle::Bundle;
use super::error::{IdentityError, Reason};
use super::links::Links;
use super::own::Own;
use super::tls;
use crate::config;
use crate::domain::identity::{ServiceAccount, TrustDomain};
use crate::telemetry::Counter;

/// For how many seconds files that cannot be used are left alone while they do not change. They are read again then,
/// because a certificate may have become valid.
const AGAIN: u64 = 10;

/// The identities in force, and what has become of their files.
pub struct Identities {
    in_force: ArcSwapOption<InForce>,
    links: ArcSwapOption<Links>,
    looked: Mutex<Looked>,
    provider: Arc<CryptoProvider>,
    /// Certificates and bundles taken over from files.
    pub reloads: Counter,
    /// Files that could not be used, by [`Reason::LABELS`]. One that stays as it is counts once.
    pub failures: [Counter; Reason::LABELS.len()],
}

/// The identities in force.
#[derive(Debug)]
pub struct InForce {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// How many certificates are configured.
    pub configured: usize,
    /// The root certificates. Without any there is no identity either.
    pub bundle: Option<Arc<Bundle>>,
    /// The certificates by service account.
    pub certificates: BTreeMap<ServiceAccount, Arc<Own>>,
    /// The files that cannot be used now; `None` is the bundle.
    pub problems: BTreeMap<Option<ServiceAccount>, IdentityError>,
}

/// The last look at the files.
#[derive(Default)]
struct Looked {
    wanted: Option<config::Identity>,
    stamps: Vec<Option<Stamp>>,
    at: u64,
}

/// Distinguishes versions of a file: inode, size, time of the last write and of the last change.
type Stamp = (u64, u64, (i64, i64), (i64, i64));

impl Default for Identities {
    fn default() -> Self {
        Self {
            in_force: ArcSwapOption::empty(),
            links: ArcSwapOption::empty(),
            looked: Mutex::default(),
            provider: tls::provider(),
            reloads: Counter::default(),
            failures: Default::default(),
        }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("in_force", &self.in_force).finish_non_exhaustive()
    }
}

impl Identities {
    /// What is in force; `None` if no identities are configured, or the files have not been read yet.
    pub fn in_force(&self) -> Option<Arc<InForce>> {
        self.in_force.load_full()
    }

    /// What connections between weirs are made by; `None` if they are as their pods make them.
    pub fn links(&self) -> Option<Arc<Links>> {
        self.links.load_full()
    }

    /// Reads the files that are `wanted` if they have changed, or if something in them becomes valid or expires. What
    /// cannot be used stays as it was, each file for itself: a mistake in the files of one identity does not affect the others.
    /// Blocks while it reads files. Returns whether [`Self::links`] are others now.
    pub fn look(&self, wanted: Option<&config::Identity>, now: SystemTime) -> bool {
        let mut looked = self.looked.lock();
        let Some(wanted) = wanted else {
            *looked = Looked::default();
            self.in_force.store(None);
            return self.links.swap(None).is_some();
        };
        let now = seconds(now);
        // Before the files are read: a change in between is seen by the next look.
        let stamps = stamps(wanted);
        let before = self.in_force();
        let is_same = looked.wanted.as_ref() == Some(wanted) && looked.stamps == stamps;
        if is_same && before.as_deref().is_some_and(|it| !it.is_due(looked.at, now)) {
            return false;
        }
        let last_good = before.as_deref().filter(|it| it.trust_domain == wanted.trust_domain);
        let after = read(wanted, last_good, &self.provider, now);
        self.tell(before.as_deref(), &after);
        let after = Arc::new(after);
        self.in_force.store(Some(after.clone()));
        let is_same = is_same && before.is_some_and(|before| before.is(&after));
        *looked = Looked { wanted: Some(wanted.clone()), stamps, at: now };
        if is_same {
            return false;
        }
        let before = self.links();
        let links = wanted
            .wire
            .as_ref()
            .map(|wire| Arc::new(Links::new(wire, after, self.provider.clone(), before.as_deref())));
        let is_any = before.is_some() || links.is_some();
        self.links.store(links);
        is_any
    }

    /// Counts and logs what is new.
    fn tell(&self, before: Option<&InForce>, after: &InForce) {
        let bundle = before.and_then(|it| it.bundle.as_ref());
        if let Some(new) = after.bundle.as_ref().filter(|new| bundle.is_none_or(|old| !new.is(old))) {
            self.reloads.inc();
            tracing::info!(roots = new.count, "identity: root certificates are in force");
            if new.is_development {
                tracing::warn!(
                    "identity: the root certificate was made by `weir certs`, for DEVELOPMENT only: whoever has its \
                     key can be anybody"
                );
            }
        }
        for (account, new) in &after.certificates {
            let old = before.and_then(|it| it.certificates.get(account));
            if old.is_none_or(|old| !new.is(old)) {
                self.reloads.inc();
                tracing::info!(%account, "identity: a certificate is in force");
            }
        }
        for (whose, problem) in &after.problems {
            if before.and_then(|it| it.problems.get(whose)) != Some(problem) {
                self.failures[problem.reason.index()].inc();
                tracing::error!("identity: {problem}; {}", after.instead(whose.as_ref()));
            }
        }
    }
}

impl InForce {
    /// Whether files that have not changed are to be read again.
    fn is_due(&self, last: u64, now: u64) -> bool {
        let failed = !self.problems.is_empty() && now.abs_diff(last) >= AGAIN;
        failed || self.bundle.as_ref().is_some_and(|it| (last..now).contains(&it.changes))
    }

    /// Whether `other` has the same roots and certificates.
    fn is(&self, other: &Self) -> bool {
        let bundle = match (&self.bundle, &other.bundle) {
            (Some(own), Some(other)) => own.is(other),
            (own, other) => own.is_none() && other.is_none(),
        };
        let same = |(own, other): ((_, &Arc<Own>), (_, &Arc<Own>))| own.0 == other.0 && own.1.is(other.1);
        bundle
            && self.certificates.len() == other.certificates.len()
            && self.certificates.iter().zip(&other.certificates).all(same)
    }

    /// What is in force where a file cannot be used; `None` is the bundle.
    pub fn instead(&self, whose: Option<&ServiceAccount>) -> &'static str {
        let is_kept = match whose {
            None => self.bundle.is_some(),
            Some(account) => self.certificates.contains_key(account),
        };
        match (whose, is_kept) {
            (_, true) => "the last good one stays in force",
            (None, false) => "without root certificates there are no identities",
            (Some(_), false) => "the service account has no identity",
        }
    }
}

/// What is wrong with the files that are `wanted`, each with the key in the configuration.
pub fn check(wanted: &config::Identity, now: SystemTime) -> (InForce, Vec<String>) {
    let read = read(wanted, None, &tls::provider(), seconds(now));
    let key = |whose: &Option<ServiceAccount>| match whose {
        None => "identity.files.bundle".to_owned(),
        Some(account) => format!("identity.files.certificates, {account}"),
    };
    let problems = read.problems.iter().map(|(whose, problem)| format!("{}: {problem}", key(whose)));
    let problems = problems.collect();
    (read, problems)
}

/// Reads all files; what cannot be used is taken from `last_good`.
fn read(
    wanted: &config::Identity,
    last_good: Option<&InForce>,
    provider: &CryptoProvider,
    now: u64,
) -> InForce {
    let mut read = InForce {
        trust_domain: wanted.trust_domain.clone(),
        configured: wanted.certificates.len(),
        bundle: last_good.and_then(|it| it.bundle.clone()),
        certificates: BTreeMap::new(),
        problems: BTreeMap::new(),
    };
    match Bundle::read(&wanted.bundle, now) {
        Ok(bundle) => read.bundle = Some(Arc::new(bundle)),
        Err(problem) => drop(read.problems.insert(None, problem)),
    }
    let Some(bundle) = read.bundle.clone() else { return read };
    for own in &wanted.certificates {
        let account = &own.account;
        let good = match Own::read(own, &wanted.trust_domain, &bundle, provider, now) {
            Ok(new) => Some(Arc::new(new)),
            Err(problem) => {
                read.problems.insert(Some(account.clone()), problem);
                last_good.and_then(|it| it.certificates.get(account).cloned())
            }
        };
        read.certificates.extend(good.map(|good| (account.clone(), good)));
    }
    read
}

fn stamps(wanted: &config::Identity) -> Vec<Option<Stamp>> {
    let own = wanted.certificates.iter().flat_map(|it| [&it.files.certificate, &it.files.key]);
    std::iter::once(&wanted.bundle).chain(own).map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(file).ok()?;
    Some((
        facts.ino(),
        facts.size(),
        (facts.mtime(), facts.mtime_nsec()),
        (facts.ctime(), facts.ctime_nsec()),
    ))
}

/// Seconds since 1970; 0 before.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}
