//! `weir certs`: certificates for demos and tests.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::domain::identity::{ServiceAccount, TrustDomain};
use crate::identity::development::{Made, make};
use crate::telemetry::log;

/// Makes the files, and prints the configuration that uses them.
pub(super) fn run(
    trust_domain: &TrustDomain,
    accounts: &[ServiceAccount],
    out: &Path,
    days: u32,
) -> ExitCode {
    match make(trust_domain, accounts, out, days) {
        Ok(made) => {
            log::say(format_args!(
                "weir: DEVELOPMENT certificates, valid for {days} days, are in {}. Whoever reads ca.key there can be any \
                 service account of {trust_domain}. Do not use them in production.",
                out.display()
            ));
            super::write(&section(trust_domain, &made))
        }
        Err(error) => {
            log::say(format_args!("weir: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The section of the configuration. Paths are quoted as JSON, which YAML reads.
fn section(trust_domain: &TrustDomain, made: &Made) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let path = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        quoted(&path.to_string_lossy())
    };
    let mut text = format!(
        "# DEVELOPMENT certificates, not for production.\nidentity:\n  trustDomain: {}\n  source: files\n  \
         files:\n    bundle: {}\n    certificates:\n",
        quoted(trust_domain.as_str()),
        path(&made.bundle)
    );
    for own in &made.certificates {
        let (certificate, key) = (path(&own.files.certificate), path(&own.files.key));
        // To a String, which takes everything.
        let _ = writeln!(text, "      - {{ name: {}, certificate: {certificate}, key: {key} }}", own.account);
    }
    text
}
