//! Three equal servers, one client that asks when it has its answer.

use e2e::raw::{TcpServer, listen, loopback};
use e2e::{Client, Request, Weir};

use super::{answers, named};

/// Fails unless each of `counts` is between `least` and `most` per cent of all.
#[track_caller]
fn expect_shares(counts: &[usize], least: usize, most: usize) {
    let all: usize = counts.iter().sum();
    let bounds = all * least / 100..=all * most / 100;
    assert!(counts.iter().all(|count| bounds.contains(count)), "{counts:?} of {all}");
}

#[test]
fn three_equal_servers_share_sequential_requests() {
    let servers = ["a", "b", "c"].map(named);
    let weir = Weir::serving("hello", &servers.each_ref().map(|it| it.addr()));
    let first = answers(&weir, 600, &["a", "b", "c"]);
    expect_shares(&first, 28, 38);
    let rest = answers(&weir, 2400, &["a", "b", "c"]);
    let all: Vec<_> = first.iter().zip(&rest).map(|(first, rest)| first + rest).collect();
    expect_shares(&all, 31, 36);
}

#[test]
fn three_equal_servers_share_sequential_tunnels() {
    // The last word is the server's, or the client's.
    for last_words in ["", "bye"] {
        let servers = [(); 3].map(|()| TcpServer::echo(listen(loopback()).unwrap()));
        let weir = Weir::serving("hello", &servers.each_ref().map(TcpServer::addr));
        let mut before = vec![0; 3];
        for (tunnels, least, most) in [(600, 28, 38), (2400, 31, 36)] {
            for _ in 0..tunnels {
                let mut client = connect(&weir);
                client.send("ping").expect("ping").send(last_words).half_close();
                client.rest();
            }
            before = servers.iter().map(TcpServer::accepted).collect();
            expect_shares(&before, least, most);
        }
        assert_eq!(before.iter().sum::<usize>(), 3000);
    }
}

fn connect(weir: &Weir) -> Client {
    let mut client = weir.client();
    client.start(&Request::new("CONNECT", "hello:80"));
    assert_eq!(client.head().status(), Some(200));
    client
}
