//! What is diverted follows Services that come, change and go, by what differs.

use super::{Stage, TARGET, V4, until_diverted};
use e2e::{Weir, eventually, folder};

fn owner(name: &str, stage: &Stage) -> folder::Service {
    folder::service(name, &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()])
}

#[test]
fn an_address_is_diverted_as_long_as_any_service_that_may_be_has_it() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let system = owner("aaa-first", &stage).namespace("kube-system");
    let (one, other) = (owner("one", &stage), owner("other", &stage));
    stage.start(Weir::new().on_node(&stage.net).kubernetes(&system).kubernetes(&one));
    until_diverted(&stage);
    stage.weir().folder().kubernetes(&other);
    eventually("the other", || stage.weir().get("http://other/").status == 200);
    stage.weir().folder().remove("one.default.yaml");
    eventually("the end of the one", || stage.weir().get("http://one/").status == 502);
    for _ in 0..10 {
        assert_eq!(stage.get(V4), "a");
    }
    stage.weir().folder().remove("other.default.yaml");
    eventually("the end of diversion", || stage.get(V4) == "direct");
    assert_eq!(stage.weir().metric("weir_interception_destinations", &[]), 0.0);
    stage.weir().folder().kubernetes(&one);
    until_diverted(&stage);
}

#[test]
fn a_port_more_is_diverted_and_a_port_less_is_not() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let _beyond = stage.greets_beyond("10.96.0.10:81", "direct");
    let before = stage.diverted();
    stage.dial("10.96.0.10:81").expect("direct");
    assert_eq!(stage.diverted(), before);
    let more = stage.hello().port("more", 81, TARGET);
    stage.weir().folder().kubernetes(&more);
    eventually("its diversion", || {
        let Ok(stream) = stage.client.connect(super::address("10.96.0.10:81")) else { return false };
        drop(stream);
        stage.diverted() > before
    });
    let hello = stage.hello();
    stage.weir().folder().kubernetes(&hello);
    eventually("its end", || {
        let before = stage.diverted();
        stage.dial("10.96.0.10:81").expect("direct");
        stage.diverted() == before
    });
}

#[test]
fn a_diverted_client_keeps_its_endpoint_where_the_service_says_so() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    let sticky = stage.hello().yaml().replace("\n  ports:\n", "\n  sessionAffinity: ClientIP\n  ports:\n");
    assert!(sticky.contains("ClientIP"), "{sticky}");
    stage.start(Weir::new().on_node(&stage.net).file("hello.yaml", &sticky));
    eventually("diversion", || stage.client.connect(super::address(V4)).is_ok());
    let first = stage.get(V4);
    for _ in 0..20 {
        assert_eq!(stage.get(V4), first);
    }
}
