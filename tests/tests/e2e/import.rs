//! `deploy/examples/import`: each file is imported, checked, started and asked, and requests go where linkerd's rules say.

use std::collections::BTreeSet;
use std::path::PathBuf;

use e2e::weir::folder::service;
use e2e::{Backend, Client, Request, Response, Weir};

/// Where a request has to go.
enum Goes<'a> {
    /// To the service of this name.
    To(&'a str),
    /// Nowhere: an answer of weir's own.
    Nowhere(u16),
}

use Goes::{Nowhere, To};

struct Example<'a> {
    file: &'a str,
    /// What standard error has to say, each part on some line.
    warns: &'a [&'a str],
    /// What is asked of it. Nothing where it opens no listener.
    asks: Vec<(Request, Goes<'a>)>,
    /// What is asked of its other routers, by label.
    others: Vec<(&'a str, Request, Goes<'a>)>,
}

fn host(name: &str) -> Request {
    Request::get(&format!("http://{name}/x"))
}

fn several_routers() -> Example<'static> {
    Example {
        file: "several-routers.yaml",
        warns: &[],
        asks: vec![(host("hello"), To("hello")), (host("world"), To("world-v1"))],
        others: vec![
            ("edge", Request::get("http://any/hello/users/7"), To("hello")),
            ("edge", Request::get("http://any/world"), To("world-v2")),
            ("edge", Request::get("http://hello/"), Nowhere(400)),
            ("canary", host("world"), To("world-v2")),
            ("canary", host("hello"), To("hello")),
            ("canary-2", host("world"), To("world-v2")),
            // clearContext at that server alone.
            ("canary", host("x").with("l5d-dtab", "/svc/x => /svc/hello"), To("hello")),
            ("canary-2", host("x").with("l5d-dtab", "/svc/x => /svc/hello"), Nowhere(502)),
        ],
    }
}

fn grpc() -> Example<'static> {
    Example {
        file: "grpc.yaml",
        warns: &[],
        asks: vec![(host("hello"), To("k8s hello"))],
        others: vec![
            ("grpc", Request::get("http://any/helloworld.Greeter/SayHello"), To("k8s hello")),
            ("grpc", Request::get("http://hello/other.Service/SayHello"), Nowhere(502)),
            ("grpc", Request::get("http://hello/"), Nowhere(400)),
        ],
    }
}

