use super::*;

fn findings(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(path.into(), text.to_owned());
    let mut findings = floors::check(&source);
    findings.extend(rooms::check(&source));
    findings.extend(lengths::check(&source));
    findings.extend(banned::check(&source));
    findings.iter().map(Finding::to_string).collect()
}

fn project(files: &[(&str, &str)]) -> Project {
    let texts: Vec<(PathBuf, String)> =
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    Project::new(texts.iter().map(|(path, _)| path.clone()).collect(), texts)
}

#[track_caller]
fn only(findings: &[String], wanted: &str) {
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(wanted), "{findings:?}");
}

#[test]
fn a_floor_uses_only_floors_below_it() {
    assert!(findings("proxy-userspace/src/proxy/tcp.rs", "use crate::domain::name::Name;\n").is_empty());
    let up = findings("proxy-userspace/src/domain/balance/mod.rs", "\nuse crate::proxy::Cluster;\n");
    only(&up, "domain/balance/mod.rs:2: `domain` (floor 0) may not use `proxy` (floor 3) [floor]");
}

#[test]
fn a_group_and_a_path_in_the_middle_of_code_are_seen() {
    let text = "use crate::{domain::{name, catalog}, transport::Io};\nfn f() { crate::intercept::load(); }\n";
    let found = findings("proxy-userspace/src/discovery/files.rs", text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains(":1:") && found[0].contains("`transport`"), "{found:?}");
    assert!(found[1].contains(":2:") && found[1].contains("`intercept`"), "{found:?}");
}

#[test]
fn supers_that_reach_the_root_are_seen() {
    let text = "use super::super::admin::Api;\nuse super::world::World;\n";
    only(&findings("proxy-userspace/src/proxy/fault.rs", text), "`admin` (floor 5)");
    only(&findings("proxy-userspace/src/proxy/exchange/mod.rs", text), "`admin` (floor 5)");
    assert!(findings("proxy-userspace/src/proxy/exchange/head.rs", text).is_empty());
}

#[test]
fn a_room_uses_only_those_before_it() {
    let text = "use crate::proxy::exchange::Exchange;\n";
    only(&findings("proxy-userspace/src/proxy/upstream/pool.rs", text), "`upstream` may not use `exchange`");
    only(&findings("proxy-userspace/src/proxy/tcp.rs", "use super::worker::Shared;\n"), "comes after it");
    let group = "use crate::proxy::{fault::Fault, routing::Router};\n";
    only(&findings("proxy-userspace/src/proxy/upstream/cluster/mod.rs", group), "`routing`");
    only(&findings("proxy-userspace/src/proxy/upstream/cluster/mod.rs", "use super::super::tcp;\n"), "`tcp`");
    assert!(findings("proxy-userspace/src/proxy/downstream/h1.rs", text).is_empty());
    assert!(findings("proxy-userspace/src/proxy/upstream/dial.rs", "use super::routing::X;\n").is_empty());
    only(&findings("proxy-userspace/src/proxy/attic.rs", ""), "has no place");
}

#[test]
fn the_domain_is_pure_but_its_tests_may_read_the_clock() {
    let text = "fn f() { let now = Instant::now(); }\n";
    only(&findings("proxy-userspace/src/domain/sniff.rs", text), "no clock");
    let tested = format!("#[cfg(test)]\nmod tests {{ {text} }}\n");
    assert!(findings("proxy-userspace/src/domain/sniff.rs", &tested).is_empty());
    only(&findings("proxy-userspace/src/domain/sniff.rs", "fn f() -> u8 { fastrand::u8(..) }"), "rng");
    assert!(findings("proxy-userspace/src/domain/sniff.rs", "fn f(rng: &mut fastrand::Rng) {}").is_empty());
}

#[test]
fn the_proxy_never_sees_kube_or_aya() {
    only(&findings("proxy-userspace/src/proxy/tcp.rs", "use aya::maps::Array;\n"), "never BPF");
    assert!(findings("proxy-userspace/src/intercept/maps.rs", "use aya::maps::Array;\n").is_empty());
}

#[test]
fn a_new_module_needs_a_floor() {
    only(&findings("proxy-userspace/src/attic/mod.rs", ""), "has no floor");
}

