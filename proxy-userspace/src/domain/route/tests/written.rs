//! Which addresses an operator wrote, and in which a request had a part.

use super::{Table, dtab, path};
use crate::domain::dtab::Origin;
use crate::domain::name::{Labels, Path, Scope};
use crate::domain::route::{
    Answer, Configured, Delegation, Kind, Limits, Names, Outside, Resolver, Rewrite, Target, Transform,
    Transformer, When,
};

/// A table whose listener makes names of the Host: `/svc/<host>`.
struct ByHost(Table);

impl Names for ByHost {
    type Port = String;

    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<String> {
        // An ExternalName Service, which its owner wrote.
        if *kind == Kind::Host && rest.text(0) == Some("external") {
            return Answer::Alias { name: path("/$/inet/127.1/81"), taken: 1 };
        }
        if *kind == Kind::Dns {
            let host = rest.text(0).unwrap().into();
            let outside = Outside { host, port: 80, scope: rest.scope(0), written: false };
            return Answer::Outside { outside, taken: 1 };
        }
        self.0.find(kind, rest)
    }

    fn is_askable(&self, name: Labels<'_>) -> bool {
        name.len() == 2 && name.text(0) == Some("svc")
    }

    fn transformed(&self, port: String, steps: &[Transformer], id: &Path) -> String {
        self.0.transformed(port, steps, id)
    }

    fn why_not(&self, kind: &Kind, rest: Labels<'_>) -> String {
        self.0.why_not(kind, rest)
    }
}

fn namers() -> Vec<Configured> {
    let rewrite = |prefix: &str, pattern: &str, name: &str| Configured {
        prefix: path(prefix),
        resolver: Resolver::Rewrite(Rewrite::new(pattern, name).unwrap()),
        transform: Transform::default(),
    };
    let instead = |prefix: &str, when| {
        let mut transform = Transform::default();
        transform.instead(when, &path("/$/inet/127.1/8888"), &path("/io.l5d.x")).unwrap();
        Configured { prefix: path(prefix), resolver: Resolver::Find(Kind::Fs), transform }
    };
    let mut namers = vec![
        rewrite("/fixed", "/*", "/$/inet/127.1/8888"),
        rewrite("/port", "/{port}", "/$/inet/127.1/{port}"),
        instead("/const", When::Always),
        instead("/replace", When::Found),
    ];
    namers.extend(Configured::defaults());
    namers
}

/// The destinations of `name`: the address of each, and whether an operator wrote it.
fn written(configured: &str, own: &str, name: &str) -> String {
    let (configured, own) = (dtab(configured, Origin::Configured), dtab(own, Origin::Request));
    let table = ByHost(Table::of_fs(&["a"]));
    let dtabs = [&configured, &own];
    let namers = namers();
    let delegation =
        Delegation { dtabs: &dtabs, namers: &namers, names: &table, limits: Limits::CONFIGURATION };
    let mut all = Vec::new();
    delegation.bind(&path(name)).unwrap().for_each(&mut |bound| {
        if let Target::Outside(outside) = &bound.target {
            all.push(format!("{outside} {}", if outside.written { "operator" } else { "request" }));
        }
    });
    all.join(", ")
}

#[test]
fn an_address_is_the_operators_when_no_label_of_it_is_the_requests() {
    for (configured, expected) in [
        ("/svc => /$/inet/127.1/8888", "127.1:8888 operator"),
        ("/svc/x => /$/inet/127.1/8888", "127.1:8888 operator"),
        ("/svc => /host ; /host => /$/inet/127.1/8888", "127.1:8888 operator"),
        ("/svc/x => /$/inet/8888", "localhost:8888 operator"),
        ("/svc/x => /$/io.buoyant.rinet/8888/127.1", "127.1:8888 operator"),
        ("/svc/x => /$/weir.dns/127.1", "127.1:80 operator"),
        ("/svc/x => 0.5 * /$/inet/127.1/1 & 0.5 * /$/inet/127.1/2", "127.1:1 operator, 127.1:2 operator"),
        ("/svc/x => ~ | (/$/inet/127.1/8888)", "127.1:8888 operator"),
        // Rearranged, and still whole.
        ("/inet => /$/inet ; /svc/x => /$/io.buoyant.hostportPfx/inet/127.1:8888", "127.1:8888 operator"),
        ("/svc/x => /#/fixed/a", "127.1:8888 operator"),
        ("/svc => /#/fixed", "127.1:8888 operator"),
        ("/svc/x => /#/port/8888", "127.1:8888 operator"),
        ("/svc => /#/const", "127.1:8888 operator"),
        ("/svc/x => /#/replace/a", "127.1:8888 operator"),
        // The request's name is the host, or the port.
        ("/svc => /$/weir.dns", "x:80 request"),
        ("/svc => /$/io.buoyant.rinet/80", "x:80 request"),
        ("/svc => /#/port", ""),
        // An ExternalName is the Service's owner's.
        ("/svc/x => /$/weir.host/external", "127.1:81 request"),
    ] {
        assert_eq!(written(configured, "", "/svc/x"), expected, "{configured}");
    }
    for (configured, name, expected) in [
        ("/svc => /$/inet", "/svc/127.1/8888", "127.1:8888 request"),
        ("/svc => /$/inet/127.1", "/svc/8888", "127.1:8888 request"),
        ("/svc/* => /$/inet/127.1", "/svc/x/8888", "127.1:8888 request"),
        ("/svc/* => /$/inet/127.1/80", "/svc/x/8888", "127.1:80 operator"),
        (
            "/inet => /$/inet ; /svc => /$/io.buoyant.hostportPfx/inet",
            "/svc/127.1:8888",
            "127.1:8888 request",
        ),
        ("/svc => /#/port", "/svc/8888", "127.1:8888 request"),
        ("", "/$/inet/127.1/8888", "127.1:8888 request"),
    ] {
        assert_eq!(written(configured, "", name), expected, "{name} with {configured}");
    }
}

