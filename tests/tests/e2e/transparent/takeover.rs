//! Another weir, with other settings, takes over while connections are made all the time.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Stage, V4, V6, dialler, until_diverted};
use e2e::load::Reuse;
use e2e::net::{NODE_V4, NODE_V6};
use e2e::{Load, Request, Weir};

/// A weir beside the one that is there: on other ports, and with these settings.
fn another(stage: &Stage, settings: &str) -> Weir {
    let transparent = format!(
        "{{ sockets: node, addresses: [{NODE_V4}, \"{NODE_V6}\"], cgroup: {}, required: true, {settings} }}",
        stage.net.pods_cgroup().display()
    );
    let builder = Weir::new().on_node(&stage.net).kubernetes(&stage.hello());
    let weir =
        builder.set("outgoing", "{ listen: \"127.0.0.1:0\" }").set("transparent", &transparent).start();
    let ready = weir.admin_get("/ready");
    assert_eq!(ready.status, 200, "{}\n{}", ready.text(), weir.log());
    weir
}

#[test]
fn no_connection_fails_or_goes_past_weir_when_another_takes_over() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let loads = [V4, V6].map(|to| Load::start(2, Reuse::Never, &get, dialler(&stage.client, to)));
    let mut current = stage.take_weir();
    for settings in [
        "listen: \"[::]:4152\", ports: 2",
        "listen: \"[::]:4142\", ports: 8, fail: closed, divert: [10.96.0.0/16, \"fd00:96::/64\"]",
    ] {
        let next = another(&stage, settings);
        for load in &loads {
            load.answered(50);
        }
        assert_eq!(next.decisions("diverted"), 0.0, "who came first has the connections");
        current.signal(Signal::SIGTERM);
        assert_eq!(current.wait(Duration::from_secs(20)).code(), Some(0));
        for load in &loads {
            load.answered(50);
        }
        assert!(next.decisions("diverted") >= 100.0);
        current = next;
    }
    for load in loads {
        let tally = load.stop();
        tally.expect_no_failure();
        assert_eq!(tally.from("direct"), 0, "{tally:?}");
    }
    assert_eq!(current.turned_away("transparent", "no_original"), 0.0);
}
