//! weir is shared by all pods of a node: what one of them takes is no other one's loss.

mod breakers; // Endpoints that one client finds bad.
mod connections; // The connections of a listener.

use std::net::{IpAddr, Ipv4Addr, TcpStream};

use e2e::raw::connect_as;
use e2e::weir::builder::Builder;
use e2e::{Client, Weir, eventually, folder};

/// Address number `number` of this machine, which a pod of this namespace is said to have.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, number).into()
}

/// Pods of these namespaces, at the addresses from 1 on.
fn with_pods(builder: Builder, namespaces: &[&str]) -> Builder {
    (1_u8..).zip(namespaces).fold(builder, |builder, (number, namespace)| {
        let name = format!("pod-{number}");
        builder.pod(&folder::pod(&name, &format!("uid-{number}")).namespace(namespace).at(address(number)))
    })
}

/// A connection to the explicit proxy from address `number`.
fn connect(weir: &Weir, number: u8) -> TcpStream {
    connect_as(address(number), weir.outgoing()).unwrap()
}

fn client(weir: &Weir, number: u8) -> Client {
    Client::over(connect(weir, number))
}

/// Waits until weir knows the pod at address `number` by this name: pods are told a moment after the start.
#[track_caller]
fn until_known(weir: &Weir, number: u8, name: &str) {
    eventually("the pods", || {
        let _one = connect(weir, number);
        share(weir, "outgoing", name).is_some()
    });
    eventually("an end of that connection", || share(weir, "outgoing", name).is_none());
}

/// What the state says of the connections of `client`: how many are open, how many wait, and its share.
fn share(weir: &Weir, listener: &str, client: &str) -> Option<(u64, u64, u64)> {
    let state = weir.state();
    let of_listener = state["listeners"].as_array()?.iter().find(|it| it["listener"] == listener)?;
    let share = of_listener["shares"].as_array()?.iter().find(|it| it["client"] == client)?;
    Some((share["open"].as_u64()?, share["waiting"].as_u64()?, share["share"].as_u64()?))
}
