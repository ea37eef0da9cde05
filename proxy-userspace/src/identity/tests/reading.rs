//! Files that give no identity are each named.

use std::time::SystemTime;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use crate::domain::identity::IdError;
use crate::identity::testing::{Authority, FUTURE, Files, ID, NOW, PAST, own};
use crate::identity::{Reason, check};

/// An RSA key of 1024 bits, made for this test alone.
const WEAK: &str = include_str!("weak.pem");

/// What is wrong with these files, with the name of the file.
fn said(files: &Files) -> Vec<(String, Reason)> {
    let problems = check(&files.wanted(), SystemTime::now()).0.problems.into_values();
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    problems.map(|it| (name(it.file), it.reason)).collect()
}

#[test]
fn what_a_peer_would_believe_is_an_identity() {
    let root = Authority::new("root", NOW);
    let middle = root.below("middle", NOW);
    let (mut chain, key) = middle.signs(&[ID], NOW);
    chain.push_str(&middle.pem());
    let other = Authority::new("other", NOW);
    let past = Authority::new("past", PAST);
    let uses = [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    for (what, bundle, own) in [
        ("signed by the root", root.pem(), root.signs(&[ID], NOW)),
        ("by one below it", root.pem(), (chain, key)),
        ("by one of two roots", other.pem() + &root.pem(), root.signs(&[ID], NOW)),
        ("beside an expired root", past.pem() + &root.pem(), root.signs(&[ID], NOW)),
        ("for TLS on both sides", root.pem(), root.signs_for(&[ID], NOW, &uses)),
    ] {
        let files = Files::new(&bundle, &own);
        let (in_force, problems) = check(&files.wanted(), SystemTime::now());
        assert_eq!(problems, [""; 0], "{what}");
        let own = &in_force.certificates[&"shop/web".parse().unwrap()];
        assert_eq!(own.id.to_string(), ID, "{what}");
        let hours = own.until.abs_diff(super::super::testing::now()) / 3600;
        assert!((23..=24).contains(&hours), "{what}: {hours} h");
    }
}

#[test]
fn each_certificate_that_no_peer_would_believe_is_named() {
    let root = Authority::new("root", NOW);
    let other = Authority::new("root", NOW);
    let middle = root.below("middle", PAST);
    let (mut expired_between, key) = middle.signs(&[ID], NOW);
    expired_between.push_str(&middle.pem());
    let (good, _) = root.signs(&[ID], NOW);
    let id = |id: &str| root.signs(&[id], NOW);
    let (cut, cut_key) = root.signs(&[ID], NOW);
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let broken = good.replacen("MII", "MIA", 1);
    let only = |usage| root.signs_for(&[ID], NOW, &[usage]);
    type Matches = fn(&Reason) -> bool;
    let cases: Vec<(&str, (String, String), &str, Matches)> = vec![
        ("expired", root.signs(&[ID], PAST), "tls.crt", |it| matches!(it, Reason::Expired(_))),
        ("not yet", root.signs(&[ID], FUTURE), "tls.crt", |it| matches!(it, Reason::NotYetValid(_))),
        ("expired between", (expired_between, key), "tls.crt", |it| matches!(it, Reason::Expired(_))),
        ("another root of the same name", other.signs(&[ID], NOW), "tls.crt", |it| {
            matches!(it, Reason::UnknownAuthority)
        }),
        ("another trust domain", id("spiffe://other/ns/shop/sa/web"), "tls.crt", |it| {
            matches!(it, Reason::WrongTrustDomain(_))
        }),
        ("another account", id("spiffe://cluster.local/ns/shop/sa/db"), "tls.crt", |it| {
            matches!(it, Reason::WrongName(_))
        }),
        ("another namespace", id("spiffe://cluster.local/ns/bank/sa/web"), "tls.crt", |it| {
            matches!(it, Reason::WrongName(_))
        }),
        ("no account", id("spiffe://cluster.local/node/1"), "tls.crt", |it| {
            matches!(it, Reason::BadId(IdError::Path))
        }),
        ("another scheme", id("https://cluster.local/ns/shop/sa/web"), "tls.crt", |it| {
            matches!(it, Reason::BadId(IdError::Scheme))
        }),
        ("no URI", root.signs(&[], NOW), "tls.crt", |it| matches!(it, Reason::NoId(0))),
        ("two URIs", root.signs(&[ID, ID], NOW), "tls.crt", |it| matches!(it, Reason::NoId(2))),
        ("servers only", only(ExtendedKeyUsagePurpose::ServerAuth), "tls.crt", |it| {
            matches!(it, Reason::WrongUse)
        }),
        ("clients only", only(ExtendedKeyUsagePurpose::ClientAuth), "tls.crt", |it| {
            matches!(it, Reason::WrongUse)
        }),
        ("an authority's", root.signs_authority(ID), "tls.crt", |it| matches!(it, Reason::WrongUse)),
        ("nothing", (String::new(), cut_key.clone()), "tls.crt", |it| matches!(it, Reason::NoCertificate)),
        ("a key alone", (cut_key.clone(), cut_key.clone()), "tls.crt", |it| {
            matches!(it, Reason::NoCertificate)
        }),
        ("half", (half(&cut), cut_key.clone()), "tls.crt", |it| matches!(it, Reason::Truncated)),
        ("no base64", (cut.replacen("MII", "M!I", 1), cut_key.clone()), "tls.crt", |it| {
            matches!(it, Reason::NotPem)
        }),
        ("no DER", (broken, cut_key.clone()), "tls.crt", |it| matches!(it, Reason::Malformed(_))),
        ("half a key", (cut.clone(), half(&cut_key)), "tls.key", |it| matches!(it, Reason::Truncated)),
        ("no key", (cut.clone(), cut.clone()), "tls.key", |it| matches!(it, Reason::NoKey)),
        ("another key", (good, cut_key), "tls.key", |it| matches!(it, Reason::KeyMismatch)),
        ("a weak key", (cut, WEAK.to_owned()), "tls.key", |it| matches!(it, Reason::WeakKey)),
    ];
    for (what, own, file, matches) in cases {
        let files = Files::new(&root.pem(), &own);
        let said = said(&files);
        assert!(said.len() == 1 && said[0].0 == file && matches(&said[0].1), "{what}: {said:?}");
    }
}

#[test]
fn each_bundle_that_would_make_nobody_believed_is_named() {
    let root = Authority::new("root", NOW);
    let own = root.signs(&[ID], NOW);
    type Matches = fn(&Reason) -> bool;
    let cases: Vec<(&str, String, Matches)> = vec![
        ("empty", String::new(), |it| matches!(it, Reason::EmptyBundle)),
        ("a text", "no PEM at all\n".to_owned(), |it| matches!(it, Reason::EmptyBundle)),
        ("a key alone", own.1.clone(), |it| matches!(it, Reason::EmptyBundle)),
        ("half", root.pem()[..100].to_owned(), |it| matches!(it, Reason::Truncated)),
        ("a workload's", root.pem() + &own.0, |it| matches!(it, Reason::NotAnAuthority)),
        ("expired", Authority::new("a", PAST).pem(), |it| matches!(it, Reason::Expired(_))),
        ("not yet", Authority::new("a", FUTURE).pem(), |it| matches!(it, Reason::NotYetValid(_))),
        ("too many", root.pem().repeat(65), |it| matches!(it, Reason::TooManyRoots(65))),
        ("too large", "#".repeat((1 << 20) + 1), |it| matches!(it, Reason::TooLarge)),
    ];
    for (what, bundle, matches) in cases {
        let said = said(&Files::new(&bundle, &own));
        assert!(said.len() == 1 && said[0].0 == "ca.crt" && matches(&said[0].1), "{what}: {said:?}");
    }
}

#[test]
fn what_is_missing_or_no_file_is_named() {
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        let root = Authority::new("root", NOW);
        let files = Files::new(&root.pem(), &root.signs(&[ID], NOW));
        files.remove(name);
        let missing = said(&files);
        std::fs::create_dir(files.path(name)).unwrap();
        for said in [missing, said(&files)] {
            let is_it = said.len() == 1 && said[0].0 == name && matches!(said[0].1, Reason::Unreadable(_));
            assert!(is_it, "{name}: {said:?}");
        }
    }
}

