//! `outgoing` as a list of routers.

use super::*;
use crate::domain::policy::RequestPolicy;

const TWO: &str = "\
baseDtab: /svc => /a
dtab: /svc/x => /b
policies: { services: [{ prefix: /svc, attempts: 2 }], clients: [{ prefix: /, attempts: 5 }] }
outgoing:
- label: mesh
  listen: \"127.0.0.1:1\"
- label: edge/2
  listen: \"127.0.0.1:2\"
  allow: [10.0.0.0/8]
  dstPrefix: /edge
  dtab: /edge => /c ; /edge/d => /d
  response: 7s
- { label: third, listen: none, baseDtab: /svc => /e, policies: { services: [] } }
";

#[test]
fn each_router_has_its_own_keys_and_else_those_of_the_file() {
    let settings = parsed(TWO);
    let dtabs: Vec<_> = settings.all_routers().map(|it| settings.dtab_of(it).to_string()).collect();
    assert_eq!(
        dtabs,
        ["/svc => /a; /svc/x => /b", "/svc => /a; /edge => /c; /edge/d => /d", "/svc => /e; /svc/x => /b"]
    );
    let of = |at: usize, name: &str| {
        let router = settings.all_routers().nth(at).unwrap();
        let RequestPolicy { response, attempts, .. } =
            settings.policies_of(router).service(&name.parse().unwrap());
        (response.map(u32::from), attempts.map(u8::from))
    };
    assert_eq!(of(0, "/svc/hello"), (None, Some(2)));
    assert_eq!((of(1, "/svc/hello"), of(1, "/edge/x")), ((Some(7000), Some(2)), (Some(7000), None)));
    assert_eq!(of(2, "/svc/hello"), (None, None));
    let clients = settings.all_routers().map(|it| settings.policies_of(it).clients.len());
    assert!(clients.into_iter().all(|clients| clients == 1), "endpoints are shared");
    let [mesh, edge, third] = settings.all_routers().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((&*mesh.label, &*edge.label, third.listen.len()), ("mesh", "edge/2", 0));
    assert_eq!((&mesh.allow, edge.overrides.ranges().len()), (&Allow::default(), 1));
}

#[test]
fn one_router_is_the_same_in_a_list_and_without() {
    let keys = "listen: \"127.0.0.1:1\", via: false, dtab: /svc => /a";
    assert_eq!(parsed(&format!("outgoing: {{ {keys} }}")), parsed(&format!("outgoing: [{{ {keys} }}]")));
    assert_eq!(
        parsed("outgoing: { dtab: /svc => /a }").dtab,
        parsed("").dtab,
        "the file's own is not touched"
    );
    assert!(!parsed("").outgoing.is_labelled() && parsed("outgoing: { label: a }").outgoing.is_labelled());
}

#[test]
fn a_mistake_in_a_list_of_routers_has_its_place_and_cure() {
    for (text, expected) in [
        (
            "outgoing: []",
            "weir.yaml:1:11: outgoing: an empty list, which could mean the default or none (remove the key, or write \
             `{ listen: none }`)",
        ),
        (
            "outgoing:\n- { label: a, listen: '127.0.0.1:1' }\n- { listen: '127.0.0.1:2' }",
            "weir.yaml:3:3: outgoing[1]: one of several routers, without a label (write `label: NAME`; it tells the routers \
             apart in metrics and explanations)",
        ),
        (
            "outgoing:\n- { label: a, listen: '127.0.0.1:1' }\n- { label: a, listen: '127.0.0.1:2' }",
            "weir.yaml:3:12: outgoing[1].label: outgoing[0] is called `a` too (give each router a label of its own)",
        ),
        (
            "outgoing:\n- { label: a, listen: '127.0.0.1:1' }\n- { label: b, listen: '0.0.0.0:1' }",
            "weir.yaml:3:23: outgoing[1].listen: port 1 is also taken by outgoing[0], 127.0.0.1:1 (give each listener \
             ports of its own)",
        ),
        (
            "outgoing: [{ label: a, listen: '127.0.0.1:9990' }, { label: b, listen: none }]",
            "weir.yaml:1:32: outgoing[0].listen: port 9990 is also taken by admin, 127.0.0.1:9990 (give each listener \
             ports of its own)",
        ),
        (
            "outgoing: { listen: ['127.0.0.1:1', '[::1]:2', '127.0.0.1:1'] }",
            "weir.yaml:1:48: outgoing.listen[2]: port 1 is also taken by outgoing.listen[0], 127.0.0.1:1 (give each listener \
             ports of its own)",
        ),
        (
            "outgoing:\n- { label: a, listen: ['127.0.0.1:1', '127.0.0.1:2'] }\n- { label: b, listen: '0.0.0.0:2' }",
            "weir.yaml:3:23: outgoing[1].listen: port 2 is also taken by outgoing[0].listen[1], 127.0.0.1:2 (give each",
        ),
        (
            "outgoing: { listen: [] }",
            "weir.yaml:1:21: outgoing.listen: an empty list (write `none`, or an address)",
        ),
        (
            "outgoing: { listen: ['127.0.0.1:1', 'none'] }",
            "weir.yaml:1:37: outgoing.listen[1]: `none` is not an address with a port",
        ),
        (
            "outgoing: [{ label: 'a b' }]",
            "weir.yaml:1:21: outgoing[0].label: `a b` is no label (1 to 63 letters, digits, dots, dashes, underscores and \
             slashes)",
        ),
        (
            "outgoing: [{ lable: a }]",
            "weir.yaml:1:14: outgoing[0]: unknown key `lable` (did you mean `label`?)",
        ),
        ("outgoing: [{ dtab: /a }]", "weir.yaml:1:22: outgoing[0].dtab: expected"),
        (
            "outgoing: [{ policies: { clients: [{ prefix: / }] } }]",
            "weir.yaml:1:35: outgoing[0].policies.clients: all routers share the endpoints and what is known of them (write it \
             under `policies` at the top of the file)",
        ),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    }
    let many: Vec<_> = (1..18).map(|port| format!("'127.0.0.1:{port}'")).collect();
    let found = problems(&format!("outgoing: {{ listen: [{}] }}", many.join(", ")));
    assert!(found.len() == 1 && found[0].contains("17 addresses, 16 are the most"), "{found:?}");
    let many: String = (0..65).map(|at| format!("- {{ label: r{at}, listen: none }}\n")).collect();
    let found = problems(&format!("outgoing:\n{many}"));
    assert!(found[0].contains("65 routers, 64 are the most"), "{found:?}");
}

