//! When something is said, and when not.

use super::*;
use crate::domain::dtab::Dtab;

const STORE: DtabStore = DtabStore::Dtab;

/// The object at this version, whose status says this state.
fn object(version: &str, state: Option<&str>) -> Object {
    let status = state.map(|state| json!({ "state": state }));
    let metadata = json!({ "uid": "u", "resourceVersion": version });
    Object::of(&json!({ "metadata": metadata, "status": status }))
}

/// A dtab that is in force, and judged if there are `warnings`.
fn stored(object: Object, warnings: Option<&[&str]>) -> Stored {
    Stored {
        dtab: Some(Arc::new(Dtab::default())),
        known: true,
        is_judged: warnings.is_some(),
        warnings: warnings.unwrap_or_default().iter().map(|it| (*it).to_owned()).collect(),
        object: Some(object),
        ..Stored::default()
    }
}

#[test]
fn a_status_that_somebody_else_changes_is_not_written_again_and_an_edit_is() {
    let mut said = Said::default();
    let now = stored(object("1", None), Some(&[]));
    let (of, report) = said.next(&now, &STORE).expect("a report");
    said.note(of, report);
    for state in [Some("NotInForce"), Some("InForce"), None] {
        let mut now = now.clone();
        now.object = now.object.map(|it| it.with_status_of(object("2", state)));
        assert_eq!(said.next(&now, &STORE), None, "{state:?}");
    }
    // The text came anew, with a status that says otherwise.
    let edited = stored(object("3", Some("NotInForce")), Some(&[]));
    let (of, report) = said.next(&edited, &STORE).expect("a report");
    assert!(!report.is_said(&of));
    // Another node was faster: then there is nothing to write.
    let of = of.with_status_of(object("4", Some("InForce")));
    assert!(report.is_said(&of) && of.newest == "4" && of.version == "3");
}

#[test]
fn what_was_not_noted_as_said_is_still_to_be_said() {
    let mut said = Said::default();
    let now = stored(object("1", None), Some(&["a dead end"]));
    let (of, report) = said.next(&now, &STORE).expect("a report");
    assert_eq!(said.next(&now, &STORE), Some((of.clone(), report.clone())));
    assert!(said.is_news(&of, "a dead end"));
    said.note(of.clone(), report);
    assert_eq!(said.next(&now, &STORE), None);
    assert!(!said.is_news(&of, "a dead end") && said.is_news(&of, "another"));
}

#[test]
fn a_dtab_in_force_is_said_to_be_so_before_it_is_judged_and_its_warnings_when_it_is() {
    let mut said = Said::default();
    let wrong = || object("1", Some("NotInForce"));
    let (of, report) = said.next(&stored(wrong(), None), &STORE).expect("the state");
    assert_eq!(
        report.status(&of, "")["status"],
        json!({
            "state": "InForce", "problem": null, "warnings": null, "message": null,
        })
    );
    said.note(of, report);
    let (of, report) = said.next(&stored(wrong(), Some(&["a dead end"])), &STORE).expect("the warnings");
    assert!(report.is_whole() && said.is_news(&of, &report.message()));
    // One that says so already waits for them, and so does an object without a status.
    let right = stored(object("1", Some("InForce")), None);
    assert_eq!(Said::default().next(&right, &STORE), None);
    let map = DtabStore::ConfigMap("web.dtab".into());
    assert_eq!(Said::default().next(&stored(wrong(), None), &map), None);
}

/// A weir that started after the wrong edit has no dtab, and one that runs since before has one.
#[test]
fn what_is_said_of_a_wrong_object_is_true_of_a_node_that_never_had_a_good_one() {
    let stored = |dtab: Option<Arc<Dtab>>| Stored {
        dtab,
        problem: Some("dentries[0]: no path".to_owned()),
        object: Some(object("1", None)),
        ..Stored::default()
    };
    let [none, one] = [None, Some(Arc::default())].map(|dtab| Report::of(&stored(dtab), true).unwrap());
    assert_eq!(none.message(), format!("dentries[0]: no path; {KEPT}"));
    assert!(!none.message().contains("stays in force"));
    assert_eq!(none, one, "nodes that say different things would answer one another");
}

