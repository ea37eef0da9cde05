//! Services without an endpoint: connect() says so, as it does without weir.

use std::io::ErrorKind;

use super::{MAPPED, Stage, TARGET, V4, V6, address};
use e2e::weir::builder::Builder;
use e2e::{Backend, Net, Weir, eventually, folder};

/// Service `hello` with a port of no known protocol and one of HTTP.
fn hello(stage: &Stage, endpoints: bool) -> folder::Service {
    let service = folder::service("hello", &["10.96.0.10", "fd00:96::10"]).port("any", 80, TARGET);
    if endpoints { service.endpoints(&[stage.a.v4(), stage.a.v6()]) } else { service }
}

fn is_refused(stage: &Stage, to: &str) -> bool {
    stage.client.connect(address(to)).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn connect_to_a_service_without_an_endpoint_is_refused_until_it_has_one() {
    refused_until_served(Builder::on_node);
}

#[test]
fn so_it_is_with_weirs_sockets_in_the_pods() {
    refused_until_served(Builder::in_pods);
}

fn refused_until_served(how: impl FnOnce(Builder, &Net) -> Builder) {
    let Some(mut stage) = Stage::set() else { return };
    let _direct = stage.direct();
    let web = folder::service("web", &["10.96.0.11"]).port("web", 80, TARGET).app_protocol("http");
    let empty = hello(&stage, false);
    stage.start(how(Weir::new(), &stage.net).kubernetes(&empty).kubernetes(&web));
    for to in [V4, V6, MAPPED] {
        eventually(&format!("{to} to refuse"), || is_refused(&stage, to));
    }
    assert!(stage.weir().decisions("refused_no_endpoint") >= 3.0);
    assert_eq!(stage.weir().metric("weir_interception_refused", &[]), 2.0);
    // Where HTTP is spoken for certain, an answer says why.
    let answer = stage.dial("10.96.0.11:80").get("/");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text().contains("no endpoint"), "{}", answer.text());
    // A socket that was refused is as good as new.
    let _backend = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
    let full = hello(&stage, true);
    stage.weir().folder().kubernetes(&full);
    eventually("a diverted answer", || !is_refused(&stage, V4) && stage.get(V4) == "a");
    stage.weir().folder().kubernetes(&empty);
    eventually("no endpoint again", || is_refused(&stage, V4));
    // Without weir, whoever serves the address decides.
    drop(stage.take_weir());
    assert_eq!(stage.get(V4), "direct");
}

#[test]
fn what_is_configured_to_be_diverted_is_not_refused() {
    let Some(mut stage) = Stage::set() else { return };
    let empty = hello(&stage, false);
    let weir = Weir::new().on_node(&stage.net).set_in("transparent", "divert", "[10.96.0.0/16]");
    stage.start(weir.kubernetes(&empty));
    eventually("an answer of weir's own", || {
        let Ok(stream) = stage.client.connect(address(V4)) else { return false };
        e2e::Client::over(stream).get("/").status == 503
    });
}
