//! `weir certs`.

use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use crate::config;
use crate::identity::check;
use crate::identity::development::make;

#[test]
fn what_is_made_for_development_serves_says_so_and_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("certs");
    let trust_domain = "demo.example".parse().unwrap();
    let accounts = ["shop/web", "shop/db.main", "bank/web"].map(|it| it.parse().unwrap());
    let made = make(&trust_domain, &accounts, &out, 1).unwrap();
    let wanted = config::Identity {
        trust_domain: trust_domain.clone(),
        bundle: made.bundle.clone(),
        certificates: made.certificates.clone(),
        wire: None,
    };
    let (in_force, problems) = check(&wanted, SystemTime::now());
    assert_eq!(problems, [""; 0]);
    assert_eq!(in_force.certificates.len(), 3);
    assert!(in_force.bundle.unwrap().is_development);
    let keys = made.certificates.iter().map(|it| it.files.key.clone()).chain([out.join("ca.key")]);
    for key in keys {
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", key.display());
    }
    let before = std::fs::read(&made.bundle).unwrap();
    let again = make(&trust_domain, &accounts, &out, 1).unwrap_err().to_string();
    assert!(again.contains("there is an authority already"), "{again}");
    assert_eq!(std::fs::read(&made.bundle).unwrap(), before);
}