#[test]
fn an_event_that_was_not_taken_is_owed_until_it_is() {
    let mut said = Said { owes_event: true, ..Said::default() };
    let (of, report) = said.next(&stored(object("1", None), None), &STORE).expect("the state");
    said.note(of, report);
    assert!(said.owes_event, "that was about the state alone");
    let (of, report) = said.next(&stored(object("1", None), Some(&["a dead end"])), &STORE).expect("all");
    said.note(of, report);
    assert!(!said.owes_event);
}

/// The age that `kubectl describe` and `kubectl get events` show.
#[test]
fn an_event_says_when_it_was() {
    let report = Report { problem: Some("no path".to_owned()), warnings: Some(Arc::default()) };
    let which = Interpreter { store: STORE, namespace: "l5d".into(), name: "web".into() };
    let event = report.event(&which, &object("1", None), "no path");
    for key in ["firstTimestamp", "lastTimestamp"] {
        let text = event[key].as_str().unwrap();
        let at: Timestamp = text.parse().unwrap();
        assert!(text.len() == 20 && Timestamp::now().duration_since(at).as_secs().abs() < 60, "{text}");
    }
}

#[test]
fn an_event_has_a_name_however_long_the_objects_is() {
    let report = Report { problem: Some("no path".to_owned()), warnings: Some(Arc::default()) };
    let name = |name: &str| {
        let which = Interpreter { store: STORE, namespace: "l5d".into(), name: name.into() };
        let event = report.event(&which, &object("4711", None), &report.message());
        event["metadata"]["name"].as_str().unwrap().to_owned()
    };
    assert!(name("web").starts_with("web.4711.") && name("web").ends_with(".weir"));
    let [one, other] = ["b", "c"].map(|end| format!("{}{end}", format!("{}.", "a".repeat(40)).repeat(6)));
    assert_eq!(one.len(), 247);
    assert!(name(&one).len() <= 253 && name(&one) != name(&other), "{}", name(&one));
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    for long in [one, format!("{}-{}", "a".repeat(199), "b".repeat(53))] {
        assert!(name(&long).split('.').all(is_label), "{}", name(&long));
    }
}

#[test]
fn a_failure_is_tried_again_less_and_less_often_unless_the_answer_would_be_the_same() {
    let refused = |text: &str| Failure::Refused(text.to_owned());
    for (why, is_final, conflict) in [
        (Failure::Forbidden("no".to_owned()), true, false),
        (refused("404: no such type"), true, false),
        (refused("409: there is one"), true, true),
        (refused("422: no"), true, false),
        (refused("500: no"), false, false),
        (Failure::Throttled(None), false, false),
        (Failure::Silent(PATIENCE), false, false),
        (Failure::Unreachable("no".to_owned()), false, false),
        (Failure::Unauthorized("no".to_owned()), false, false),
    ] {
        assert_eq!((is_answer(&why), is_conflict(&why)), (is_final, conflict), "{why}");
    }
    let mut rng = fastrand::Rng::with_seed(7);
    for failures in 1..40 {
        let whole = (PAUSE * 2_u32.pow(failures.min(5) - 1)).min(LONGEST);
        let pause = after(&refused("500: no"), failures, &mut rng);
        assert!(pause <= whole && pause >= whole / 2, "{failures}: {pause:?}");
    }
    let asked = Failure::Throttled(Some(Duration::from_secs(20)));
    assert!(after(&asked, 1, &mut rng) == Duration::from_secs(20));
}

#[test]
fn reports_are_spread_over_ten_times_the_jitter_and_at_most_a_minute() {
    for (jitter, expected) in [(0, 0), (500, 5_000), (30_000, 60_000), (90_000, 90_000)] {
        assert_eq!(spread(Duration::from_millis(jitter)), Duration::from_millis(expected));
    }
}
