//! Names derived from a host of the cluster keep its scope.

use super::{Bound, Table, Target, dtab, path};
use crate::domain::dtab::{NameTree, Origin};
use crate::domain::name::{Path, Scope};
use crate::domain::route::{Configured, Delegation, Limits, Resolver, Rewrite, Transform};

/// The host outside the cluster that `name` leads to, and its scope. `/cut` and `/join` are rewriting namers.
fn outside(entries: &str, name: &Path) -> (String, Scope) {
    let rewriting = |prefix: &str, pattern: &str, name: &str| Configured {
        prefix: path(prefix),
        resolver: Resolver::Rewrite(Rewrite::new(pattern, name).unwrap()),
        transform: Transform::default(),
    };
    let namers = [
        rewriting("/cut", "/{name}.svc", "/$/inet/{name}/80"),
        rewriting("/join", "/{tld}/{name}", "/$/inet/{name}.{tld}/80"),
        rewriting("/ns", "/{name}", "/$/inet/{name}.shop/80"),
        rewriting("/own", "/{name}", "/$/inet/{name}.example.com/80"),
    ];
    let (dtab, names) = (dtab(entries, Origin::Base), Table::default());
    let delegation = Delegation { dtabs: &[&dtab], namers: &namers, names: &names, limits: Limits::REQUEST };
    match delegation.bind(name) {
        Ok(NameTree::Leaf(Bound { target: Target::Outside(outside), .. })) => {
            (outside.host.to_string(), outside.scope)
        }
        other => panic!("{entries} {name}: {other:?}"),
    }
}

/// `/svc/LABEL`, with the label in this scope.
fn name(label: &str, scope: Scope) -> Path {
    let mut name = path("/svc");
    name.push_scoped(label, scope);
    name
}

#[test]
fn a_label_of_the_cluster_is_so_whichever_way_it_gets_to_a_host() {
    for (entries, label, host) in [
        ("/svc => /$/weir.dns", "api.dev", "api.dev"),
        ("/svc => /a ; /a => /b | ~ ; /b => /$/io.buoyant.rinet/80", "api.dev", "api.dev"),
        ("/svc/* => /x ; /svc => /$/io.buoyant.rinet/80", "api.dev", "api.dev"),
        ("/svc => /$/io.buoyant.hostportPfx/ip ; /ip => /$/inet", "api.dev:80", "api.dev"),
        ("/svc => /$/io.buoyant.porthostPfx/ip ; /ip => /$/io.buoyant.rinet", "api.dev:80", "api.dev"),
        ("/svc => /$/io.buoyant.http.domainToPathPfx/a ; /a => /#/join", "api.dev", "api.dev"),
        (
            "/svc => /$/io.buoyant.http.subdomainOf/b ; /api.dev => /$/inet/literal.example/80",
            "api.dev.b",
            "literal.example",
        ),
        (
            "/svc => /$/io.buoyant.http.subdomainOfPfx/b/a ; /a => /$/io.buoyant.rinet/80",
            "api.dev.b",
            "api.dev",
        ),
        (
            "/svc => /$/io.buoyant.http.anyMethodPfx/a/GET ; /a => /$/io.buoyant.rinet/80",
            "api.dev",
            "api.dev",
        ),
        ("/svc => /#/ns", "api", "api.shop"),
        ("/svc => /#/own", "api.dev", "api.dev.example.com"),
    ] {
        // Literal text of an entry or a template has its own scope.
        let own = matches!(host, "literal.example" | "api.dev.example.com");
        let expected = if own { Scope::Anywhere } else { Scope::Cluster };
        assert_eq!(outside(entries, &name(label, Scope::Cluster)), (host.to_owned(), expected), "{entries}");
        let open = (host.to_owned(), Scope::Anywhere);
        assert_eq!(outside(entries, &name(label, Scope::Anywhere)), open, "{entries}");
    }
}

#[test]
fn what_is_cut_from_a_label_is_of_the_scope_that_the_whole_label_says() {
    for (entries, label, host) in [
        ("/svc => /#/cut", "api.dev.svc", "api.dev"),
        (
            "/svc => /$/io.buoyant.http.subdomainOfPfx/svc/a ; /a => /$/io.buoyant.rinet/80",
            "api.dev.svc",
            "api.dev",
        ),
        ("/svc => /$/io.buoyant.http.domainToPathPfx/a ; /a/svc => /#/join", "api.dev.svc", "api.dev"),
    ] {
        let expected = (host.to_owned(), Scope::Cluster);
        assert_eq!(outside(entries, &name(label, Scope::Anywhere)), expected, "{entries}");
    }
}
