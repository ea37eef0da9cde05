//! The files in `deploy/examples`.

use super::*;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples")
}

#[test]
fn every_example_is_right() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let settings = load(Some(&path)).unwrap_or_else(|error| panic!("{error}"));
            let discovery = settings.discovery;
            assert!(discovery.files.is_some() || discovery.kubernetes.is_some(), "each example has services");
            if let Some(folder) = discovery.files.map(|files| files.path) {
                assert!(folder.is_dir(), "{}: {}", path.display(), folder.display());
            }
            names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let expected = [
        "all.yaml",
        "dtab.yaml",
        "files.yaml",
        "in-pods.yaml",
        "ingress.yaml",
        "kubernetes.yaml",
        "policies.yaml",
        "routers.yaml",
        "transparent.yaml",
    ];
    assert_eq!(names, expected);
}

/// The defaults stated in `all.yaml` are true: without the keys that it says have no default, it parses to the
/// defaults.
#[test]
fn the_example_with_every_key_shows_the_defaults() {
    let mut settings = load(Some(&examples().join("all.yaml"))).unwrap();
    let defaults = Settings::default();
    assert!(settings.transparent.is_some() && settings.probes.is_some());
    let transparent = settings.transparent.take().unwrap();
    let expected = Transparent {
        addresses: transparent.addresses.clone(),
        source_addresses: transparent.source_addresses.clone(),
        cgroup: transparent.cgroup.clone(),
        enrol: transparent.enrol,
        divert: transparent.divert.clone(),
        allow: transparent.allow.clone(),
        ..Transparent::default()
    };
    assert_eq!(transparent, expected);
    // Its default depends on discovery: here nobody.
    assert_eq!(settings.outgoing.contexts.take(), Some(Contexts::nobody()));
    // The defaults of these depend on `allow` and `listen`.
    let outgoing = &mut settings.outgoing;
    assert_eq!((outgoing.clients.take(), outgoing.in_pods.take()), (Some(outgoing.serves()), Some(true)));
    assert!(outgoing.listen.iter().all(|at| outgoing.is_in_pods(at.port())));
    assert_eq!(settings.outgoing, defaults.outgoing);
    // The example turns the hand-over on, with its defaults.
    assert_eq!(settings.drain.handover.take(), Some(Handover::default()));
    assert_eq!((settings.names, settings.drain), (defaults.names, defaults.drain));
    assert_eq!(settings.refuse, defaults.refuse);
    assert_eq!((settings.limits, settings.breaker), (defaults.limits, defaults.breaker));
    assert_eq!((settings.log, settings.policies), (defaults.log, defaults.policies));
    assert_eq!(settings.admin.listen, defaults.admin.listen);
    assert_eq!(settings.probes.unwrap().listen, Probes::default().listen);
}

/// `all.yaml` has every key that the sections read.
#[test]
fn the_example_with_every_key_has_every_key() {
    let text = std::fs::read_to_string(examples().join("all.yaml")).unwrap();
    let sections = concat!(
        include_str!("../load.rs"),
        include_str!("../outgoing.rs"),
        include_str!("../destinations.rs"),
        include_str!("../transparent.rs"),
        include_str!("../identity.rs"),
        include_str!("../admin.rs"),
        include_str!("../names.rs"),
        include_str!("../drain.rs"),
        include_str!("../discovery.rs"),
        include_str!("../limits.rs"),
        include_str!("../http2_clients.rs"),
        include_str!("../breaker.rs"),
        include_str!("../policies.rs"),
        include_str!("../log.rs"),
        include_str!("../allow.rs"),
    );
    let mut keys = 0;
    for call in ["set(\"", "list(\"", "section(\"", "sections(\"", "switch(\""] {
        for rest in sections.split(call).skip(1) {
            let key = rest.split('"').next().unwrap();
            assert!(text.contains(&format!("{key}:")), "all.yaml lacks `{key}`");
            keys += 1;
        }
    }
    assert!(keys > 40, "only {keys} keys found");
}
