//! Interpreters that weir has.

use super::*;
use crate::config::{DtabStore, Interpreter};
use crate::domain::dtab::Origin;

fn of(keys: &str) -> (Imported, Settings) {
    let imported = imported(&router(keys));
    let settings = settings(&imported.yaml);
    (imported, settings)
}

const MAP: &str = "  interpreter: { kind: io.l5d.k8s.configMap, namespace: mesh, name: dtabs, filename: web.dtab, port: 8001 }\n";

#[test]
fn a_config_map_is_read_where_it_is() {
    let (imported, settings) = of(MAP);
    let expected = Interpreter {
        store: DtabStore::ConfigMap("web.dtab".into()),
        namespace: "mesh".into(),
        name: "dtabs".into(),
    };
    assert_eq!(settings.outgoing.interpreter, Some(expected));
    assert!(settings.discovery.kubernetes.is_some());
    assert_eq!(settings.dtab_of(&settings.outgoing).entries, [], "an open base dtab is not put in its place");
    assert_eq!(broken(&imported), [""; 0]);
    assert_eq!(left(&imported), ["routers[0].interpreter.port"]);
}

#[test]
fn the_routers_own_entries_win_over_it_and_what_is_refused_over_both() {
    let (_, settings) =
        of(&format!("{MAP}  dtab: /svc => /#/io.l5d.fs\n  client: {{ tls: {{ commonName: x }} }}\n"));
    let dtab = settings.dtab_of(&settings.outgoing);
    assert_eq!(dtab.to_string(), "/svc => /#/io.l5d.fs; / => !");
    assert!(dtab.entries.iter().all(|entry| entry.origin == Origin::Configured));
}

#[test]
fn one_without_a_name_is_fetched_as_ever() {
    let (imported, settings) = of("  interpreter: { kind: io.l5d.k8s.configMap, namespace: mesh }\n");
    assert_eq!((settings.outgoing.interpreter, broken(&imported)), (None, vec!["routers[0].interpreter"]));
}
