//! Files that are not linkerd's, and arbitrary text.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn assert_problem(text: &str, expected: &str) {
    let error = import("l5d.yaml", text, Options::default()).expect_err(text).to_string();
    assert!(error.starts_with(expected), "found    {error}\nexpected {expected}");
}

#[test]
fn a_file_without_a_linkerd_configuration_is_an_error_with_its_place() {
    for (text, expected) in [
        ("", "l5d.yaml:1:1: no linkerd configuration here (it has a list `routers`"),
        ("# a comment\nworkers: 1\n", "l5d.yaml:2:1: no linkerd configuration here"),
        ("routers: none\n", "l5d.yaml:1:1: no linkerd configuration here"),
        ("kind: ConfigMap\ndata: { a: 'b: 1' }\n", "l5d.yaml:1:1: no linkerd configuration here"),
        ("routers:\n- protocol: [\n", "l5d.yaml:"),
        ("kind: ConfigMap\ndata:\n  config.yaml: |\n    routers:\n    - a: b: c\n", "l5d.yaml:5:"),
    ] {
        assert_problem(text, expected);
    }
}

#[test]
fn two_configurations_are_one_too_many() {
    let two = "routers:\n- protocol: http\n---\nkind: ConfigMap\ndata:\n  a: |\n    routers: []\n";
    assert_problem(
        two,
        "l5d.yaml:7:5: a second linkerd configuration (each linkerd becomes a weir: choose one with --name",
    );
}

#[test]
fn a_mistake_in_the_dtab_has_its_place_in_the_file() {
    assert_problem(
        &router("  dtab: |\n    /svc => /a ;\n    /svc = /b ;\n"),
        "l5d.yaml:6:10: routers[0].dtab: expected",
    );
    let wrapped = "kind: ConfigMap\ndata:\n  x: |\n    routers:\n    - protocol: http\n      dtab: |\n        /svc ! /a\n";
    assert_problem(wrapped, "l5d.yaml:7:14: routers[0].dtab: expected");
    assert_problem(&router("  dtab: /svc ! /a\n"), "l5d.yaml:4:14: routers[0].dtab: expected");
}

#[test]
fn one_port_for_two_listeners_is_an_error() {
    let text = "admin: { port: 4140, ip: 0.0.0.0 }\nrouters:\n- protocol: http\n  dtab: ''\n";
    assert_problem(text, "l5d.yaml:1:1: admin: `4140` is the port of the router and of admin");
}

#[test]
fn a_dtab_of_odd_characters_is_carried_over_as_it_is() {
    let text = router("  dtab: \"/svc => /a ; # \\a \\u2028 \\\" \\\\ é\\r\\n\\n\\n  /b => /c ;\"\n");
    assert_eq!(settings(&imported(&text).yaml).dtab.entries.len(), 2);
}

#[test]
fn many_unknown_keys_are_counted_and_not_listed() {
    let keys: String = (0..2000).map(|key| format!("  key{key}: 1\n")).collect();
    let imported = imported(&router(&keys));
    assert_eq!(imported.notes.len(), 201);
    assert!(imported.notes[200].why.starts_with("1801 keys"), "{}", imported.notes[200]);
}

#[test]
fn the_largest_file_becomes_a_configuration_within_bounds() {
    let identifiers = "    - kind: io.l5d.path\n".repeat(1600);
    imported(&router(&format!("  dtab: ''\n  identifier:\n{identifiers}")));
    // Escaped characters make the output as long as possible.
    let comment = "\\a".repeat(120_000);
    imported(&router(&format!("  dtab: \"# {comment}\"\n")));
    let text = "/a=>/b;\n".repeat(9000);
    imported(&router(&format!("  dtab: {}\n", scalar::scalar(&text))));
}

const SEED: &str = concat!(
    "admin: { port: 9990 }\nnamers:\n- kind: io.l5d.fs\n  rootDir: x\nrouters:\n- protocol: http\n",
    "  dtab: |\n    /svc => /a ;\n  identifier: { kind: io.l5d.path }\n  servers: [{ port: 4140 }]\n",
    "  client: { failureAccrual: { kind: none } }\n"
);

const PARTS: &[&str] = &[
    "/svc => /#/io.l5d.fs ;",
    "/a => 0.5 * /b & /c | ! ;",
    "/a",
    "=>",
    ";",
    "\n",
    "\n\n",
    " ",
    "   ",
    "\t",
    "\r\n",
    "# note\n",
    "#\u{7}é\n",
    "# \u{2028} \u{85}\n",
    "# \u{feff}: {[\n",
    "# ---\n",
    "  # in\n",
    "\u{b}",
];

proptest! {
    /// However a file is modified: the result is an error or a valid configuration.
    #[test]
    fn what_comes_out_is_a_configuration(at in 0..SEED.len(), with in "[\\PC\n]{0,8}", cut in 0_usize..8) {
        let end = (at + cut).min(SEED.len());
        let text = format!("{}{with}{}", &SEED[..at], &SEED[end..]);
        if let Ok(imported) = import("l5d.yaml", &text, Options::default()) {
            settings(&imported.yaml);
        }
    }

    /// Whatever a dtab's layout is, its entries stay the same.
    #[test]
    fn a_dtab_stays_what_it_is(parts in prop::collection::vec(prop::sample::select(PARTS), 0..30)) {
        use crate::domain::dtab::{Bounds, Dtab, Origin};
        let text = parts.concat();
        if let Ok(dtab) = Dtab::parse(&text, Origin::Base, &Bounds::CONFIGURATION) {
            let yaml = imported(&router(&format!("  dtab: {}\n", scalar::scalar(&text)))).yaml;
            prop_assert_eq!(settings(&yaml).dtab.to_string(), dtab.to_string());
        }
    }

    /// Any text is written as a value that parses back to itself.
    #[test]
    fn a_value_reads_back_as_itself(text in any::<String>()) {
        let yaml = format!("discovery: {{ files: {} }}\n", scalar::map(&[("path", scalar::scalar(&text))]));
        if !text.is_empty() && !text.contains('\0') {
            let files = settings(&yaml).discovery.files.unwrap();
            prop_assert_eq!(files.path, Path::new("/etc/weir").join(text));
        }
    }
}
