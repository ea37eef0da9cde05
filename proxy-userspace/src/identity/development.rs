//! `weir certs`: an authority and certificates for demos and tests.
//!
//! All that is made here says so in its subject, and weir warns where it is used: the authority's key is a file like any other.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::config::{Certificate, Own};
use crate::domain::identity::{ServiceAccount, TrustDomain};

/// The organization in the subject of each certificate.
const ORGANIZATION: &str = "weir DEVELOPMENT certificates, not for production";

/// How long before now certificates begin to be valid, for clocks that differ.
const BACKDATED: Duration = Duration::hours(1);

/// The files that were made.
#[derive(Debug)]
pub struct Made {
    /// The authority's certificate.
    pub bundle: PathBuf,
    /// The certificates with their keys.
    pub certificates: Vec<Own>,
}

/// Makes an authority and a certificate for each service account in the folder `out`, which is made if it is missing. All are
/// valid for `days`. Keys can be read by this user alone.
///
/// # Errors
///
/// `out` has an authority already, or a file cannot be written.
pub fn make(
    trust_domain: &TrustDomain,
    accounts: &[ServiceAccount],
    out: &Path,
    days: u32,
) -> anyhow::Result<Made> {
    let bundle = out.join("ca.crt");
    if bundle.exists() {
        bail!("{}: there is an authority already; name another folder, or remove this one", out.display());
    }
    let (from, until) = {
        let now = OffsetDateTime::now_utc();
        (now - BACKDATED, now + Duration::days(days.into()))
    };
    let parameters = |name: String| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        parameters.distinguished_name.push(DnType::CommonName, name);
        (parameters.not_before, parameters.not_after) = (from, until);
        parameters
    };
    let mut authority = parameters(format!("development CA of {trust_domain}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    folder(out)?;
    write(&out.join("ca.key"), &key.serialize_pem(), 0o600)?;
    let authority = CertifiedIssuer::self_signed(authority, key)?;
    write(&bundle, &authority.pem(), 0o644)?;
    let mut certificates = Vec::with_capacity(accounts.len());
    for account in accounts {
        let mut workload = parameters(account.to_string());
        workload.subject_alt_names =
            vec![SanType::URI(trust_domain.id_of(account).to_string().as_str().try_into()?)];
        workload.is_ca = IsCa::ExplicitNoCa;
        workload.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        workload.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        workload.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = workload.signed_by(&key, &authority)?;
        let own = out.join(account.namespace()).join(account.name());
        folder(&own)?;
        let files = Certificate { certificate: own.join("tls.crt"), key: own.join("tls.key") };
        write(&files.certificate, &certificate.pem(), 0o644)?;
        write(&files.key, &key.serialize_pem(), 0o600)?;
        certificates.push(Own { account: account.clone(), files });
    }
    Ok(Made { bundle, certificates })
}

/// Whether this subject (DER) is one of a certificate that was made here.
pub(super) fn made(subject: &[u8]) -> bool {
    subject.windows(ORGANIZATION.len()).any(|part| part == ORGANIZATION.as_bytes())
}

fn folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).with_context(|| path.display().to_string())
}

/// Writes a new file. One that is there already is an error.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let file = File::options().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}
