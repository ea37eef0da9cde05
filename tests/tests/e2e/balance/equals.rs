//! Three equal servers, one client that asks when it has its answer.

use e2e::raw::{TcpServer, listen, loopback};
use e2e::{Client, Request, Weir};

use super::{answers, named};

/// Says what is wrong unless each of `counts` is between `least` and `most` per cent of all.
fn shares(counts: &[usize], least: usize, most: usize) -> Result<(), String> {
    let all: usize = counts.iter().sum();
    let bounds = all * least / 100..=all * most / 100;
    let even = counts.iter().all(|count| bounds.contains(count));
    even.then_some(()).ok_or_else(|| format!("{counts:?} of {all}"))
}

/// Fails unless `measure` finds equal shares. A busy machine starves one of the servers now and then, which is no equal one
/// then: so it is measured anew, with new servers, five times at most.
#[track_caller]
fn expect_even(measure: impl Fn() -> Result<(), String>) {
    let uneven: Vec<_> = (0..5).map_while(|_| measure().err()).collect();
    assert!(uneven.len() < 5, "{uneven:#?}");
}

#[test]
fn three_equal_servers_share_sequential_requests() {
    expect_even(|| {
        let servers = ["a", "b", "c"].map(named);
        let weir = Weir::serving("hello", &servers.each_ref().map(|it| it.addr()));
        let first = answers(&weir, 600, &["a", "b", "c"]);
        shares(&first, 28, 38)?;
        let rest = answers(&weir, 2400, &["a", "b", "c"]);
        let all: Vec<_> = first.iter().zip(&rest).map(|(first, rest)| first + rest).collect();
        shares(&all, 31, 36)
    });
}

#[test]
fn three_equal_servers_share_sequential_tunnels() {
    // The last word is the server's, or the client's.
    for last_words in ["", "bye"] {
        expect_even(|| {
            let servers = [(); 3].map(|()| TcpServer::echo(listen(loopback()).unwrap()));
            let weir = Weir::serving("hello", &servers.each_ref().map(TcpServer::addr));
            for (tunnels, least, most) in [(600, 28, 38), (2400, 31, 36)] {
                for _ in 0..tunnels {
                    let mut client = connect(&weir);
                    client.send("ping").expect("ping").send(last_words).half_close();
                    client.rest();
                }
                let accepted: Vec<_> = servers.iter().map(TcpServer::accepted).collect();
                shares(&accepted, least, most)?;
            }
            Ok(())
        });
    }
}

fn connect(weir: &Weir) -> Client {
    let mut client = weir.client();
    client.start(&Request::new("CONNECT", "hello:80"));
    assert_eq!(client.head().status(), Some(200));
    client
}