fn examples() -> Vec<Example<'static>> {
    let mesh = || {
        vec![
            (host("hello"), To("k8s hello")),
            (host("world"), To("k8s world-v1")),
            (host("missing"), Nowhere(502)),
            (host("hello.default"), Nowhere(502)),
        ]
    };
    let example = |file, warns, asks| Example { file, warns, asks, others: vec![] };
    vec![
        several_routers(),
        example("kismatic-l5d.yaml", &[], mesh()),
        example("daemonset-mesh.yaml", &[], mesh()),
        example("incoming-only.yaml", &["routers: the http and h2 routers are second hops"], vec![]),
        example(
            "namerd.yaml",
            &["routers[0].interpreter: `io.l5d.namerd` kept the dtab", "namerctl dtab get web"],
            vec![(host("hello"), Nowhere(502))],
        ),
        // What namerd kept, by itself.
        example("dtab-object.yaml", &[], vec![(host("hello"), To("hello")), (host("world"), To("world-v1"))]),
        example("dtab-http.json", &[], vec![(host("hello"), To("hello")), (host("world"), To("world-v2"))]),
        example(
            "dtab-text.dtab",
            &[],
            vec![
                (host("world"), To("world-v1")),
                // weir's own base dtab is not there beside it.
                (host("127.0.0.1:8888"), Nowhere(502)),
            ],
        ),
        example(
            "tls-to-services.yaml",
            &["routers[0].client.configs[0].tls: requests to /$/io.buoyant.rinet/443/{host} were encrypted"],
            vec![(host("hello"), To("hello")), (host("elsewhere.test"), Nowhere(502))],
        ),
        example(
            "tls-from-clients.yaml",
            &["routers[0].servers[0].tls: clients had to show a certificate"],
            vec![],
        ),
        example(
            "fs-folders.yaml",
            &[],
            vec![(host("hello"), To("http/hello")), (host("greeter"), To("helloworld.Greeter"))],
        ),
        grpc(),
        example("static.yaml", &[], vec![(host("hello"), To("hello")), (host("missing"), Nowhere(502))]),
        example(
            "canary.yaml",
            &[],
            vec![
                (host("world").with("l5d-dtab", "/svc/world => /#/io.l5d.fs/world-v2"), To("world-v2")),
                (host("web"), To("world-v1")),
                (host("hello"), To("hello")),
            ],
        ),
        example(
            "by-path.yaml",
            &[],
            vec![
                (Request::get("http://any/hello/users/7"), To("hello")),
                (Request::get("http://any/world-v1"), To("world-v1")),
                (Request::get("http://hello/"), Nowhere(400)),
            ],
        ),
        example(
            "by-header.yaml",
            &[],
            vec![
                (host("hello.example.test"), To("hello")),
                (host("any").with("x-service", "world-v1"), To("world-v1")),
                // clearContext: no client chooses.
                (host("hello").with("l5d-dtab", "/svc => /#/io.l5d.fs/world-v1"), To("hello")),
            ],
        ),
        example(
            "consul.yaml",
            &["baseDtab, line 1: no namer has the prefix of /#/io.l5d.consul/dc1"],
            vec![(host("hello"), To("hello"))],
        ),
        example(
            "loopback.yaml",
            &[],
            vec![
                (host("app"), To("hello")),
                (host("hello").with("l5d-dtab", "/svc/hello => /svc/app"), To("hello")),
                (host("hello").with("l5d-dtab", "/svc/hello => /local/8888"), Nowhere(403)),
                (host("127.0.0.1:8888"), Nowhere(502)),
            ],
        ),
        example(
            "misspelt.yaml",
            &["outgoing.dstPrefix: requests' names begin with /http", "did you mean /#/io.l5d.fs?"],
            vec![(host("hello"), Nowhere(502))],
        ),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/import")
}

/// The imported configuration with free ports, a folder of objects in the place of an API server, and `app` in the place
/// of port 8888.
fn on_this_machine(yaml: &str, app: u16) -> String {
    let mut text = String::new();
    for line in yaml.lines() {
        match line.trim_start() {
            listen if listen.starts_with("listen: \"") => {
                text += &line[..line.len() - listen.len()];
                text += "listen: \"127.0.0.1:0\"";
            }
            files if files.starts_with("files: ") => {}
            "kubernetes: {}" => {}
            "discovery:" => {}
            _ => text += line,
        }
        text.push('\n');
    }
    if !yaml.contains("\noutgoing:") {
        text += "outgoing: { listen: \"127.0.0.1:0\" }\n";
    }
    if !yaml.contains("\nadmin:\n") {
        text += "admin: { listen: 127.0.0.1:0 }\n";
    }
    text = text.replace("/8888", &format!("/{app}"));
    text + "discovery: { files: { path: ./services } }\nworkers: 1\n"
}

#[track_caller]
fn check(answer: &Response, goes: &Goes<'_>) {
    match goes {
        To(name) => answer.expect_status(200).expect_body(name),
        Nowhere(status) => answer.expect_status(*status),
    };
}

#[test]
fn every_example_goes_where_linkerd_went_or_says_why_not() {
    let files = ["hello", "world-v1", "world-v2", "http/hello", "helloworld.Greeter"];
    let backends = files.map(|name| (name, Backend::http().answers(name).start()));
    let objects =
        ["hello", "world-v1"].map(|name| (name, Backend::http().answers(&format!("k8s {name}")).start()));
    for example in examples() {
        let mut weir = Weir::new();
        std::fs::create_dir(weir.folder().path().join("services/http")).unwrap();
        for (name, backend) in &backends {
            weir = weir.service(name, &[backend.addr()]);
        }
        for (name, backend) in &objects {
            let (address, port) = (backend.addr().ip(), backend.addr().port());
            weir = weir.kubernetes(&service(name, &[]).port("http", 80, port).endpoints(&[address]));
        }
        let file = folder().join(example.file);
        let imported = weir.run(&["import", file.to_str().unwrap()]);
        assert_eq!(imported.code, Some(0), "{}: {}", example.file, imported.stderr);
        for part in example.warns {
            assert!(imported.stderr.contains(part), "{}: {part}\n{}", example.file, imported.stderr);
        }
        assert_eq!(
            imported.stderr.is_empty(),
            example.warns.is_empty(),
            "{}: {}",
            example.file,
            imported.stderr
        );
        let weir = weir.config(&on_this_machine(&imported.stdout, backends[0].1.addr().port()));
        let checked = weir.run(&["check", "CONFIG"]);
        assert_eq!(checked.code, Some(0), "{}: {}\n{}", example.file, checked.stderr, imported.stdout);
        let opens = !imported.stdout.contains("  listen: none\n");
        assert_eq!(opens, !example.asks.is_empty(), "{}", example.file);
        let weir = weir.start();
        for (request, goes) in &example.asks {
            let answer = weir.ask(request);
            check(&answer, goes);
        }
        for (label, request, goes) in &example.others {
            check(&Client::to(weir.router(label)).ask(request), goes);
        }
    }
}

