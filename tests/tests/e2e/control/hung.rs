//! A worker that stands still: weir is not ready, says so, and recovers. Interception has no part in it.

use std::time::Duration;

use e2e::hung::Hung;
use e2e::time::within;
use e2e::{Weir, eventually};

#[test]
fn a_hung_worker_ends_readiness_and_one_that_goes_on_brings_it_back() {
    let weir = Weir::new().start();
    weir.admin_get("/ready").expect_status(200);
    let hung = Hung::thread(weir.workers()[0]);
    within(Duration::from_millis(3500), "its end", || weir.admin_get("/ready").status == 503);
    let said = weir.admin_get("/ready").text();
    assert!(said.contains("workers: a worker has not moved"), "{said}");
    drop(hung);
    eventually("its return", || weir.admin_get("/ready").status == 200);
}
