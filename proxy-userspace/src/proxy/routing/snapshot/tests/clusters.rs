//! What a change of the catalog does to clusters, and what it costs.

use std::time::Instant;

use super::*;

#[test]
fn a_change_of_endpoints_alone_makes_no_new_world_and_reaches_the_cluster() {
    let first = catalog(&[service("hello", "10.96.0.1", &[at(1)])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let cluster = snapshot.owner("10.96.0.1:80".parse().unwrap()).unwrap().cluster;
    let second = with(&first, service("hello", "10.96.0.1", &[at(2)]));
    assert!(snapshot.absorb(&second, &Changes::between(&first, &second)));
    assert_eq!(cluster.members().all[0].backend.address, at(2));
}

#[test]
fn services_that_stay_keep_their_clusters_when_others_come_and_go() {
    let hello = service("hello", "10.96.0.1", &[at(1)]);
    let first = catalog(&[hello.clone(), service("old", "10.96.0.2", &[at(2)])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let kept = snapshot.owner("10.96.0.1:80".parse().unwrap()).unwrap().cluster;
    assert_eq!(owner(&snapshot, "10.96.0.2:80").as_deref(), Some("/svc/old"));
    let second = catalog(&[hello, service("new", "10.96.0.3", &[at(3)])]);
    let after = snapshot.with(second.clone(), &Changes::between(&first, &second));
    assert!(Arc::ptr_eq(&kept, &after.owner("10.96.0.1:80".parse().unwrap()).unwrap().cluster));
    assert_eq!(owner(&after, "10.96.0.2:80"), None);
    assert_eq!(owner(&after, "10.96.0.3:80").as_deref(), Some("/svc/new"));
    let names: Vec<_> = after.clusters().iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["/svc/hello", "/svc/new"], "what went is not counted any more");
}

#[test]
fn of_two_services_with_one_address_the_other_has_it_when_the_first_goes() {
    let (a, b) = (service("a", "10.96.0.1", &[]), service("b", "10.96.0.1", &[]));
    let first = catalog(std::slice::from_ref(&b));
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    assert_eq!(owner(&snapshot, "10.96.0.1:80").as_deref(), Some("/svc/b"));
    let both = with(&first, a);
    let snapshot = snapshot.with(both.clone(), &Changes::between(&first, &both));
    assert_eq!(owner(&snapshot, "10.96.0.1:80").as_deref(), Some("/svc/a"));
    let snapshot = snapshot.with(first.clone(), &Changes::between(&both, &first));
    assert_eq!(owner(&snapshot, "10.96.0.1:80").as_deref(), Some("/svc/b"));
    assert_eq!(snapshot.claimants("10.96.0.1".parse().unwrap(), 80).count(), 1);
}

/// A cluster of 10,000 services with 5 endpoints each; one in fifty is in use.
fn large() -> (Arc<Catalog>, Snapshot) {
    let service = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let endpoints: Vec<_> = (1..=5).map(|it| SocketAddr::from(([10, high, low, it], 8080))).collect();
        service(&format!("service-{n}"), &format!("10.96.{high}.{low}"), &endpoints)
    };
    let catalog = catalog(&(0..10_000).map(service).collect::<Vec<_>>());
    let snapshot = Snapshot::build(&config(), catalog.clone(), None);
    for n in (0..10_000).step_by(50) {
        snapshot.bind(&name(&format!("/svc/service-{n}")), None);
    }
    (catalog, snapshot)
}

/// The shortest of ten runs: other processes run on this machine.
fn shortest<T>(mut it: impl FnMut(u8) -> T) -> std::time::Duration {
    let tries = (0..10).map(|at| {
        let begun = Instant::now();
        std::hint::black_box(it(at));
        begun.elapsed()
    });
    tries.min().unwrap()
}

#[test]
fn a_change_of_one_endpoint_or_one_service_among_ten_thousand_takes_no_time() {
    let (before, snapshot) = large();
    let endpoint = shortest(|at| {
        let old = &before.services[&key("service-5000")];
        let mut new = Service::clone(old);
        new.ports[0].endpoints = old.ports[0].endpoints.iter().skip(usize::from(at % 2)).cloned().collect();
        let after = with(&before, new);
        assert!(snapshot.absorb(&after, &Changes::between(&before, &after)));
    });
    let added = shortest(|at| {
        let after = with(&before, service(&format!("new-{at}"), "10.97.0.1", &[self::at(1)]));
        snapshot.with(after.clone(), &Changes::between(&before, &after))
    });
    let unknown = shortest(|at| snapshot.bind(&name(&format!("/svc/unknown-{at}")), None));
    eprintln!("one endpoint: {endpoint:?}, one more service: {added:?}, one unknown name: {unknown:?}");
    // Some 20, 50 and 60 µs in a debug build; a scan of all services takes 3 ms and more.
    let bound = std::time::Duration::from_millis(2);
    assert!(endpoint < bound && added < bound, "one endpoint: {endpoint:?}, one more service: {added:?}");
    assert!(unknown < bound, "one unknown name: {unknown:?}");
}

#[test]
fn a_pods_cluster_stays_as_long_as_the_pod_whatever_becomes_of_others() {
    let pods = [("db-0", at(1)), ("db-1", at(2)), ("db-2", at(3))];
    let first = catalog(&[set("shop", "db", &pods[..2])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let place = |snapshot: &Snapshot, asked: &str| {
        let route = snapshot.bind(&name(asked), None);
        match route.choose(&mut fastrand::Rng::with_seed(1), &|_| false).map(|bound| bound.target.clone()) {
            Ok(route::Target::Port(place)) => Ok(place.cluster),
            Ok(other) => panic!("{asked}: {other:?}"),
            Err(fault) => Err(fault.kind),
        }
    };
    let zero = place(&snapshot, "/svc/db-0.db.shop").unwrap();
    assert_eq!(&*zero.name, "/svc/db-0.db.shop");
    for same in ["/svc/DB-0.db.shop.svc.cluster.local", "/$/weir.host/db-0.db.shop"] {
        assert!(Arc::ptr_eq(&zero, &place(&snapshot, same).unwrap()), "{same}");
    }
    assert_eq!(place(&snapshot, "/svc/db-2.db.shop").unwrap_err(), fault::Kind::NoEndpoint);
    let absent = snapshot.bind(&name("/svc/db-2.db.shop"), None);
    let known = snapshot.bind(&name("/svc/db-0.db.shop"), None);

    // Another pod is added: names are rebound, and a pod's state stays.
    let second = with(&first, set("shop", "db", &pods));
    assert!(!snapshot.absorb(&second, &Changes::between(&first, &second)));
    let world_2 = snapshot.with(second.clone(), &Changes::between(&first, &second));
    assert!(!absent.holds(&world_2, snapshot.generation()) && !known.holds(&world_2, snapshot.generation()));
    assert!(Arc::ptr_eq(&zero, &place(&world_2, "/svc/db-0.db.shop").unwrap()));
    assert!(place(&world_2, "/svc/db-2.db.shop").is_ok());

    // It is recreated at another address: nothing is rebound.
    let third = with(&second, set("shop", "db", &[("db-0", at(9)), pods[1], pods[2]]));
    assert!(world_2.absorb(&third, &Changes::between(&second, &third)));
    assert_eq!(zero.members().all[0].backend.address, at(9));

    // It is gone.
    let fourth = with(&third, set("shop", "db", &pods[1..]));
    let world_4 = world_2.with(fourth.clone(), &Changes::between(&third, &fourth));
    assert!(zero.is_retired());
    assert_eq!(place(&world_4, "/svc/db-0.db.shop").unwrap_err(), fault::Kind::NoEndpoint);
}