#[test]
fn one_bad_certificate_costs_no_other_its_identity() {
    let root = Authority::new("root", NOW);
    let files = Files::new(&root.pem(), &root.signs(&[ID], NOW));
    let mut wanted = files.wanted();
    wanted.certificates.push(own("shop/db", &files.path("none.crt"), &files.path("none.key")));
    let (in_force, problems) = check(&wanted, SystemTime::now());
    assert_eq!((in_force.certificates.len(), problems.len()), (1, 1));
    assert!(problems[0].starts_with("identity.files.certificates, shop/db: "), "{}", problems[0]);
}

#[test]
fn keys_of_other_kinds_serve() {
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(kind).unwrap();
        let pem = key.serialize_pem();
        let root = Authority::new("root", NOW);
        let files = Files::new(&root.pem(), &(root.signs_key(ID, &key), pem));
        assert_eq!(said(&files), [], "{kind:?}");
    }
}

#[test]
fn each_reason_has_a_label_of_its_own_and_a_sentence() {
    let td = "a".parse().unwrap();
    let reasons = [
        Reason::Unreadable("x".into()),
        Reason::TooLarge,
        Reason::NotPem,
        Reason::Truncated,
        Reason::NoCertificate,
        Reason::NoKey,
        Reason::EmptyBundle,
        Reason::TooManyRoots(65),
        Reason::NotAnAuthority,
        Reason::Malformed("x".into()),
        Reason::Expired(1),
        Reason::NotYetValid(1),
        Reason::UnusableKey,
        Reason::WeakKey,
        Reason::KeyMismatch,
        Reason::NoId(2),
        Reason::WrongTrustDomain(td),
        Reason::WrongName("a/b".parse().unwrap()),
        Reason::UnknownAuthority,
        Reason::WrongUse,
    ];
    let labels: std::collections::BTreeSet<_> = reasons.iter().map(Reason::label).collect();
    assert_eq!(labels.len(), Reason::LABELS.len());
    assert!(reasons.iter().all(|it| it.to_string().len() > 10));
    assert_eq!(Reason::BadId(IdError::Path).label(), Reason::NoId(0).label());
}