#[test]
fn comments_and_strings_break_no_rule() {
    let text = "// crate::proxy todo!()\n/* unsafe /* nested */ */ const A: &str = \"crate::proxy unsafe todo!()\";\n\
                const B: &str = r#\"\"unsafe\" todo!()\"#; const C: char = '\"'; fn f<'a>(_: &'a str) {}\n";
    assert_eq!(findings("proxy-userspace/src/domain/sniff.rs", text), Vec::<String>::new());
}

#[test]
fn bpf_is_called_with_attributes_of_the_kernels_size_alone() {
    let call = "fn f(a: &mut [u32; 8]) { libc::syscall(libc::SYS_bpf, 16, a.as_mut_ptr(), 32); }\n";
    for path in ["xtask/src/setup.rs", "tests/src/net/links.rs", "proxy-userspace/tests/intercept/bpf.rs"] {
        only(&findings(path, call), "[bpf]");
        assert!(findings(path, &format!("use aya_obj::generated::bpf_attr;\n{call}")).is_empty());
        assert!(findings(path, "const CALL: libc::c_long = libc::SYS_bpf;\n").is_empty());
    }
}

#[test]
fn unsafe_has_its_places() {
    let text = "fn f() { unsafe { g() } }\n";
    only(&findings("proxy-userspace/src/transport/io.rs", text), "[unsafe]");
    only(&findings("proxy-userspace/src/transport/sockopt.rs", text), "[unsafe]");
    assert!(findings("proxy-userspace/src/intercept/maps.rs", text).is_empty());
}

#[test]
fn ignored_tests_and_unfinished_code_are_refused() {
    only(&findings("tests/tests/a.rs", "#[ignore = \"slow\"]\nfn f() {}\n"), "[ignore]");
    only(&findings("xtask/src/a.rs", "fn f() { todo!() }\n"), "[unfinished]");
}

#[test]
fn long_files_and_functions_are_refused() {
    let long = |lines: usize| format!("fn long() {{\n{}}}\n", "    g();\n".repeat(lines));
    assert!(findings("xtask/src/a.rs", &long(58)).is_empty());
    only(&findings("xtask/src/a.rs", &format!("\n{}", long(59))), "a.rs:2: function `long` has 61 lines");
    only(&findings("xtask/src/a.rs", &"\n".repeat(401)), "401 lines of code");
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(300), "\n".repeat(200));
    assert!(findings("xtask/src/a.rs", &tested).is_empty());
}

#[test]
fn a_module_declared_for_tests_is_test_code() {
    let project = project(&[
        ("proxy-userspace/src/domain/mod.rs", "#[cfg(test)]\nmod sim;\n"),
        ("proxy-userspace/src/domain/sim/mod.rs", "fn f() { Instant::now(); }\n"),
        ("proxy-userspace/src/domain/simple.rs", ""),
    ]);
    let tests: Vec<bool> = project.sources.iter().map(|source| source.is_test).collect();
    assert_eq!(tests, [false, true, false]);
}

#[test]
fn metrics_and_headers_are_documented_both_ways() {
    let code = "fn f() { page.counters(\"weir_requests\"); page.gauges(\n\"weir_lost\"); load(&[\"weir_connect4\"]); header(\"l5d-err\"); }\n\
                #[cfg(test)]\nmod tests { const T: &str = \"weir_test\"; }\n";
    let project = project(&[
        ("proxy-userspace/src/telemetry/mod.rs", code),
        ("docs/metrics.md", "| `weir_requests_total{listener}` | requests |\n| `weir_gone` | gone |\n"),
        ("docs/headers.md", "`l5d-err`: why\n"),
    ]);
    let found: Vec<String> = documented::check(&project).iter().map(Finding::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("telemetry/mod.rs:2: metric `weir_lost` is not in docs/metrics.md"),
        "{found:?}"
    );
    assert!(found[1].contains("docs/metrics.md:2: the code has no metric `weir_gone`"), "{found:?}");
}

#[test]
fn configuration_keys_are_documented_both_ways() {
    let code = "fn read(section: &mut Section) {\n    section.set(\"listen\", &mut a);\n\
                    section.set(\n        \"clusterDomain\",\n        &mut b);\n    section.mistake(\"other\");\n\
                    root.section(\"outgoing\");\n}\n";
    let project = project(&[
        ("proxy-userspace/src/config/outgoing.rs", code),
        (
            "docs/configuration.md",
            "| `outgoing.listen` | where, or `any.where` |\n| `outgoing.gone` | gone |\n",
        ),
    ]);
    let found: Vec<String> = documented::check(&project).iter().map(Finding::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("outgoing.rs:4: configuration key `clusterDomain` is not in"), "{found:?}");
    assert!(
        found[1].contains("docs/configuration.md:2: the code reads no configuration key `gone`"),
        "{found:?}"
    );
}

