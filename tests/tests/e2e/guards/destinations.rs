//! Where a listener leads (`outgoing.destinations`).

use e2e::{Backend, Dns, Place, Request, Said, Weir};

/// The listener leads to the catalog, or as this says.
fn weir(destinations: &str, backend: &Backend, dns: &Dns) -> Weir {
    Weir::new()
        .set("outgoing", &format!("{{ listen: 127.0.0.1:0, destinations: {destinations} }}"))
        .set("names", &dns.setting())
        .set("dtab", "/svc/written => /$/inet/written.test/80")
        .service("hello", &[backend.addr()])
        .start()
}

/// What a request gets, and that a tunnel there gets as much.
fn status(weir: &Weir, host: &str, entries: Option<&str>) -> u16 {
    let with = |request: Request| match entries {
        Some(entries) => request.with("l5d-dtab", entries),
        None => request,
    };
    let answer = weir.ask(&with(Request::get(&format!("http://{host}/"))));
    let authority = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let tunnel = weir.ask(&with(Request::new("CONNECT", &authority).with("Host", &authority)));
    assert_eq!(answer.status == 403, tunnel.status == 403, "{host}: {} and {}", answer.status, tunnel.status);
    if answer.status == 403 {
        assert!(answer.text().contains("outgoing.destinations"), "{}", answer.text());
    }
    answer.status
}

#[test]
fn a_listener_leads_to_the_catalog_and_what_is_named_beside_it_and_asks_dns_for_nothing_else() {
    let backend = Backend::http().start();
    let dns = Dns::start(&Place::Here, [127, 0, 0, 1].into());
    dns.says_of_others(Said::NoSuchName(60));
    for (destinations, host, entries, refused) in [
        ("{ to: catalog }", "hello", None, false),
        ("{ to: catalog }", "stranger.test", None, true),
        ("{ to: catalog }", "192.0.2.1", None, true),
        ("{ to: catalog }", "10.255.255.1:9", None, true),
        // By a dtab of its own.
        ("{ to: catalog }", "hello", Some("/svc/hello => /$/inet/stranger.test/80"), true),
        ("{ to: catalog }", "hello", Some("/svc/hello => /$/inet/192.0.2.1/80"), true),
        ("{ to: catalog }", "hello", Some("/svc/hello => /$/inet/stranger.test/80 | /svc/nobody"), true),
        // The next alternative is not taken instead: the request would get something else than it asks for.
        ("{ to: catalog }", "x", Some("/svc/x => /$/inet/stranger.test/80 | /svc/hello"), true),
        ("{ to: catalog }", "x", Some("/svc/x => /svc/hello | /$/inet/stranger.test/80"), false),
        ("{ to: cluster }", "stranger.test", None, true),
        // As an operator wrote it.
        ("{ to: catalog }", "written", None, false),
        ("{ to: catalog, also: [stranger.test] }", "stranger.test", None, false),
        ("{ to: catalog, also: [.test] }", "stranger.test", None, false),
        ("{ to: any }", "stranger.test", None, false),
    ] {
        let weir = weir(destinations, &backend, &dns);
        let before = dns.asked().len();
        let status = status(&weir, host, entries);
        assert_eq!(status == 403, refused, "{destinations}, {host}, {entries:?}: {status}");
        if refused {
            assert_eq!(dns.asked().len(), before, "{host}: DNS was asked");
            assert_eq!(weir.metric("weir_refused_total", &[("reason", "not_led")]), 2.0);
        }
    }
}