#[test]
fn one_router_may_listen_at_several_addresses() {
    let settings = parsed("outgoing: { listen: ['127.0.0.1:1', '[::1]:2', '127.0.0.1:0', '127.0.0.1:0'] }");
    let listen: Vec<_> = settings.outgoing.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:1", "[::1]:2", "127.0.0.1:0", "127.0.0.1:0"]);
    assert_eq!(
        parsed("outgoing: { listen: ['127.0.0.1:1'] }"),
        parsed("outgoing: { listen: '127.0.0.1:1' }")
    );
    assert_eq!(parsed("outgoing: { listen: none }").outgoing.listen, []);
}

#[test]
fn a_router_that_binds_nothing_is_warned_of_by_its_place() {
    let text = "outgoing:\n- { label: a, listen: '127.0.0.1:1' }\n- { label: b, listen: none, dstPrefix: /b, baseDtab: /svc => /x }\n";
    let warned: Vec<_> = lint(&parsed(text)).iter().map(ToString::to_string).collect();
    assert!(warned[0].starts_with("outgoing[1].dstPrefix: requests' names begin with /b"), "{warned:?}");
    assert!(warned[1].starts_with("outgoing[1].baseDtab, line 1: no entry is for /x"), "{warned:?}");
    assert_eq!(warned.len(), 2);
}

#[test]
fn a_dtab_of_the_cluster_needs_a_cluster_and_a_name() {
    let with = |interpreter: &str| {
        format!("discovery: {{ kubernetes: {{}} }}\noutgoing: {{ interpreter: {interpreter} }}")
    };
    let settings = parsed(&with("{ kind: io.l5d.k8s.dtabs, name: web }"));
    let expected = Interpreter { store: DtabStore::Dtab, namespace: "default".into(), name: "web".into() };
    assert_eq!(settings.outgoing.interpreter, Some(expected));
    assert_eq!(
        settings.dtab_of(&settings.outgoing).entries,
        [],
        "weir's own base dtab is not there beside it"
    );
    let map = "{ kind: io.l5d.k8s.configMap, namespace: l5d, name: dtabs, filename: web.dtab }";
    let settings = parsed(&(with(map) + "\nbaseDtab: /svc => /a"));
    assert_eq!(settings.outgoing.interpreter.as_ref().unwrap().to_string(), "ConfigMap l5d/dtabs (web.dtab)");
    assert_eq!(settings.dtab_of(&settings.outgoing).to_string(), "/svc => /a");
    for (interpreter, expected) in [
        ("{ kind: io.l5d.k8s.dtabs }", "no interpreter: missing field `name`"),
        ("{ kind: io.l5d.namerd, name: a }", "no interpreter: unknown variant `io.l5d.namerd`"),
        ("{ kind: io.l5d.k8s.configMap, name: a }", "no interpreter: missing field `filename`"),
        ("{ kind: io.l5d.k8s.dtabs, name: a/../b }", "`a/../b` is no name of an object"),
        ("web", "expected keys with values, not a text"),
    ] {
        let found = problems(&with(interpreter));
        assert!(found.len() == 1 && found[0].contains(expected), "{interpreter}: {found:?}");
    }
    let found = problems("outgoing: { interpreter: { kind: io.l5d.k8s.dtabs, name: web } }");
    let expected = "weir.yaml:1:26: outgoing.interpreter: there is no API server to read the dtab from (set \
                    `discovery.kubernetes`)";
    assert_eq!(found, [expected]);
}
