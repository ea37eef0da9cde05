//! Three equal servers, one client that asks when it has its answer.

use e2e::raw::{TcpServer, listen, loopback};
use e2e::{Client, Clock, Request, Weir};

use super::{answers, named};

/// Says what is wrong unless each of `counts` is between `least` and `most` per cent of all. On a busy machine one of the servers
/// is starved now and then, which is no equal one then: since `clock` started, each still has its part. That equal ones are
/// equal is for the simulator to show (`domain/sim/tests/equals.rs`).
fn shares(clock: Clock, counts: &[usize], least: usize, most: usize) -> Result<(), String> {
    let (least, most) = if clock.was_busy() { (5, 75) } else { (least, most) };
    let all: usize = counts.iter().sum();
    let bounds = all * least / 100..=all * most / 100;
    let even = counts.iter().all(|count| bounds.contains(count));
    even.then_some(()).ok_or_else(|| format!("{counts:?} of {all}"))
}

/// Fails unless `measure` finds equal shares, anew with new servers, in one of five times: what passes in a moment on a machine
/// that is not busy may spoil some of them.
#[track_caller]
fn expect_even(measure: impl Fn(Clock) -> Result<(), String>) {
    let uneven: Vec<_> = (0..5).map_while(|_| measure(Clock::start()).err()).collect();
    assert!(uneven.len() < 5, "{uneven:#?}");
}

#[test]
fn three_equal_servers_share_sequential_requests() {
    expect_even(|clock| {
        let servers = ["a", "b", "c"].map(named);
        let weir = Weir::serving("hello", &servers.each_ref().map(|it| it.addr()));
        let first = answers(&weir, 600, &["a", "b", "c"]);
        shares(clock, &first, 28, 38)?;
        let rest = answers(&weir, 2400, &["a", "b", "c"]);
        let all: Vec<_> = first.iter().zip(&rest).map(|(first, rest)| first + rest).collect();
        shares(clock, &all, 31, 36)
    });
}

#[test]
fn three_equal_servers_share_sequential_tunnels() {
    // The last word is the server's, or the client's.
    for last_words in ["", "bye"] {
        expect_even(|clock| {
            let servers = [(); 3].map(|()| TcpServer::echo(listen(loopback()).unwrap()));
            let weir = Weir::serving("hello", &servers.each_ref().map(TcpServer::addr));
            for (tunnels, least, most) in [(600, 28, 38), (2400, 31, 36)] {
                for _ in 0..tunnels {
                    let mut client = connect(&weir);
                    client.send("ping").expect("ping").send(last_words).half_close();
                    client.rest();
                }
                let accepted: Vec<_> = servers.iter().map(TcpServer::accepted).collect();
                shares(clock, &accepted, least, most)?;
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
