//! The host that a request names decides where it goes, wherever its field stands and whatever stands beside it.

use e2e::{Backend, Client, Weir};

/// Fields beside Host: those that weir appends to, removes and rewrites, with a value that names another service.
const BESIDE: [[&str; 4]; 7] = [
    ["Via: 1.0 other", "X-A: decoy", "Accept: */*", "X-B: decoy"],
    ["Via: 1.0 other", "Via: 1.1 another", "X-A: decoy", "X-A: decoy"],
    ["Connection: x-b, host, keep-alive", "X-B: decoy", "X-A: decoy", "Via: 1.0 other"],
    ["Connection: te", "TE: trailers", "X-A: decoy", "Keep-Alive: decoy"],
    ["l5d-dst-service: decoy", "X-A: decoy", "l5d-dtab: /svc/decoy => /svc/other", "Via: 1.0 other"],
    ["Connection: upgrade", "Upgrade: decoy", "Max-Forwards: 3", "X-A: decoy"],
    ["Content-Length: 0", "Proxy-Authorization: decoy", "X-Forwarded-Host: decoy", "X-A: decoy"],
];

struct Services {
    weir: Weir,
    right: Backend,
    decoy: Backend,
}

fn services() -> Services {
    let (right, decoy) = (Backend::http().answers("right").start(), Backend::http().answers("decoy").start());
    let weir = Weir::new().service("right", &[right.addr()]).service("decoy", &[decoy.addr()]).start();
    Services { weir, right, decoy }
}

fn ask(client: &mut Client, target: &str, fields: &[&str]) -> e2e::Response {
    client.send(format!("GET {target} HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n"))).response()
}

#[test]
fn the_host_decides_in_every_order_of_fields() {
    let Services { weir, right, decoy } = services();
    let mut client = weir.client();
    for beside in BESIDE {
        for (target, host) in [("/", "Host: right"), ("http://right/", "Host: decoy")] {
            let [a, b, c, d] = beside;
            for fields in orders(&[host, a, b, c, d]) {
                let answer = ask(&mut client, target, &fields);
                assert_eq!((answer.status, answer.text().as_str()), (200, "right"), "{target} {fields:?}");
            }
        }
    }
    assert_eq!(decoy.connections(), 0);
    let wrong = right.requests().into_iter().find(|it| it.head.all("host") != ["right"]);
    assert!(wrong.is_none(), "{wrong:?}");
}

#[test]
fn a_host_that_is_no_service_is_not_replaced_by_another_field() {
    let Services { weir, right, decoy } = services();
    let mut client = weir.client();
    for beside in BESIDE {
        let [a, b, c, d] = beside;
        for fields in orders(&["Host: nowhere", a, b, c, d]) {
            assert_eq!(ask(&mut client, "/", &fields).status, 502, "{fields:?}");
        }
    }
    assert_eq!(right.connections() + decoy.connections(), 0);
}

#[test]
fn a_second_host_is_refused_wherever_it_stands() {
    let Services { weir, right, decoy } = services();
    for fields in orders(&["Host: right", "Via: 1.0 other", "X-A: decoy", "Host: decoy"]) {
        assert_eq!(ask(&mut weir.client(), "/", &fields).status, 400, "{fields:?}");
    }
    assert_eq!(right.connections() + decoy.connections(), 0);
}

/// Every order of `fields`.
fn orders<'a>(fields: &[&'a str]) -> Vec<Vec<&'a str>> {
    if fields.is_empty() {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for (at, first) in fields.iter().enumerate() {
        let mut others = fields.to_vec();
        others.remove(at);
        for mut rest in self::orders(&others) {
            rest.insert(0, first);
            orders.push(rest);
        }
    }
    orders
}
