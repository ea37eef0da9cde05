//! Malicious texts.

use proptest::prelude::*;

use super::*;

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    assert_eq!(problems(&bomb).len(), 1);
    assert_eq!(problems(&"[".repeat(100_000)).len(), 1);
    assert_eq!(problems(&"- ".repeat(100_000)).len(), 1);
    assert_eq!(problems(&"{a: ".repeat(10_000)).len(), 1);
    let deep = format!("a: {}{}", "[".repeat(62), "]".repeat(62));
    assert!(problems(&deep)[0].contains("unknown key `a`"), "what is within the bound is read");
    assert_eq!(problems(&"x: 1\n".repeat(2_000_000)).len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(Some(&folder.path().join("missing.yaml"))).unwrap_err().to_string();
    assert!(missing.contains("missing.yaml: cannot be read: No such file"), "{missing}");

    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, b"outgoing: \xff\xfe").unwrap();
    let binary = load(Some(&binary)).unwrap_err().to_string();
    assert!(binary.ends_with("not text: byte 10 is not UTF-8"), "{binary}");

    let large = folder.path().join("large.yaml");
    std::fs::write(&large, " ".repeat(10 << 20)).unwrap();
    let large = load(Some(&large)).unwrap_err().to_string();
    assert!(large.ends_with("larger than 1 MiB: this is no configuration of weir"), "{large}");
}

proptest! {
    #[test]
    fn random_text_never_panics(text in any::<String>()) {
        let _ = parse("weir.yaml", &text, Path::new(""));
    }

    #[test]
    fn random_yaml_like_text_never_panics(
        words in prop::collection::vec(prop::sample::select(vec![
            "outgoing", "transparent", "limits", "listen", "allow", "ports", ":", ": ", "\n", "\n  ", "{", "}", "[", "]",
            ",", "-", "- ", "&a", "*a", "<<", "!!int", "|", ">", "'", "\"", "#", "---", "?", "~", "1", "[::]:1", "\t",
        ]), 0..40),
    ) {
        let text = words.concat();
        if let Err(error) = parse("weir.yaml", &text, Path::new("")) {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(error.problems.iter().all(|problem| !problem.what.is_empty()));
        }
    }
}
