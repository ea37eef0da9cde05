//! Explanations: their content and their text.

use super::{Configured, Delegation, Explanation, Limits, Role, Table, Verdict, What, dtab, path};
use crate::domain::dtab::{BASE, Dtab, Origin};

fn explain(dtabs: &[&Dtab], name: &str) -> Explanation<String> {
    let table = Table::of_fs(&["a"]).with_k8s(&["default/http/hello"]);
    let namers = Configured::defaults();
    let delegation = Delegation { dtabs, namers: &namers, names: &table, limits: Limits::CONFIGURATION };
    delegation.explain(&path(name))
}

fn text(dtab_text: &str, name: &str) -> String {
    explain(&[&dtab(dtab_text, Origin::Base)], name).to_string()
}

#[test]
fn a_found_name_shows_the_way_and_what_was_not_tried() {
    let expected = "\
/svc/hello   <- taken
  base dtab, entry 3 (line 3, column 1): /svc => /#/io.l5d.fs
    /#/io.l5d.fs/hello
      namer /#/io.l5d.fs
        neg: Fs has no /hello
  base dtab, entry 2 (line 2, column 1): /svc => /$/weir.host   <- taken
    /$/weir.host/hello   <- taken
      namer /$/weir.host   <- taken
        found: /$/weir.host/hello
  base dtab, entry 1 (line 1, column 1): /svc => /$/weir.dns
    not tried: something before it has decided
=> /$/weir.host/hello";
    assert_eq!(text(BASE, "/svc/hello"), expected);
}

#[test]
fn a_name_that_does_not_exist_gives_every_reason() {
    let base = Dtab::base();
    let explanation = explain(&[&base], "/svc/shop");
    assert_eq!(explanation.reasons(), ["Fs has no /shop", "Host has no /shop", "Dns has no /shop"]);
    assert!(explanation.to_string().ends_with("=> nothing: no such name (neg)"), "{explanation}");
    let nobody = explain(&[&base], "/else");
    assert_eq!(nobody.reasons(), ["no dtab entry is for /else"]);
}

#[test]
fn every_reason_says_what_it_speaks_of() {
    for (base, reasons) in [
        (
            "/svc => /#/io.l5d.consul/dc1",
            "no namer is for /#/io.l5d.consul/dc1/x; there are /#/io.l5d.fs, /#/io.l5d.k8s",
        ),
        ("/svc => /$/io.buoyant.porthostPfx/ph", "/$/io.buoyant.porthostPfx/ph/x: there is no host:port"),
        ("/svc => /$/io.buoyant.typo", "/$/io.buoyant.typo/x: there is no built-in namer of that name"),
        ("/svc => /host", "no dtab entry is for /host/x"),
    ] {
        let explanation = explain(&[&dtab(base, Origin::Base)], "/svc/x");
        assert_eq!(explanation.reasons(), [reasons], "{base}");
    }
}

#[test]
fn the_entry_that_says_fail_or_empty_is_found() {
    for (base, at) in [
        ("/svc => /a ; /a => ! | /b", Some("base dtab, line 1, column 14")),
        ("/b => /#/io.l5d.fs/none ; /a => /b | $ ; /svc => /a", Some("base dtab, line 1, column 27")),
        ("/svc => /$/nil", Some("base dtab, line 1, column 1")),
        ("", None),
    ] {
        let name = if base.is_empty() { "/$/fail" } else { "/svc/x" };
        let explanation = explain(&[&dtab(base, Origin::Base)], name);
        assert_eq!(explanation.decider().as_deref(), at, "{explanation}");
    }
    // A request may see the entries that it brought itself.
    let own = explain(&[&dtab("", Origin::Base), &dtab("/svc => !", Origin::Request)], "/svc/x");
    assert_eq!(own.decider().as_deref(), Some("l5d-dtab, line 1, column 1: /svc => !"), "{own}");
}

#[test]
fn an_override_says_who_wrote_it_and_where() {
    let base = Dtab::base();
    let local = dtab("  /svc/b => /svc/a ;", Origin::Request);
    let explanation = explain(&[&base, &local], "/svc/b");
    let What::Entry { index: 0, origin: Origin::Request, at, text } = &explanation.root.steps[0].what else {
        panic!("{explanation}")
    };
    assert_eq!((at.line, at.column, &**text), (1, 3, "/svc/b => /svc/a"));
    assert_eq!(explanation.root.steps[0].role, Role::Won);
    assert_eq!(explanation.root.steps[1].role, Role::Untried);
    assert_eq!(explanation.root.steps[1].verdict, Verdict::Untried);
    assert!(explanation.to_string().contains("l5d-dtab, entry 1 (line 1, column 3)"), "{explanation}");
}

#[test]
fn a_split_shows_the_shares_after_others_dropped_out() {
    let expected = "\
/s   <- taken
  base dtab, entry 2 (line 1, column 22): /s => 8 * /f/a & /f/none & 2 * /$/inet/h/1 | !   <- taken
    the first of these that exists
      a share of the requests to each of these
        weight 8: 80.0 %
          /f/a   <- taken
            base dtab, entry 1 (line 1, column 1): /f => /#/io.l5d.fs   <- taken
              /#/io.l5d.fs/a   <- taken
                namer /#/io.l5d.fs   <- taken
                  found: /#/io.l5d.fs/a
        weight 1: none
          /f/none
            base dtab, entry 1 (line 1, column 1): /f => /#/io.l5d.fs
              /#/io.l5d.fs/none
                namer /#/io.l5d.fs
                  neg: Fs has no /none
        weight 2: 20.0 %
          /$/inet/h/1   <- taken
            namer /$/inet   <- taken
              found: /$/inet/h/1, if DNS knows it
      !
        not tried: something before it has decided
=> 8 * /#/io.l5d.fs/a & 2 * /$/inet/h/1";
    assert_eq!(
        text("/f => /#/io.l5d.fs ; /s => 8 * /f/a & 1 * /f/none & 2 * /$/inet/h/1 | !", "/s"),
        expected
    );
}

#[test]
fn what_dns_may_deny_has_its_fallback_marked() {
    let explanation = text("/s => /$/inet/h/1 | /#/io.l5d.fs/a", "/s");
    assert!(explanation.contains("/#/io.l5d.fs/a   <- if DNS denies what comes before"), "{explanation}");
    assert!(explanation.ends_with("=> /$/inet/h/1 | /#/io.l5d.fs/a"), "{explanation}");
}

#[test]
fn fail_and_empty_say_what_they_are() {
    assert!(
        text("/s => ! | /#/io.l5d.fs/a", "/s")
            .contains("!   <- taken\n        fail: no alternative is tried")
    );
    assert!(text("/s => /$/nil", "/s").ends_with("=> nothing: the name exists, but is empty"));
}

#[test]
fn what_is_left_of_a_name_is_said() {
    assert!(text("/s => /#/io.l5d.fs/a", "/s/x/y").ends_with("=> /#/io.l5d.fs/a (left over: /x/y)"));
}

#[test]
fn a_circle_is_shown_once_and_not_a_hundred_times() {
    let expected = "\
/a
  base dtab, entry 1 (line 1, column 1): /a => /b
    /b
      base dtab, entry 2 (line 1, column 12): /b => /a
        /a
          the same name as above: the dtab goes in a circle
=> error: the dtab goes in a circle: /a -> /b -> /a (given up after 101 names)";
    assert_eq!(text("/a => /b ; /b => /a", "/a"), expected);
}