#[test]
fn an_entry_of_the_request_makes_an_address_the_requests() {
    let operators = "/svc/app => /$/inet/127.1/8888 ; /int/app => /$/inet/127.1/9999";
    for (own, expected) in [
        ("/svc/x => /$/inet/127.1/8888", "127.1:8888 request"),
        ("/svc/x => /$/inet/localhost/8888", "localhost:8888 request"),
        ("/svc/x => /#/fixed/a", "127.1:8888 request"),
        ("/svc/x => /#/const/a", "127.1:8888 request"),
        // A name that no Host asks for: the operator bound it for other names.
        ("/svc/x => /int/app", "127.1:9999 request"),
        ("/svc/x => /y ; /y => /int/app", "127.1:9999 request"),
        // What the client's Host could have asked for.
        ("/svc/x => /svc/app", "127.1:8888 operator"),
        ("/svc/x => /y ; /y => /svc/app", "127.1:8888 operator"),
        // And then its own entry again.
        ("/svc/x => /svc/y ; /svc/y => /$/inet/127.1/8888", "127.1:8888 request"),
        ("/svc/x => /svc/y ; /svc/y => /int/app", "127.1:9999 request"),
        // Its own alternative is its own, the operator's the operator's.
        ("/svc/x => ~ | /svc/app", "127.1:8888 operator"),
        ("/int => /$/nil ; /svc/x => /svc/app", "127.1:8888 operator"),
    ] {
        assert_eq!(written(operators, own, "/svc/x"), expected, "{own}");
    }
    // An operator's entry under a request's one.
    let way = "/svc/app => /int/app ; /int => /$/inet/127.1";
    assert_eq!(written(way, "/int/app => /int/9999", "/svc/app"), "127.1:9999 request");
    assert_eq!(written("/svc/app => /int/app", "/int => /$/inet/127.1/80", "/svc/app"), "127.1:80 request");
}

#[test]
fn an_alternative_that_an_entry_of_the_request_makes_the_next_one_is_the_requests() {
    for (configured, own, expected) in [
        ("/svc/app => /#/io.l5d.fs/a | /$/inet/127.1/8888", "", ""),
        ("/svc/app => /#/io.l5d.fs/a | /$/inet/127.1/8888", "/#/io.l5d.fs/a => ~", "127.1:8888 request"),
        ("/svc/app => /#/io.l5d.fs/none | /$/inet/127.1/8888", "", "127.1:8888 operator"),
        ("/svc/app => /#/io.l5d.fs/none | /$/inet/127.1/8888", "/other => ~", "127.1:8888 operator"),
        // Nested, and by way of a name.
        (
            "/svc/app => (/int/a | ~) | /$/inet/127.1/8888 ; /int => /#/io.l5d.fs",
            "/#/io.l5d.fs/a => ~",
            "127.1:8888 request",
        ),
        // Another entry for the same name.
        ("/svc/app => /$/inet/127.1/8888 ; /svc/app => /#/io.l5d.fs/a", "", ""),
        (
            "/svc/app => /$/inet/127.1/8888 ; /svc/app => /#/io.l5d.fs/a",
            "/#/io.l5d.fs/a => ~",
            "127.1:8888 request",
        ),
        // Without the request's own entry for that name the next one would be reached as well.
        ("/svc/app => /$/inet/127.1/8888", "/svc/app => ~", "127.1:8888 operator"),
        ("/svc/app => /$/inet/127.1/8888", "/svc/app => /none ; /none => ~", "127.1:8888 operator"),
        // What a Host alone would do.
        (
            "/svc/app => /#/io.l5d.fs/a | /svc/b ; /svc/b => /$/inet/127.1/1",
            "/#/io.l5d.fs/a => ~",
            "127.1:1 operator",
        ),
    ] {
        assert_eq!(written(configured, own, "/svc/app"), expected, "{configured} with {own}");
    }
}

#[test]
fn only_an_operator_means_this_node_by_localhost() {
    for (host, written, expected) in [
        ("localhost", true, Some("127.0.0.1")),
        ("app.localhost", true, Some("127.0.0.1")),
        ("localhost", false, None),
        ("notlocalhost", true, None),
        ("localhost.example.com", true, None),
        ("127.1", false, Some("127.0.0.1")),
    ] {
        let outside = Outside { host: host.into(), port: 80, scope: Scope::Anywhere, written };
        let expected = expected.map(|address| address.parse().unwrap());
        assert_eq!(outside.literal(), expected, "{host} {written}");
    }
}