#[test]
fn the_architecture_names_only_files_that_exist() {
    let project = project(&[
        (
            "proxy-userspace/ARCHITECTURE.md",
            "`proxy/tcp.rs` forwards;\n  `exchange.rs` is gone, `*.yaml` and `a/<b>.rs` are patterns.\n\
             | `proxy` | `tcp` |\n",
        ),
        ("README.md", "See [it](proxy-userspace/ARCHITECTURE.md).\n"),
        ("proxy-userspace/src/proxy/tcp.rs", ""),
    ]);
    let found: Vec<String> = architecture::check(&project).iter().map(Finding::to_string).collect();
    only(&found, "ARCHITECTURE.md:2: no file `exchange.rs`");
}

#[test]
fn the_map_names_every_module_and_room() {
    let found = |rows: &str| -> Vec<String> {
        let project = project(&[
            (
                "proxy-userspace/ARCHITECTURE.md",
                &format!("`ssrf` outside a table counts for nothing\n{rows}"),
            ),
            ("README.md", ""),
            ("proxy-userspace/src/lib.rs", ""),
            ("proxy-userspace/src/domain/mod.rs", ""),
            ("proxy-userspace/src/domain/ssrf/mod.rs", ""),
            ("proxy-userspace/src/domain/enrol.rs", ""),
            ("proxy-userspace/src/domain/enrol_tests.rs", ""),
            ("proxy-userspace/src/proxy/clock.rs", ""),
            ("proxy-userspace/src/proxy/clock/tests.rs", ""),
        ]);
        architecture::check(&project).iter().map(Finding::to_string).collect()
    };
    let rest = "| 0 | `domain` | who is diverted (`enrol.rs`) |\n| 3 | `proxy` | `clock.rs` |\n";
    assert_eq!(found(&format!("{rest}| where not to connect (`ssrf`) |\n")), Vec::<String>::new());
    only(&found(rest), "no row of the map names `ssrf`");
    only(&found("| `domain` | `ssrf` |\n| `proxy` | `clock.rs` |\n"), "no row of the map names `enrol`");
    only(&found("| `domain` | `ssrf`, `enrol.rs` |\n| `clock.rs` |\n"), "no row of the map names `proxy`");
}

#[test]
fn a_machine_path_is_found_in_documents_and_literals() {
    let path = concat!("/ho", "me/me/x");
    let project = project(&[
        ("README.md", &format!("cd {path}\n")),
        ("xtask/src/a.rs", &format!("const A: &str = \"{path}\";\n")),
    ]);
    assert_eq!(banned::machine_paths(&project).len(), 2);
}

#[test]
fn each_promise_names_a_test_that_exists() {
    let code = "#[test]\nfn a_pod_gets_nothing_of_another() {}\nfn a_helper_of_these_tests() {}\n";
    let of = |rows: &str| -> Vec<String> {
        let text = format!("# Security\n| who | promise | shown by |\n|---|---|---|\n{rows}");
        let project = project(&[("SECURITY.md", &text), ("tests/a.rs", code)]);
        promises::check(&project).iter().map(Finding::to_string).collect()
    };
    assert!(of("| a pod | `limits.x_y` holds | `a_pod_gets_nothing_of_another` |\n").is_empty());
    only(&of("| a pod | gets nothing | `a_pod_gets_nothing_at_all` |\n"), "SECURITY.md:4: no test is called");
    only(&of("| a pod | gets nothing | `a_helper_of_these_tests` |\n"), "no test is called");
    only(&of("| a pod | gets nothing | see there |\n"), "SECURITY.md:4: a promise without a test");
    assert!(of("\n| key | meaning |\n|---|---|\n| a | b |\n").is_empty());
    only(
        &promises::check(&project(&[])).iter().map(Finding::to_string).collect::<Vec<_>>(),
        "SECURITY.md:1: this file has to exist",
    );
}
