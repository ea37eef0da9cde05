//! Authorities and certificates of every kind, for tests.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use time::{Duration, OffsetDateTime};

use crate::config::{self, Certificate};

/// The identity that certificates of the tests have, unless they say otherwise.
pub(crate) const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// The present, in seconds since 1970.
pub(crate) fn now() -> u64 {
    super::store::seconds(SystemTime::now())
}

/// When a certificate is valid, in hours from now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hours(pub(crate) i64, pub(crate) i64);

/// Valid now.
pub(crate) const NOW: Hours = Hours(-1, 24);
/// Not any more.
pub(crate) const PAST: Hours = Hours(-24, -1);
/// Not yet.
pub(crate) const FUTURE: Hours = Hours(1, 24);

fn parameters(name: &str, valid: Hours) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now + Duration::hours(valid.0);
    parameters.not_after = now + Duration::hours(valid.1);
    parameters
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str, valid: Hours) -> Self {
        let mut parameters = parameters(name, valid);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority below this one.
    pub(crate) fn below(&self, name: &str, valid: Hours) -> Self {
        let mut parameters = parameters(name, valid);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with these URIs, and its key.
    pub(crate) fn signs(&self, uris: &[&str], valid: Hours) -> (String, String) {
        self.signs_for(uris, valid, &[])
    }

    /// The same, to be used for this alone.
    pub(crate) fn signs_for(
        &self,
        uris: &[&str],
        valid: Hours,
        uses: &[ExtendedKeyUsagePurpose],
    ) -> (String, String) {
        let mut parameters = parameters("a workload", valid);
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        parameters.subject_alt_names = uris.iter().map(uri).collect();
        parameters.extended_key_usages = uses.to_vec();
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A certificate for a key.
    pub(crate) fn signs_key(&self, uri: &str, key: &KeyPair) -> String {
        let mut parameters = parameters("a workload", NOW);
        parameters.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        parameters.signed_by(key, &self.0).unwrap().pem()
    }

    /// A certificate of an authority that names a workload.
    pub(crate) fn signs_authority(&self, uri: &str) -> (String, String) {
        let mut parameters = parameters("an authority", NOW);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A folder with the files of one identity.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    /// With these contents.
    pub(crate) fn new(bundle: &str, (certificate, key): &(String, String)) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("ca.crt", bundle);
        files.write("tls.crt", certificate);
        files.write("tls.key", key);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file at once, as a mounted Secret does.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    /// The settings that name them.
    pub(crate) fn wanted(&self) -> config::Identity {
        config::Identity {
            trust_domain: "cluster.local".parse().unwrap(),
            bundle: self.path("ca.crt"),
            certificates: vec![own("shop/web", &self.path("tls.crt"), &self.path("tls.key"))],
            wire: None,
        }
    }
}

/// The settings of one certificate.
pub(crate) fn own(account: &str, certificate: &Path, key: &Path) -> config::Own {
    let files = Certificate { certificate: certificate.to_owned(), key: key.to_owned() };
    config::Own { account: account.parse().unwrap(), files }
}
