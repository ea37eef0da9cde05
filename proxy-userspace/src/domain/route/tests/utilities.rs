//! The built-in namers below `/$/`: what each takes from the name, and what it leaves.

use super::{Bound, Table, Target, bind_in, path};
use crate::domain::dtab::NameTree;
use crate::domain::name::Scope;
use crate::domain::route::{Configured, Delegation, Limits};

/// The rewritten name below `/$/`: entries for `/pfx`, `/io`, … make it visible.
fn rewritten(name: &str) -> String {
    use crate::domain::route::utility::{Builtin, look_up};
    match look_up(path(&format!("/$/{name}")).labels(), &|_| Scope::Anywhere) {
        Builtin::Path(path) => path.to_string(),
        Builtin::Neg(_) => "~".to_owned(),
        other => format!("{other:?}"),
    }
}

fn check(rows: &[(&str, &str)]) {
    for (name, expected) in rows {
        assert_eq!(rewritten(name), *expected, "{name}");
    }
}

/// The host and port that `name` is bound to, and the residual.
fn outside(name: &str) -> String {
    let namers: [Configured; 0] = [];
    let names = Table::default();
    let delegation = Delegation { dtabs: &[], namers: &namers, names: &names, limits: Limits::REQUEST };
    match delegation.bind(&path(name)) {
        Ok(NameTree::Leaf(Bound { target: Target::Outside(outside), id, residual })) => {
            assert_eq!(id.join(residual.labels()), path(name), "id and residual make the name");
            format!("{outside} {residual}")
        }
        Ok(NameTree::Neg) => "~".to_owned(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn inet_takes_host_and_port_and_keeps_the_residual() {
    for (name, expected) in [
        ("/$/inet/example.com/80", "example.com:80 /"),
        ("/$/inet/Example.COM./80/x/y", "example.com:80 /x/y"),
        ("/$/inet/10.0.0.1/8080", "10.0.0.1:8080 /"),
        ("/$/inet/fd00::1/8080", "[fd00::1]:8080 /"),
        ("/$/inet/8080", "localhost:8080 /"),
        ("/$/inet/8080/rest", "localhost:8080 /rest"),
        ("/$/inet/80/443", "80:443 /"),
        ("/$/inet/host", "~"),
        ("/$/inet", "~"),
        ("/$/inet/host/0", "~"),
        ("/$/inet/host/65536", "~"),
        ("/$/inet/host/-1", "~"),
        ("/$/inet/host/99999999999999999999", "~"),
        ("/$/inet/ho%st/80", "~"),
        ("/$/inet/\\xff/80", "~"),
        ("/$/inet/a\\x2fb/80", "~"),
    ] {
        assert_eq!(outside(name), expected, "{name}");
    }
}

#[test]
fn rinet_takes_port_before_host() {
    for (name, expected) in [
        ("/$/io.buoyant.rinet/80/example.com", "example.com:80 /"),
        ("/$/io.buoyant.rinet/12345/localhost/residual", "localhost:12345 /residual"),
        ("/$/io.buoyant.rinet/80", "~"),
        ("/$/io.buoyant.rinet/http/example.com", "~"),
        ("/$/io.buoyant.rinet/0/example.com", "~"),
    ] {
        assert_eq!(outside(name), expected, "{name}");
    }
}

#[test]
fn fail_and_nil_are_whatever_follows() {
    let bind = |name| bind_in(&Table::default(), "", name);
    assert_eq!(bind("/$/fail"), "!");
    assert_eq!(bind("/$/fail/a/b"), "!");
    assert_eq!(bind("/$/nil"), "$");
    assert_eq!(bind("/$/nil/a"), "$");
    assert_eq!(bind("/$/failure"), "~");
    assert_eq!(bind("/$/io.buoyant.unknown/a"), "~");
}

#[test]
fn hostport_pfx_splits_host_and_port() {
    check(&[
        ("io.buoyant.hostportPfx/pfx/host:80", "/pfx/host/80"),
        ("io.buoyant.hostportPfx/pfx/host:80/rest/x", "/pfx/host/80/rest/x"),
        ("io.buoyant.hostportPfx/pfx/host.a:http-alt", "/pfx/host.a/http-alt"),
        ("io.buoyant.hostportPfx/pfx/host:HTTP", "~"),
        ("io.buoyant.hostportPfx/pfx/host:-a", "~"),
        ("io.buoyant.hostportPfx/pfx/host", "~"),
        ("io.buoyant.hostportPfx/pfx/host:", "~"),
        ("io.buoyant.hostportPfx/pfx/:80", "~"),
        ("io.buoyant.hostportPfx/pfx/a:b:c", "~"),
        ("io.buoyant.hostportPfx/pfx/::1:80", "~"),
        ("io.buoyant.hostportPfx/pfx", "~"),
        ("io.buoyant.hostportPfx", "~"),
    ]);
    let (longest, longer) = ("p".repeat(63), "p".repeat(64));
    check(&[
        (&format!("io.buoyant.hostportPfx/pfx/h:{longest}"), &format!("/pfx/h/{longest}")),
        (&format!("io.buoyant.hostportPfx/pfx/h:{longer}"), "~"),
    ]);
}

#[test]
fn porthost_pfx_puts_the_port_first() {
    check(&[
        ("io.buoyant.porthostPfx/pfx/host:80/rest", "/pfx/80/host/rest"),
        ("io.buoyant.porthostPfx/pfx/host:http", "/pfx/http/host"),
        ("io.buoyant.porthostPfx/pfx/host", "~"),
    ]);
}

#[test]
fn domain_to_path_reverses_the_labels_and_keeps_a_port() {
    check(&[
        ("io.buoyant.http.domainToPath/foo.buoyant.io", "/io/buoyant/foo"),
        ("io.buoyant.http.domainToPath/foo/rest", "/foo/rest"),
        ("io.buoyant.http.domainToPath/a.b:80/rest", "/b:80/a/rest"),
        ("io.buoyant.http.domainToPath/a.b.", "/b/a"),
        ("io.buoyant.http.domainToPath/a..b", "~"),
        ("io.buoyant.http.domainToPath/.a", "~"),
        ("io.buoyant.http.domainToPath/a%b", "~"),
        ("io.buoyant.http.domainToPath", "~"),
        ("io.buoyant.http.domainToPathPfx/pfx/a.b.c/rest", "/pfx/c/b/a/rest"),
        ("io.buoyant.http.domainToPathPfx/pfx", "~"),
    ]);
}

#[test]
fn subdomain_of_leaves_what_is_below_the_domain() {
    check(&[
        ("io.buoyant.http.subdomainOf/a.b/foo.a.b/bar/bah", "/foo/bar/bah"),
        ("io.buoyant.http.subdomainOf/a.b/x.foo.a.b", "/x.foo"),
        ("io.buoyant.http.subdomainOf/a.b/foo.a.b:9090/bah", "/foo/bah"),
        ("io.buoyant.http.subdomainOf/a.b/.a.b", "~"),
        ("io.buoyant.http.subdomainOf/a.b/a.b", "~"),
        ("io.buoyant.http.subdomainOf/a.b/fooa.b", "~"),
        ("io.buoyant.http.subdomainOf/a.b/foo.c.d", "~"),
        ("io.buoyant.http.subdomainOf/a.b", "~"),
        ("io.buoyant.http.subdomainOfPfx/a.b/foo/bar.a.b/bah", "/foo/bar/bah"),
        ("io.buoyant.http.subdomainOfPfx/a.b/foo/bar_suffix.a.b/bah", "/foo/bar_suffix/bah"),
        ("io.buoyant.http.subdomainOfPfx/a.b/foo/bar-suffix.a.b:80", "/foo/bar-suffix"),
        ("io.buoyant.http.subdomainOfPfx/a.b/foo", "~"),
    ]);
}

#[test]
fn any_method_drops_the_method() {
    check(&[
        ("io.buoyant.http.anyMethod/GET/foo/bar", "/foo/bar"),
        ("io.buoyant.http.anyMethod/GET", "/"),
        ("io.buoyant.http.anyMethod/A.B/foo", "~"),
        ("io.buoyant.http.anyMethod/get/foo", "~"),
        ("io.buoyant.http.anyMethod", "~"),
        ("io.buoyant.http.anyMethodPfx/foo/GET/bar", "/foo/bar"),
        ("io.buoyant.http.anyMethodPfx/foo/G1/bar", "~"),
        ("io.buoyant.http.anyMethodPfx/foo", "~"),
    ]);
}

#[test]
fn any_host_drops_the_host() {
    check(&[
        ("io.buoyant.http.anyHost/a.b:80/foo/bar", "/foo/bar"),
        ("io.buoyant.http.anyHost/a%b/foo", "~"),
        ("io.buoyant.http.anyHostPfx/foo/a.b/bar", "/foo/bar"),
        ("io.buoyant.http.anyHostPfx/foo/a%b/bar", "~"),
    ]);
}

#[test]
fn a_rewritten_name_is_looked_up_again() {
    let table = Table::of_fs(&["http"]);
    let dtab = "/ip => /#/io.l5d.fs ; /svc => /$/io.buoyant.porthostPfx/ip";
    assert_eq!(bind_in(&table, dtab, "/svc/hello:http"), "/#/io.l5d.fs/http[/hello]");
    assert_eq!(bind_in(&table, dtab, "/svc/hello:admin"), "~");
}
