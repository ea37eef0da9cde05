//! Encrypted connections between pods (`identity.wire`) while one weir follows another.

use e2e::load::Reuse;
use e2e::net::is_root;
use e2e::raw::TcpServer;
use e2e::spiffe::Authority;
use e2e::weir::builder::Builder;
use e2e::{Backend, Client, Load, Net, Request, Weir, eventually, folder};

use super::{DATABASE, ends, follows, upgrade};
use crate::transparent::{TARGET, V4, V6, address, dialler};

/// How often one weir follows another.
const UPGRADES: usize = 3;

fn following(net: &Net, identity: &str, services: &[folder::Service]) -> Builder {
    let builder = services.iter().fold(Weir::new().in_pods(net), Builder::kubernetes);
    // On a busy machine a first message may be late, and a handshake takes its time. And who drains has to wait until other
    // weirs do not keep their connections any longer.
    let limits = "{ sniff: 3s, connect: 20s, poolIdle: 2s }";
    let builder = builder.set("limits", limits).set("identity", identity);
    follows(builder, net)
}

#[test]
fn what_passes_between_pods_stays_encrypted_and_whole_while_one_weir_follows_another() {
    if !is_root() {
        return;
    }
    let (files, mut net) = (tempfile::tempdir().unwrap(), Net::new());
    let (web, db) = (net.pod("web"), net.pod("db"));
    let identity = Authority::new("root").section(files.path(), &["shop/web", "shop/db"])
        + &format!(
            "  wire: {{ mode: strict, pods: [{{ netns: web, name: shop/web }}, {{ netns: db, name: shop/db }}], \
             peers: [{{ name: shop/db, addresses: [{}, \"{}\"] }}] }}\n",
            db.v4(),
            db.v6()
        );
    let services = [
        folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[db.v4()]),
        folder::service("hello6", &["fd00:96::10"]).port("http", 80, TARGET).endpoints(&[db.v6()]),
        folder::service("database", &["10.96.0.11"]).port("sql", 5432, TARGET + 1).endpoints(&[db.v4()]),
    ];
    let _backends = [db.v4(), db.v6()]
        .map(|ip| Backend::http().answers("hello").inside(&db).on((ip, TARGET).into()).start());
    let _database = TcpServer::echo(db.listen(db.at(TARGET + 1)).unwrap());
    let mut current = following(&net, &identity, &services).start();
    eventually("two pods that take TLS", || {
        current.log().matches("taking connections of other weirs in a pod").count() == 2
    });
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let loads = [V4, V6].map(|to| Load::start(1, Reuse::Never, &get, dialler(&web, to)));
    let mut long = Client::over(web.connect(address(DATABASE)).unwrap());
    let mut go_on = |word: String| {
        long.send(&word).expect(&word);
    };
    let mut old = Vec::new();
    for number in 1..=UPGRADES {
        for load in &loads {
            load.answered(20);
        }
        let next = upgrade(&current, following(&net, &identity, &services));
        old.push(std::mem::replace(&mut current, next));
        go_on(format!("after {number}"));
    }
    for load in loads {
        load.answered(20);
        load.stop().expect_no_failure();
    }
    go_on("to the end".to_owned());
    for weir in old.iter().chain([&current]) {
        let failed =
            weir.metrics().into_iter().filter(|it| it.name == "weir_identity_handshake_failures_total");
        let failed: Vec<_> = failed.filter(|it| it.value > 0.0).collect();
        assert!(failed.is_empty(), "{failed:?}\n{}", weir.log());
        assert!(weir.metric("weir_identity_connections_total", &[("direction", "outgoing")]) >= 1.0);
    }
    drop(long);
    old.into_iter().for_each(ends);
}
