//! Identities from files, as an operator meets them.

use std::path::Path;

use e2e::{Weir, eventually};

/// Makes certificates for these service accounts with `weir certs`, in the folder `certs` beside the configuration. Returns the
/// section of the configuration that it printed.
fn certs(folder: &Path, accounts: &[&str]) -> String {
    let out = folder.join("certs");
    let arguments = ["certs", "--trust-domain", "demo.example", "--out", out.to_str().unwrap()];
    let exit = Weir::new().run(&[&arguments, accounts].concat());
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains("DEVELOPMENT"), "{}", exit.stderr);
    let section = exit.stdout.strip_prefix("# DEVELOPMENT certificates, not for production.\nidentity:");
    section.expect("a section that says what it is for").to_owned()
}

#[test]
fn what_weir_certs_makes_and_prints_is_an_identity() {
    let folder = tempfile::tempdir().unwrap();
    let section = certs(folder.path(), &["shop/web", "shop/db"]);
    let builder = Weir::new().set("identity", &section);
    let check = builder.run(&["check", "CONFIG"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    assert!(check.stdout.contains("; 2 identities of demo.example"), "{}", check.stdout);
    assert!(check.stderr.contains("made by `weir certs`, for development"), "{}", check.stderr);
    let weir = builder.start();
    eventually("identities", || {
        weir.state()["identity"]["certificates"].as_array().is_some_and(|it| it.len() == 2)
    });
    let state = weir.state();
    assert_eq!(state["identity"]["certificates"][1]["id"], "spiffe://demo.example/ns/shop/sa/web");
    let days = weir.metric("weir_identity_expiry_seconds", &[("identity", "shop/web")]) / 86400.0;
    assert!((29.0..=30.0).contains(&days), "{days}");
    assert!(weir.metric("weir_identity_bundle_expiry_seconds", &[]) > 0.0);
    weir.expect_log("for DEVELOPMENT only");
    let admin = weir.admin().to_string();
    let status = Weir::new().run(&["status", "--admin", &admin]).stdout;
    assert!(
        status.contains("identity: 2 of 2 certificates of demo.example, the first expires in 7"),
        "{status}"
    );
    assert!(status.contains("DEVELOPMENT certificates"), "{status}");
}

#[test]
fn a_certificate_that_becomes_wrong_stays_as_it_was_and_is_said_until_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let section = certs(folder.path(), &["shop/web"]);
    let weir = Weir::new().set("identity", &section).start();
    eventually("an identity", || weir.state()["identity"]["certificates"][0]["id"].is_string());
    let file = folder.path().join("certs/shop/web/tls.crt");
    let good = std::fs::read(&file).unwrap();
    let problems = || weir.state()["identity"]["problems"].to_string();
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    eventually("the mistake", || {
        problems().contains("its PEM is truncated; the last good one stays in force")
    });
    weir.expect_log("its PEM is truncated");
    assert_eq!(weir.metric("weir_identity_reload_failures_total", &[("reason", "truncated")]), 1.0);
    assert_eq!(weir.metric("weir_identity_problems", &[]), 1.0);
    assert!(weir.metric("weir_identity_expiry_seconds", &[("identity", "shop/web")]) > 0.0, "it stays");
    std::fs::write(&file, &good).unwrap();
    eventually("its end", || problems() == "[]");
}

#[test]
fn an_identity_that_is_wrong_at_start_keeps_weir_from_nothing_else_and_fails_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let section = certs(folder.path(), &["shop/web", "shop/db"]);
    std::fs::remove_file(folder.path().join("certs/shop/web/tls.key")).unwrap();
    let builder = Weir::new().set("identity", &section);
    let check = builder.run(&["check", "CONFIG"]);
    assert_eq!(check.code, Some(78), "{}", check.stdout);
    assert!(check.stderr.contains("identity.files.certificates, shop/web: "), "{}", check.stderr);
    assert!(check.stderr.contains("tls.key: it cannot be read: No such file"), "{}", check.stderr);
    let weir = builder.start();
    eventually("the other one", || {
        weir.state()["identity"]["certificates"].as_array().is_some_and(|it| it.len() == 1)
    });
    let problem = weir.state()["identity"]["problems"][0].to_string();
    assert!(problem.contains("the service account has no identity"), "{problem}");
    weir.admin_get("/ready").expect_status(200);
}

#[test]
fn identities_come_and_go_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let section = certs(folder.path(), &["shop/web"]);
    let weir = Weir::new().start();
    assert!(weir.state()["identity"].is_null());
    let file = weir.folder().path().join("weir.yaml");
    let without = std::fs::read_to_string(&file).unwrap();
    weir.folder().config(&format!("{without}identity:{section}"));
    eventually("an identity", || weir.state()["identity"]["certificates"][0]["id"].is_string());
    assert_eq!(weir.state()["reload"]["waitForRestart"].to_string(), "[]");
    weir.folder().config(&without);
    eventually("none", || weir.state()["identity"].is_null());
}

#[test]
fn weir_certs_overwrites_nothing_and_takes_no_names_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    certs(folder.path(), &["shop/web"]);
    let out = folder.path().join("certs");
    let out = out.to_str().unwrap();
    let exit = Weir::new().run(&["certs", "--out", out, "shop/web"]);
    assert_eq!(exit.code, Some(1), "{}", exit.stdout);
    assert!(exit.stderr.contains("there is an authority already"), "{}", exit.stderr);
    for wrong in [
        &["--out", out][..],
        &["--out", out, "web"],
        &["--out", out, "../web"],
        &["--out", out, "a/../b"],
        &["a/b"],
    ] {
        let exit = Weir::new().run(&[&["certs"], wrong].concat());
        assert_eq!(exit.code, Some(64), "{wrong:?}: {}", exit.stderr);
    }
}
