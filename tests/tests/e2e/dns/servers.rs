//! More than one name server.

use e2e::dns::{By, setting_of};
use e2e::net::is_root;
use e2e::{Dns, Net, Said, Weir};

use super::four;

/// What one of two servers does with every question, its answer being `good` if it gives one.
type Habit = fn(&Dns, good: Said);

const TRUNCATES: Habit = |dns, good| {
    let Said::Addresses(addresses, ttl) = good else { unreachable!() };
    dns.says_of_others(Said::Truncated(addresses, ttl));
};
const ANSWERS: Habit = Dns::says_of_others;
const FAILS: Habit = |dns, _| dns.says_of_others(Said::Failure);
const IS_SILENT: Habit = |dns, _| dns.says_of_others(Said::Silence);

#[test]
fn two_servers_give_an_answer_whichever_of_them_can() {
    if !is_root() {
        return;
    }
    let habits = [("truncates", TRUNCATES), ("answers", ANSWERS), ("fails", FAILS), ("is silent", IS_SILENT)];
    let mut net = Net::new();
    let pod = net.pod("one");
    let _backend = four(&pod);
    let mut wrong = Vec::new();
    for (first, one) in habits {
        for (second, two) in habits {
            if matches!(first, "fails" | "is silent") && matches!(second, "fails" | "is silent") {
                continue;
            }
            let servers = [one, two].map(|habit| {
                let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
                habit(&dns, Said::Addresses(vec![pod.v4()], 60));
                dns
            });
            let weir =
                Weir::new().beside(&net).set("names", &setting_of(&[&servers[0], &servers[1]])).start();
            // The second name is asked of whoever answered the first.
            for name in ["long", "longer"] {
                let answer = weir.get(&format!("http://{name}.test/"));
                if answer.text() != "one" {
                    wrong.push(format!("{first}, {second}: {name}: {}", answer.text()));
                }
            }
            let asked = || servers.iter().flat_map(Dns::asked);
            if first == "truncates" && second == "truncates" && !asked().any(|it| it.by == By::Tcp) {
                wrong.push(format!("nobody was asked by TCP: {:?}", asked().collect::<Vec<_>>()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_truncated_answer_that_cannot_be_had_by_tcp_is_had_from_the_next_server() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let pod = net.pod("one");
    let _backend = four(&pod);
    let start = || Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
    let servers = [start().without_tcp(), start()];
    for dns in &servers {
        dns.says_of_others(Said::Truncated(vec![pod.v4()], 60));
    }
    let weir = Weir::new().beside(&net).set("names", &setting_of(&[&servers[0], &servers[1]])).start();
    weir.get("http://long.test/").expect_body("one");
    assert!(servers[1].asked().iter().any(|it| it.by == By::Tcp), "{:?}", servers[1].asked());
}

#[test]
fn a_server_that_answers_is_asked_alone() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let pod = net.pod("one");
    let _backend = four(&pod);
    let start = || Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
    let servers = [start(), start()];
    servers[0].says_of_others(Said::Silence);
    servers[1].says_of_others(Said::Addresses(vec![pod.v4()], 60));
    let weir = Weir::new().beside(&net).set("names", &setting_of(&[&servers[0], &servers[1]])).start();
    weir.get("http://first.test/").expect_body("one");
    let before = servers[0].questions("second.test");
    weir.get("http://second.test/").expect_body("one");
    assert_eq!((before, servers[0].questions("second.test")), (0, 0), "the silent one is asked no more");
}
