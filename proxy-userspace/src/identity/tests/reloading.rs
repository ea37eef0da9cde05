//! What a change of the files changes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::identity::testing::{Authority, FUTURE, Files, Hours, ID, NOW, PAST};
use crate::identity::{Identities, InForce, Own, Reason};

fn look(identities: &Identities, files: &Files) -> Arc<InForce> {
    look_at(identities, files, SystemTime::now())
}

fn look_at(identities: &Identities, files: &Files, now: SystemTime) -> Arc<InForce> {
    identities.look(Some(&files.wanted()), now);
    identities.in_force().unwrap()
}

fn web(in_force: &InForce) -> &Arc<Own> {
    &in_force.certificates[&"shop/web".parse().unwrap()]
}

fn failures(identities: &Identities, label: &str) -> u64 {
    let at = Reason::LABELS.iter().position(|it| *it == label).unwrap();
    identities.failures[at].value()
}

#[test]
fn a_renewed_certificate_and_a_renewed_root_are_taken_over() {
    let (old, new) = (Authority::new("old", NOW), Authority::new("new", NOW));
    let files = Files::new(&old.pem(), &old.signs(&[ID], NOW));
    let identities = Identities::default();
    let first = look(&identities, &files);
    assert_eq!((identities.reloads.value(), first.problems.len()), (2, 0));
    assert!(Arc::ptr_eq(&first, &look(&identities, &files)), "nothing changed, nothing was read");
    files.write("ca.crt", &(old.pem() + &new.pem()));
    let second = look(&identities, &files);
    assert_eq!(second.bundle.as_ref().unwrap().count, 2);
    let (certificate, key) = new.signs(&[ID], Hours(-1, 48));
    files.write("tls.crt", &certificate);
    let between = look(&identities, &files);
    assert!(web(&between).is(web(&first)), "the key is not there yet");
    assert_eq!(between.problems.len(), 1);
    files.write("tls.key", &key);
    let third = look(&identities, &files);
    assert!(third.problems.is_empty() && web(&third).until > web(&first).until);
    files.write("ca.crt", &new.pem());
    let last = look(&identities, &files);
    assert_eq!((last.bundle.as_ref().unwrap().count, last.problems.len()), (1, 0));
    assert_eq!((identities.reloads.value(), failures(&identities, "key_mismatch")), (5, 1));
}

#[test]
fn whatever_is_wrong_with_a_new_file_the_last_good_one_stays() {
    let root = Authority::new("root", NOW);
    let foreign = Authority::new("foreign", NOW);
    let good = root.signs(&[ID], NOW);
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let cases: Vec<(&str, String, &str)> = vec![
        ("ca.crt", String::new(), "empty_bundle"),
        ("ca.crt", half(&root.pem()), "truncated"),
        ("ca.crt", Authority::new("root", PAST).pem(), "expired"),
        ("ca.crt", good.0.clone(), "not_an_authority"),
        ("tls.crt", String::new(), "no_certificate"),
        ("tls.crt", half(&good.0), "truncated"),
        ("tls.crt", root.signs(&[ID], PAST).0, "expired"),
        ("tls.crt", root.signs(&[ID], FUTURE).0, "not_yet_valid"),
        ("tls.crt", root.signs(&["spiffe://other/ns/shop/sa/web"], NOW).0, "wrong_trust_domain"),
        ("tls.crt", root.signs(&["spiffe://cluster.local/ns/shop/sa/db"], NOW).0, "wrong_name"),
        ("tls.crt", foreign.signs(&[ID], NOW).0, "key_mismatch"),
        ("tls.key", String::new(), "no_key"),
        ("tls.key", include_str!("weak.pem").to_owned(), "weak_key"),
        ("tls.key", root.signs(&[ID], NOW).1, "key_mismatch"),
    ];
    for (file, text, reason) in cases {
        let files = Files::new(&root.pem(), &good);
        let identities = Identities::default();
        let before = look(&identities, &files);
        files.write(file, &text);
        let after = look(&identities, &files);
        assert_eq!(after.problems.len(), 1, "{file} {reason}: {:?}", after.problems);
        assert_eq!(failures(&identities, reason), 1, "{file}: {:?}", after.problems);
        assert!(after.bundle.as_ref().unwrap().is(before.bundle.as_ref().unwrap()), "{file} {reason}");
        assert!(Arc::ptr_eq(web(&after), web(&before)) || web(&after).is(web(&before)), "{file} {reason}");
        // Read again, and not counted again.
        let again = look_at(&identities, &files, SystemTime::now() + Duration::from_secs(20));
        assert!(!Arc::ptr_eq(&after, &again) && failures(&identities, reason) == 1, "{file} {reason}");
        files.remove(file);
        let after = look(&identities, &files);
        assert!(web(&after).is(web(&before)) && after.bundle.is_some(), "{file} missing");
        assert_eq!(failures(&identities, "unreadable"), 1, "{file} missing");
        files.write("ca.crt", &root.pem());
        files.write("tls.crt", &good.0);
        files.write("tls.key", &good.1);
        assert!(look(&identities, &files).problems.is_empty(), "{file} {reason}: right again");
    }
}

#[test]
fn what_was_wrong_at_first_is_taken_when_it_becomes_right_by_itself() {
    let root = Authority::new("root", Hours(-1, 48));
    let files = Files::new(&root.pem(), &root.signs(&[ID], FUTURE));
    let identities = Identities::default();
    let now = SystemTime::now();
    assert!(look_at(&identities, &files, now).certificates.is_empty());
    let later = look_at(&identities, &files, now + Duration::from_hours(2));
    assert!(later.problems.is_empty() && later.certificates.len() == 1);
}

#[test]
fn a_root_that_expires_is_believed_no_longer() {
    let (short, long) = (Authority::new("short", Hours(-1, 1)), Authority::new("long", NOW));
    let files = Files::new(&(short.pem() + &long.pem()), &long.signs(&[ID], NOW));
    let identities = Identities::default();
    let count = |it: &InForce| it.bundle.as_ref().unwrap().count;
    let now = SystemTime::now();
    assert_eq!(count(&look_at(&identities, &files, now)), 2);
    assert_eq!(count(&look_at(&identities, &files, now + Duration::from_hours(2))), 1);
}

#[test]
fn settings_without_identities_leave_none_and_another_trust_domain_keeps_nothing() {
    let root = Authority::new("root", NOW);
    let files = Files::new(&root.pem(), &root.signs(&[ID], NOW));
    let identities = Identities::default();
    look(&identities, &files);
    let mut wanted = files.wanted();
    wanted.trust_domain = "other".parse().unwrap();
    identities.look(Some(&wanted), SystemTime::now());
    assert!(identities.in_force().unwrap().certificates.is_empty());
    assert_eq!(failures(&identities, "wrong_trust_domain"), 1);
    identities.look(None, SystemTime::now());
    assert!(identities.in_force().is_none());
}