#[test]
fn every_file_of_the_folder_is_one_of_them() {
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // That one needs an API server (`kube::ingresses`).
    let tested = examples().into_iter().map(|example| example.file).chain(["ingress.yaml"]);
    let tested: BTreeSet<String> = tested.map(str::to_owned).collect();
    assert_eq!(there, tested);
    assert!(tested.len() >= 12);
}

#[test]
fn standard_input_is_imported_as_a_file_is() {
    let (weir, file) = (Weir::new(), folder().join("static.yaml"));
    let piped = weir.run_with(&["import", "-"], &std::fs::read_to_string(&file).unwrap());
    let read = weir.run(&["import", file.to_str().unwrap()]);
    assert_eq!((piped.code, read.code), (Some(0), Some(0)), "{}{}", piped.stderr, read.stderr);
    let first = "# weir's configuration, imported from linkerd's in `standard input`.\n";
    let rest = piped.stdout.strip_prefix(first).unwrap_or_else(|| panic!("{}", piped.stdout));
    assert_eq!(Some(rest), read.stdout.split_once('\n').map(|(_, rest)| rest));
    let template = weir.run_with(&["import", "-"], "routers:\n- { port: {{ .Values.port }} }\n");
    assert_eq!((template.code, template.stdout.as_str()), (Some(78), ""), "{}", template.stderr);
    let said = "standard input:2:11: a template";
    assert!(
        template.stderr.contains(said) && template.stderr.contains("render it first"),
        "{}",
        template.stderr
    );
}

#[test]
fn the_flags_of_an_import_choose_among_several_linkerds_and_let_plain_text_pass() {
    let weir = Weir::new();
    let map = |name: &str, port: u16| {
        format!(
            "---\nkind: ConfigMap\nmetadata: {{ name: {name} }}\ndata:\n  a.yaml: |\n    routers:\n    - {{ protocol: http, \
             dtab: '/svc => /#/io.l5d.fs', servers: [{{ port: {port} }}] }}\n"
        )
    };
    let two = map("one", 1001) + &map("two", 1002);
    for (name, port) in [("one", 1001), ("two", 1002), ("two/a.yaml", 1002)] {
        let exit = weir.run_with(&["import", "-", "--name", name], &two);
        assert!(
            exit.stdout.contains(&format!("\"127.0.0.1:{port}\"")),
            "{name}: {}{}",
            exit.stdout,
            exit.stderr
        );
    }
    let both = weir.run_with(&["import", "-"], &two);
    assert!(both.code == Some(78) && both.stdout.is_empty(), "{}", both.stdout);
    assert!(both.stderr.contains("choose one with --name, of `one/a.yaml`, `two/a.yaml`"), "{}", both.stderr);
    let tls = folder().join("tls-to-services.yaml");
    let of = |more: &[&str]| weir.run(&[&["import", tls.to_str().unwrap()], more].concat());
    let (safe, plain) = (of(&[]), of(&["--plain-text"]));
    let refuses = |text: &str| text.lines().any(|line| !line.starts_with('#') && line.contains("=> !"));
    assert!(refuses(&safe.stdout) && !refuses(&plain.stdout), "{}{}", safe.stdout, plain.stdout);
    assert!(plain.stderr.contains("weir sends them in plain text, as --plain-text says"), "{}", plain.stderr);
}
