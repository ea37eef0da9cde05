//! No endpoint at all: which status says what, and how quickly.

use std::time::Duration;

use e2e::raw::Refusing;
use e2e::{Clock, Request, Weir};

#[test]
fn when_every_endpoint_is_dead_the_client_hears_it_at_once() {
    let dead = [(); 3].map(|()| Refusing::new());
    let weir = Weir::serving("hello", &dead.each_ref().map(Refusing::addr));
    for _ in 0..20 {
        let begun = Clock::start();
        let answer = weir.get("http://hello/");
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
        assert!(!answer.l5d_err().is_empty());
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_service_without_endpoints_is_503_with_retry_after() {
    let weir = Weir::new().file("empty", "# nothing yet\n").start();
    let answer = weir.get("http://empty/");
    answer.expect_status(503);
    assert!(answer.get("retry-after").is_some_and(|v| v.parse::<u32>().is_ok()), "{:?}", answer.head);
    assert!(answer.l5d_err().contains("empty"), "{:?}", answer.l5d_err());
}

#[test]
fn an_unknown_name_is_502_and_the_answer_names_it() {
    let weir = Weir::new().start();
    for (name, said) in [("nowhere", "nowhere"), ("nowhere.shop.svc.cluster.local:8080", "nowhere.shop:8080")]
    {
        let answer = weir.get(&format!("http://{name}/"));
        answer.expect_status(502);
        assert!(answer.l5d_err().contains(said), "{:?}", answer.l5d_err());
        assert!(answer.text().contains(said), "the body says it too: {:?}", answer.text());
    }
}

#[test]
fn weirs_own_answers_keep_the_connection_and_say_via() {
    let weir = Weir::new().start();
    let mut client = weir.client();
    for _ in 0..3 {
        let answer = client.get("http://nowhere/");
        answer.expect_status(502);
        assert_eq!(answer.get("via"), Some("1.1 weir"));
    }
}

#[test]
fn weirs_own_answer_to_head_has_no_body() {
    let weir = Weir::new().start();
    let mut client = weir.client();
    client.ask(&Request::new("HEAD", "http://nowhere/")).expect_status(502);
    client.get("http://nowhere/").expect_status(502);
}

#[test]
fn faults_are_counted_by_their_kind() {
    let weir = Weir::new().file("empty", "").start();
    let unbound = weir.faults("unbound");
    let no_endpoint = weir.faults("no_endpoint");
    weir.get("http://nowhere/").expect_status(502);
    weir.get("http://empty/").expect_status(503);
    weir.get("http://empty/").expect_status(503);
    assert_eq!((weir.faults("unbound") - unbound, weir.faults("no_endpoint") - no_endpoint), (1.0, 2.0));
}
