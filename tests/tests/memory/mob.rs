//! Many pods of one namespace that take what they get, beside one of another that needs more than a small part: shares are
//! first by namespace.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use e2e::raw::TcpServer;
use e2e::{Weir, eventually, folder, raw};

use super::budget::{assert_harmless, is_resisted};
use super::moving::{SPAN, drip, honest_during, slow};
use super::{Attack, Attacker, limited};

/// How many attack.
const MOB: u8 = 50;

/// How many requests the honest pod has under way: about 5 % of the budget.
const TOGETHER: usize = 40;

/// The address of the pod of this number; those of the mob begin at 1, and 0 is the honest one.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, 100 + number).into()
}

/// A pod of this namespace at the address of this number.
fn pod(number: u8, namespace: &str) -> folder::Pod {
    let name = format!("pod-{number}");
    folder::pod(&name, &format!("uid-{number}")).namespace(namespace).at(address(number))
}

/// Waits until weir knows that pod.
#[track_caller]
fn until_known(weir: &Weir, number: u8, name: &str) {
    eventually("the pods", || {
        let _one = raw::connect_as(address(number), weir.outgoing()).unwrap();
        weir.state()["listeners"].to_string().contains(name)
    });
}

#[test]
fn beside_fifty_pods_that_take_what_they_get_a_larger_one_loses_nothing() {
    // Six tunnels of each, whose buffers grow to half a MiB: more than twice what there is.
    let attack = Attack { most: 6 * usize::from(MOB), at_once: 30, pause: Duration::from_millis(20) };
    let (slow, echo) = (slow(), TcpServer::echo(raw::listen(raw::loopback()).unwrap()));
    let builder = Weir::new()
        .service("slow", &[slow.addr()])
        .service("echo", &[echo.addr()])
        .set("limits", "{ copyBuffer: 256KiB }");
    let all = (1..=MOB).map(|number| pod(number, "mob")).chain([pod(0, "shop")]);
    let Some(mut weir) = limited(all.fold(builder, |builder, it| builder.pod(&it)), 64) else { return };
    until_known(&weir, 0, "shop/pod-0");
    until_known(&weir, 1, "mob/pod-1");
    let (to, mut turns) = (weir.outgoing(), (1..=MOB).cycle());
    let told = honest_during(&weir, (address(0), TOGETHER), SPAN, is_resisted, |over| {
        drip(&attack, over, || Attacker::from(address(turns.next().unwrap_or(1)), to));
    });
    assert_harmless(&mut weir, told);
}
