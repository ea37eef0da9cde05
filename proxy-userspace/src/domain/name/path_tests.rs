use super::*;
use proptest::prelude::*;

#[test]
fn a_path_reads_as_it_is_written() {
    for (text, labels) in [
        ("/", &[][..]),
        ("/svc", &[&b"svc"[..]]),
        ("/svc/hello:8080", &[b"svc", b"hello:8080"]),
        ("/#/io.l5d.fs/a_b%c-D$", &[b"#", b"io.l5d.fs", b"a_b%c-D$"]),
        ("/a\\x2Fb/\\xff", &[b"a/b", b"\xff"]),
    ] {
        let path: Path = text.parse().expect(text);
        assert_eq!(path.labels().iter().collect::<Vec<_>>(), labels, "{text}");
        assert_eq!(path.to_string(), text.to_lowercase().replace("d$", "D$"), "{text}");
    }
}

#[test]
fn what_is_no_path_says_where() {
    for (text, at) in [
        ("", 0),
        ("svc", 0),
        ("/svc/", 5),
        ("//svc", 1),
        ("/svc//a", 5),
        ("/svc ", 4),
        ("/*", 1),
        ("/\\", 2),
        ("/\\y00", 2),
        ("/\\xg0", 3),
        ("/\\x0", 4),
        ("/é", 1),
    ] {
        assert_eq!(text.parse::<Path>().map_err(|bad| bad.at), Err(at), "{text}");
    }
}

#[test]
fn labels_are_cut_from_both_ends() {
    let path: Path = "/a/bc/def".parse().unwrap();
    let labels = path.labels();
    assert_eq!(labels.skip(1).to_string(), "/bc/def");
    assert_eq!(labels.skip(1).get(0), Some(&b"bc"[..]));
    assert_eq!(labels.skip(1).take(1).to_path().to_string(), "/bc");
    assert_eq!(labels.skip(3).to_string(), "/");
    assert_eq!(labels.skip(9).get(0), None);
    assert_eq!(labels.take(9).to_string(), "/a/bc/def");
    assert!(labels.starts_with("/a/bc".parse::<Path>().unwrap().labels()));
    assert!(!labels.starts_with("/a/b".parse::<Path>().unwrap().labels()));
    let joined = "/x".parse::<Path>().unwrap().join(labels.skip(2));
    assert_eq!(joined, "/x/def".parse().unwrap());
}

#[test]
fn a_label_keeps_its_scope_wherever_it_goes() {
    let mut path = Path::from_labels(["svc"]);
    path.push_scoped("api.dev", Scope::Cluster);
    path.push("x");
    let scopes = |path: &Path| (0..path.len()).map(|at| path.labels().scope(at)).collect::<Vec<_>>();
    let [any, own] = [Scope::Anywhere, Scope::Cluster];
    assert_eq!(scopes(&path), [any, own, any]);
    assert_eq!(
        scopes(&Path::from_labels(["$", "weir.dns"]).join(path.labels().skip(1))),
        [any, any, own, any]
    );
    assert_eq!(scopes(&path.labels().take(2).to_path()), [any, own]);
    assert_eq!(path.labels().skip(1).get(0), Some(&b"api.dev"[..]));
    assert_eq!(path.to_string(), "/svc/api.dev/x");
    assert_ne!(path, "/svc/api.dev/x".parse().unwrap(), "they lead elsewhere");
    assert_eq!(path.unscoped(), "/svc/api.dev/x".parse().unwrap());
}

proptest! {
    #[test]
    fn every_path_reads_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8)) {
        let path = Path::from_labels(&labels);
        prop_assert_eq!(path.labels().iter().collect::<Vec<_>>(), labels);
        prop_assert_eq!(path.to_string().parse(), Ok(path));
    }

    #[test]
    fn no_text_panics(text in "[/\\\\x0-9a-f*é ]{0,30}") {
        let _ = text.parse::<Path>();
    }
}
