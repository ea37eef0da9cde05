//! While the cluster's services are not known yet.

use super::*;
use crate::domain::catalog::Awaited;

/// A catalog with the file service `hello`, in which the cluster's own services are not known yet.
fn awaiting(why: &str) -> Arc<Catalog> {
    let mut catalog = Catalog::clone(&catalog(&[service("hello", "10.96.0.1", &[at(1)])]));
    catalog.awaited = Some(Awaited {
        why: format!("{why} (403: of weir:weir)").into(),
        brief: why.into(),
        is_failing: true,
    });
    Arc::new(catalog)
}

#[test]
fn while_the_clusters_services_are_not_known_no_name_is_denied_that_may_be_one() {
    let config = RoutingConfig { dns: false, ..config() };
    let snapshot = Snapshot::build(&config, awaiting("waiting for services: why"), None);
    let unknown = |asked: &str| {
        let why = "is not bound yet: the cluster's services are not known yet: waiting for services: why";
        Ok((fault::Kind::ServicesUnknown, format!("{asked} {why}")))
    };
    for asked in ["/svc/world", "/svc/world:81", "/#/io.l5d.k8s/shop/http/hello", "/$/weir.host/10.96.0.9"] {
        assert_eq!(fault(&snapshot, asked, ""), unknown(asked), "{asked}");
    }
    assert_eq!(fault(&snapshot, "/svc/x", "/svc/x => /svc/world | !"), unknown("/svc/x"));
    for (asked, own, bound) in [
        ("/svc/hello", "", "/$/weir.host/hello"),
        ("/svc/10.0.0.1", "", "/$/weir.dns/10.0.0.1"),
        ("/svc/x", "/svc/x => /svc/world | /svc/hello", "/$/weir.host/hello"),
    ] {
        assert_eq!(fault(&snapshot, asked, own), Err(bound.to_owned()), "{asked}");
    }
    for asked in ["/svc/hello:81", "/#/io.l5d.fs/world", "/else"] {
        let (kind, why) = fault(&snapshot, asked, "").unwrap();
        assert!(kind == fault::Kind::Unbound && !why.contains("not known"), "{asked}: {why}");
    }
}

#[test]
fn while_the_clusters_services_are_not_known_the_clusters_dns_is_asked_for_what_may_be_one() {
    let snapshot = Snapshot::build(&config(), awaiting("why"), None);
    let asked = |asked: &str| {
        let route = snapshot.bind(&name(asked), None);
        assert!(route.is_awaited(), "{asked}");
        match route.choose(&mut fastrand::Rng::with_seed(1), &|_| false).map(|bound| bound.target.clone()) {
            Ok(route::Target::Outside(outside)) => {
                let questions = route.lookup(&outside).unwrap().questions.clone();
                assert_eq!(questions.outside, None, "{asked}");
                (questions.inside.join(" "), outside.port)
            }
            other => panic!("{asked}: {other:?}"),
        }
    };
    let below = ".svc.cluster.local";
    for (name, inside, port) in [
        ("/svc/world", "world.default", 80),
        ("/svc/world:8080", "world.default", 8080),
        ("/svc/world.shop.svc.cluster.local", "world.shop", 80),
        ("/svc/db-0.db.shop", "db-0.db.shop", 80),
        ("/#/io.l5d.k8s/shop/http/World", "world.shop", 80),
        ("/#/io.l5d.k8s/shop/8080/world", "world.shop", 8080),
    ] {
        assert_eq!(asked(name), (format!("{inside}{below}"), port), "{name}");
    }
    let both = format!("world.shop{below} world.shop.default{below}");
    assert_eq!(asked("/svc/world.shop"), (both, 80), "a Service, or a pod of one");
    // Names that need no Services do not wait for them.
    for name in ["/svc/hello", "/#/io.l5d.fs/x", "/svc/a.b.c.example.com", "/$/inet/10.0.0.1/80"] {
        assert!(!snapshot.bind(&self::name(name), None).is_awaited(), "{name}");
    }
    let (kind, _) = fault(&snapshot, "/#/io.l5d.k8s/shop/admin/world", "").unwrap();
    assert_eq!(kind, fault::Kind::ServicesUnknown, "DNS does not know the port");
}

#[test]
fn what_was_bound_while_services_were_unknown_is_bound_anew_once_they_are_known() {
    let first = awaiting("one");
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let outside = snapshot.bind(&name("/svc/example.com"), None);
    let (hello, absent) =
        (snapshot.bind(&name("/svc/hello"), None), snapshot.bind(&name("/svc/world"), None));
    let mut known = Catalog::clone(&first);
    known.awaited = None;
    for next in [awaiting("another"), Arc::new(known)] {
        let changes = Changes::between(&first, &next);
        assert!(!snapshot.absorb(&next, &changes));
        let after = snapshot.with(next, &changes);
        assert!(hello.holds(&after, snapshot.generation()), "it was found whatever else there is");
        assert!(
            !outside.holds(&after, snapshot.generation()) && !absent.holds(&after, snapshot.generation())
        );
        let again = after.bind(&name("/svc/example.com"), None);
        let last = after.with(after.catalog.clone(), &Changes::default());
        assert!(again.holds(&last, after.generation()));
    }
    let known = Snapshot::build(&config(), catalog(&[]), Some(&snapshot));
    let (kind, why) = fault(&known, "/svc/world", "").unwrap();
    assert!(kind == fault::Kind::Unbound && why.contains("no service world in namespace default"), "{why}");
}
