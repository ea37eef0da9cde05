//! Dtabs by themselves.

use super::*;

fn of(text: &str) -> (Imported, String) {
    let imported = imported(text);
    let dtab = settings(&imported.yaml).dtab.to_string();
    (imported, dtab)
}

const OBJECT: &str = "\
apiVersion: l5d.io/v1alpha1
kind: Dtab
metadata: { name: web, namespace: l5d }
dentries:
- { prefix: /srv, dst: \"/#/io.l5d.k8s/default/http\" }
- { prefix: /svc/*, dst: 0.1 * /srv/a & 0.9 * /srv/b }
";

#[test]
fn a_dtab_is_read_in_each_of_namerds_formats() {
    let expected = "/srv => /#/io.l5d.k8s/default/http; /svc/* => 0.1 * /srv/a & 0.9 * /srv/b";
    let list = format!("kind: List\nitems:\n- kind: Service\n- {}", OBJECT.replace('\n', "\n  "));
    let json = r#"[{"prefix":"/srv","dst":"/#/io.l5d.k8s/default/http"},{"prefix":"/svc/*","dst":"0.1 * /srv/a & 0.9 * /srv/b"}]"#;
    let plain =
        "# from consul\n/srv => /#/io.l5d.k8s/default/http ;\n\n/svc/* => 0.1 * /srv/a & 0.9 * /srv/b\n";
    for text in [OBJECT, &list, json, plain] {
        assert_eq!(of(text).1, expected, "{text}");
    }
    let (imported, _) = of(OBJECT);
    let follow = "# outgoing: { interpreter: { kind: io.l5d.k8s.dtabs, namespace: l5d, name: web } }";
    assert!(imported.yaml.lines().any(|line| line == follow), "{}", imported.yaml);
    let followed: String = imported
        .yaml
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .skip(2)
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(settings(&followed).outgoing.interpreter.is_some(), "{followed}");
    assert_eq!(of("kind: Dtab\nmetadata: { name: a }\ndentries: []\n").1, "");
}

#[test]
fn a_comment_in_an_entry_ends_with_its_line_or_with_the_entry() {
    let entries = ["/b # old", "/c # x\\n| /d", "/#/io.l5d.fs"];
    let entries = entries.map(|dst| format!("- {{ prefix: /a, dst: \"{dst}\" }}\n"));
    let text = format!("kind: Dtab\ndentries:\n{}", entries.concat());
    assert_eq!(of(&text).1, "/a => /b; /a => /c | /d; /a => /#/io.l5d.fs");
    let written = read_dtab("d.yaml", &text, None).unwrap();
    assert_eq!(written.text, "/a => /b ;\n/a => /c | /d ;\n/a => /#/io.l5d.fs ;\n");
    assert_eq!(written.dtab.entries.iter().map(|it| it.at.line).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn one_of_several_dtabs_is_chosen_by_name() {
    let two = format!("{OBJECT}---\n{}", OBJECT.replace("name: web", "name: other"));
    let named = |name| import("d.yaml", &two, Options { name, plain_text: false });
    assert!(named(Some("other")).unwrap().yaml.contains("name: other"));
    for (name, expected) in [
        (None, "d.yaml:8:1: a second Dtab (choose one by name, of `web`, `other`)"),
        (Some("none"), "d.yaml:1:1: no Dtab is called `none` here (choose one by name, of `web`, `other`)"),
    ] {
        assert_eq!(named(name).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_mistake_in_a_dtab_has_its_place() {
    for (text, expected) in [
        ("/svc => /a ;\n/b = /c\n", "d.yaml:2:4: expected"),
        (
            "kind: Dtab\ndentries:\n- { prefix: /a, dst: /b }\n- { prefix: a, dst: /b }\n",
            "d.yaml:4:3: expected",
        ),
        ("kind: Dtab\ndentries:\n- { prefix: /a }\n", "d.yaml:3:3: dentries[0]: an entry without"),
        // None is the mistake of the next one.
        (
            "kind: Dtab\ndentries:\n- { prefix: /a, dst: '# /b' }\n- { prefix: /c, dst: /d }\n",
            "d.yaml:3:3: expected a path",
        ),
        (
            "kind: Dtab\ndentries:\n- { prefix: /c, dst: /d }\n- { prefix: /a, dst: /b ; /c => /d }\n",
            "d.yaml:4:3: it reads as 2 entries",
        ),
    ] {
        let error = import("d.yaml", text, Options::default()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_file_with_routers_is_linkerds_whatever_else_is_in_it() {
    let both = format!("{OBJECT}---\n{}", router("  dtab: /svc => /#/io.l5d.fs\n"));
    assert_eq!(of(&both).1, "/svc => /#/io.l5d.fs");
}
