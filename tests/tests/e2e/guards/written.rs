//! Addresses that are refused, unless an operator wrote them: in the base dtab, in `dtab` or in `namers`.

use std::net::SocketAddr;

use e2e::{Backend, Request, Weir};

use crate::control::apply::change;

/// A server on loopback, and what an operator may call it.
fn app() -> (Backend, SocketAddr) {
    let app = Backend::http().answers("app").start();
    let at = app.addr();
    (app, at)
}

#[test]
fn an_operators_dtab_may_lead_to_loopback_and_a_requests_may_not() {
    let (_app, at) = app();
    let port = at.port();
    for (section, yaml) in [
        ("baseDtab", format!("\"/svc => /$/inet/127.1/{port}\"")),
        ("dtab", format!("\"/svc/x => /$/inet/127.0.0.1/{port}\"")),
        ("dtab", format!("\"/svc/x => /$/inet/{port}\"")),
        ("dtab", format!("\"/svc/x => /$/inet/localhost/{port}\"")),
        ("dtab", format!("\"/svc/x => /$/io.buoyant.rinet/{port}/127.1\"")),
        ("dtab", format!("\"/svc/x => /$/weir.dns/127.0.0.1:{port}\"")),
        ("dtab", format!("\"/host/x => /$/inet/127.1/{port} ; /svc => /host\"")),
    ] {
        let weir = Weir::new().set(section, &yaml).start();
        weir.get("http://x/").expect_status(200).expect_body("app");
        let own = |host: &str, entries: &str| {
            let (url, entries) = (format!("http://{host}/"), entries.replace("PORT", &port.to_string()));
            ["l5d-dtab", "l5d-ctx-dtab"].map(|header| Request::get(&url).with(header, &entries))
        };
        for entries in ["/svc/x => /$/inet/127.1/PORT", "/svc/x => /$/io.buoyant.rinet/PORT/127.0.0.1"] {
            for request in own("x", entries) {
                weir.ask(&request).expect_status(403);
            }
            // Neither takes the other's connections, nor what is known of it.
            weir.get("http://x/").expect_body("app");
        }
        // What the Host could have asked for.
        for request in own("y", "/svc/y => /svc/x") {
            weir.ask(&request).expect_body("app");
        }
    }
}

#[test]
fn a_request_cannot_reach_what_an_operator_bound_for_other_names() {
    let (_app, at) = app();
    let dtab = format!("\"/int/app => /$/inet/127.1/{} ; /svc/x => /int/app\"", at.port());
    let weir = Weir::new().set("dtab", &dtab).start();
    weir.get("http://x/").expect_body("app");
    weir.ask(&Request::get("http://y/").with("l5d-dtab", "/svc/y => /int/app")).expect_status(403);
    weir.ask(&Request::get("http://y/").with("l5d-dtab", "/svc/y => /svc/x")).expect_body("app");
}

#[test]
fn a_request_whose_name_is_the_address_is_refused() {
    let (_app, at) = app();
    let outgoing = "{ listen: 127.0.0.1:0, identifier: { kind: io.l5d.path, segments: 2 } }";
    let weir = Weir::new().set("outgoing", outgoing).set("baseDtab", "\"/svc => /$/inet\"").start();
    weir.get(&format!("http://any/127.0.0.1/{}", at.port())).expect_status(403);
}

#[test]
fn a_namers_replacement_may_be_loopback() {
    let (_app, at) = app();
    let port = at.port();
    let namers = format!(
        "[{{ kind: io.l5d.fs, prefix: /here, transformers: [{{ kind: io.l5d.const, path: /$/inet/127.1/{port} }}] }}]"
    );
    let weir = Weir::new().set("namers", &namers).set("baseDtab", "\"/svc => /#/here\"").start();
    weir.get("http://x/").expect_body("app");
    weir.ask(&Request::get("http://x/").with("l5d-dtab", "/svc/x => /#/here/x")).expect_status(403);
}

#[test]
fn weirs_own_listeners_are_refused_also_in_an_operators_dtab() {
    let weir = Weir::new().set("dtab", "\"/svc/self => /$/inet/127.1/1\"").start();
    let itself = format!("\"/svc/self => /$/inet/127.1/{}\"", weir.admin().port());
    weir.get("http://self/ready").expect_status(502);
    change(&weir, "dtab", Some(&itself));
    weir.get("http://self/ready").expect_status(403);
}

#[test]
fn an_explanation_says_which_of_the_two_is_refused() {
    let weir = Weir::new().set("dtab", "\"/svc/x => /$/inet/127.1/8888\"").start();
    let explained = |more: &str| weir.admin_get(&format!("/api/explain?name=/svc/x&format=text{more}"));
    assert!(!explained("").text().contains("does not connect"), "{}", explained("").text());
    let own = explained("&dtab=/svc/x%3D%3E/$/inet/127.1/8888");
    assert!(own.text().contains("does not connect to 127.0.0.1:8888"), "{}", own.text());
}
