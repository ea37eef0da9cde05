//! A service with very many endpoints costs what its endpoints cost, once: also when it is called.

use std::net::SocketAddr;

use e2e::{Backend, Weir, eventually};

use super::{MIB, ask, limited};

const MANY: u32 = 300_000;

#[test]
fn a_service_of_three_hundred_thousand_endpoints_costs_them_once() {
    let backend = Backend::http().start();
    // Nobody listens at these.
    let endpoints: Vec<SocketAddr> =
        (0..MANY).map(|it| ((0x7f_10_00_00 | it).to_be_bytes(), 9).into()).collect();
    let builder = Weir::new().service("hello", &[backend.addr()]).service("many", &endpoints);
    let Some(weir) = limited(builder, 256) else { return };
    weir.get("http://hello/").expect_body("ok");
    let listed = weir.anonymous();
    assert!(listed <= 100 * MIB, "{listed} bytes");
    ask(&weir, 20);
    // Of an endpoint that was not asked, nothing is known but its address.
    eventually("memory to be given back", || weir.anonymous() <= listed + 64 * MIB);
    let metrics = weir.metrics();
    let rows = metrics.iter().filter(|it| it.name == "weir_endpoint_requests_total").count();
    assert!((20..10_000).contains(&rows), "{rows} rows");
    weir.get("http://hello/").expect_body("ok");
}
