//! What one client, or one request, may ask of DNS.

use std::fmt::Write as _;
use std::time::Duration;

use e2e::time::within;
use e2e::weir::Builder;
use e2e::{Client, Dns, Pod, Request, Said, eventually};

use super::{Scene, four, scene, scene_with};

/// weir where pods reach it, whose look-ups are under way for a while when nobody answers.
fn patient(weir: Builder, dns: &Dns) -> Builder {
    let names = dns.setting().replace("timeout: 2s", "timeout: 10s");
    weir.set("outgoing", "{ listen: \"[::]:0\" }").set("names", &names)
}

impl Scene {
    /// A client in `pod`.
    fn client_in(&self, pod: &Pod) -> Client {
        let address = (self.net.node().v4(), self.weir.outgoing().port()).into();
        Client::over(pod.connect(address).expect("a connection to weir"))
    }

    fn refused(&self, reason: &str) -> f64 {
        self.weir.metric("weir_dns_lookups_refused_total", &[("reason", reason)])
    }
}

#[test]
fn a_client_whose_names_never_answer_takes_no_other_clients_look_ups() {
    let Some(scene) = scene_with(patient) else { return };
    let _backend = four(&scene.two);
    scene.dns.says_of_others(Said::Silence);
    // More than all the look-ups that there are.
    let mut greedy: Vec<Client> = (0..300)
        .map(|number| {
            let mut client = scene.client_in(&scene.one);
            client.start(&Request::get(&format!("http://never{number}.test/")));
            client
        })
        .collect();
    for number in 0..5 {
        let name = format!("good{number}.test");
        scene.at(&name, &[&scene.two], 60);
        scene.client_in(&scene.two).get(&format!("http://{name}/")).expect_body("two");
    }
    let answers: Vec<_> = greedy.iter_mut().map(Client::response).collect();
    let (refused, asked): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.status == 503);
    assert!(!refused.is_empty() && !asked.is_empty(), "{} refused, {} asked", refused.len(), asked.len());
    for answer in refused {
        assert!(
            answer.l5d_err().contains("share") && answer.get("retry-after").is_some(),
            "{}",
            answer.l5d_err()
        );
    }
    assert!(scene.refused("client") > 0.0);
    assert_eq!(scene.refused("node"), 0.0);
    eventually("its look-ups to be over", || scene.weir.metric("weir_dns_lookups", &[]) == 0.0);
    scene.client_in(&scene.one).get("http://good0.test/").expect_body("two");
}

#[test]
fn a_name_that_many_wait_for_is_asked_for_once() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    let good = Said::Addresses(vec![scene.one.v4()], 60);
    scene.dns.says("slow.test", good.late(Duration::from_millis(500)));
    let mut clients: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = scene.weir.client();
            client.start(&Request::get("http://slow.test/"));
            client
        })
        .collect();
    for client in &mut clients {
        client.response().expect_body("one");
    }
    // A question that is not answered at once is sent again, but not once for each client.
    assert!(scene.dns.questions("slow.test") <= 20, "{}", scene.dns.questions("slow.test"));
    assert_eq!(scene.refused("client") + scene.refused("node"), 0.0);
}

/// A dtab that leads `/svc/x` to `names` outside, one after the other.
fn alternatives(names: &[String]) -> String {
    let mut dtab = String::new();
    for (number, names) in names.chunks(30).enumerate() {
        let places: Vec<String> = names.iter().map(|name| format!("/$/inet/{name}/80")).collect();
        let from = if number == 0 { "/svc/x".to_owned() } else { format!("/e/{number}") };
        let _ = write!(dtab, "{from} => {} | /e/{} ;", places.join(" | "), number + 1);
    }
    dtab
}

#[test]
fn a_request_with_many_alternatives_outside_asks_for_some_of_them() {
    let Some(scene) = scene() else { return };
    let names: Vec<String> = (0..160).map(|number| format!("a{number}.t")).collect();
    let dtab = alternatives(&names);
    assert!((3000..4096).contains(&dtab.len()), "{}", dtab.len());
    let answer = scene.weir.ask(&Request::get("http://x/").with("l5d-dtab", &dtab));
    answer.expect_status(502);
    assert!(answer.text().contains("one request may ask DNS 8 questions"), "{}", answer.text());
    let asked = scene.dns.asked();
    assert_eq!(asked.len(), 8, "{asked:?}");
    assert_eq!(scene.refused("request"), 1.0);
    // A tunnel asks as little.
    let tunnel = scene.weir.ask(&Request::new("CONNECT", "x:80").with("l5d-dtab", &dtab));
    tunnel.expect_status(502);
    assert!(scene.dns.asked().len() <= 16, "{:?}", scene.dns.asked());
}

#[test]
fn the_last_alternative_that_may_be_asked_for_is_found_and_what_is_known_costs_nothing() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    let names: Vec<String> = (0..5).map(|number| format!("a{number}.t")).collect();
    let request = Request::get("http://x/").with("l5d-dtab", &alternatives(&names));
    scene.at("a4.t", &[&scene.one], 60);
    scene.weir.ask(&request).expect_status(502);
    scene.at("a3.t", &[&scene.one], 60);
    let first_four = Request::get("http://x/").with("l5d-dtab", &alternatives(&names[..4]));
    within(Duration::from_secs(40), "what was denied to be forgotten", || {
        scene.weir.ask(&first_four).text() == "one"
    });
    // One that is known, and then an address as it stands, behind four that do not exist.
    let nowhere: Vec<String> = (0..3).map(|number| format!("b{number}.t")).collect();
    let mut known = nowhere.clone();
    known.push("a3.t".into());
    scene.weir.ask(&Request::get("http://x/").with("l5d-dtab", &alternatives(&known))).expect_body("one");
    let mut literal: Vec<String> = (0..4).map(|number| format!("c{number}.t")).collect();
    literal.push(scene.one.v4().to_string());
    scene.weir.ask(&Request::get("http://x/").with("l5d-dtab", &alternatives(&literal))).expect_body("one");
}

/// Each name is one of a table of 30, which two clients use.
#[test]
fn who_asks_for_ever_new_names_makes_weir_forget_none_of_another_clients() {
    // One worker: a name that is kept has its connection there.
    let few =
        |weir: Builder, dns: &Dns| patient(weir, dns).set("limits", "{ outside: 30 }").set("workers", "1");
    let Some(scene) = scene_with(few) else { return };
    let backend = four(&scene.two);
    scene.dns.says_of_others(Said::addresses(&[&scene.two.v4().to_string()], 60));
    let own: Vec<String> = (0..10).map(|number| format!("own{number}.test")).collect();
    let asks = |pod: &Pod, name: &str| {
        scene.client_in(pod).get(&format!("http://{name}/")).expect_body("two");
    };
    own.iter().for_each(|name| asks(&scene.two, name));
    for number in 0..100 {
        asks(&scene.one, &format!("new{number}.test"));
    }
    let before = backend.connections();
    own.iter().for_each(|name| asks(&scene.two, name));
    assert_eq!(backend.connections(), before, "the connections of names that were forgotten are made anew");
    let evicted = scene.weir.metric("weir_outside_evicted_total", &[]);
    assert!(evicted >= 80.0, "{evicted}");
}
