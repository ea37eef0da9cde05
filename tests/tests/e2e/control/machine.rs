//! The machine around weir has a bad day: what that costs stays where it is, and no pod's traffic.

use std::net::TcpStream;

use e2e::Weir;

fn crowd(address: std::net::SocketAddr, size: usize) -> Vec<TcpStream> {
    (0..size).map(|_| TcpStream::connect(address).unwrap()).collect()
}

#[test]
fn a_crowd_that_asks_nothing_keeps_neither_kubelet_nor_an_operator_out() {
    let weir = Weir::new().start();
    for listener in [weir.probes(), weir.admin()] {
        // Each 64 of them would hold the listener for ten seconds.
        let crowd = crowd(listener, 320);
        weir.get_from(listener, "/live").expect_status(200);
        drop(crowd);
    }
}
