//! Checks that no two listeners use the same port.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::Outgoing;
use super::fields::Report;
use super::problem::Mistake;
use super::settings::Settings;
use super::tree::{Node, Position, Value};

struct Listener {
    /// What it is called in a mistake of another.
    name: String,
    /// The keys of its address.
    path: String,
    address: SocketAddr,
    ports: u16,
    /// Its position in the file; none for a default.
    at: Option<Position>,
}

impl Listener {
    fn ports(&self) -> RangeInclusive<u16> {
        self.address.port()..=self.address.port().saturating_add(self.ports - 1)
    }

    /// The first port that both would use. Port 0 means any free port.
    fn collides(&self, other: &Self) -> Option<u16> {
        let (ours, theirs) = (self.address.ip().to_canonical(), other.address.ip().to_canonical());
        // The system refuses to bind part of what another listener has bound. `[::]` includes IPv4.
        let includes = |all: IpAddr, one: IpAddr| {
            all == one || (all.is_unspecified() && (all.is_ipv6() || one.is_ipv4()))
        };
        let same = includes(ours, theirs) || includes(theirs, ours);
        self.ports().find(|port| *port != 0 && same && other.ports().contains(port))
    }
}

/// Reports every listener that uses a port of an earlier one.
pub(super) fn check(settings: &Settings, root: &Node, report: &mut Report) {
    let listeners = listeners(settings, root);
    for (index, later) in listeners.iter().enumerate() {
        for earlier in &listeners[..index] {
            let Some(port) = later.collides(earlier) else { continue };
            let (blamed, other) = if later.at.is_some() { (later, earlier) } else { (earlier, later) };
            let Some(at) = blamed.at else { continue };
            let mistake =
                Mistake::new(format!("port {port} is also taken by {}, {}", other.name, range(other)))
                    .hint("give each listener ports of its own");
            report.add(at, blamed.path.clone(), mistake);
        }
    }
}

fn listeners(settings: &Settings, root: &Node) -> Vec<Listener> {
    let listener = |name: &str, address, ports| Listener {
        name: name.to_owned(),
        path: format!("{name}.listen"),
        address,
        ports,
        at: root.get(name).map(place),
    };
    let mut listeners = Vec::new();
    match root.get("outgoing") {
        Some(Node { value: Value::List(routers), .. }) => {
            for (number, (router, node)) in settings.all_routers().zip(routers).enumerate() {
                listeners.extend(of_router(format!("outgoing[{number}]"), router, Some(node)));
            }
        }
        node => listeners.extend(of_router("outgoing".to_owned(), &settings.outgoing, node)),
    }
    if let Some(transparent) = &settings.transparent {
        listeners.push(listener("transparent", transparent.listen, transparent.ports));
    }
    listeners.push(listener("admin", settings.admin.listen, 1));
    if let Some(probes) = &settings.probes {
        listeners.push(listener("probes", probes.listen, 1));
    }
    listeners
}

/// The place of a section's `listen`.
fn place(section: &Node) -> Position {
    section.get("listen").map_or(section.at, |listen| listen.at)
}

/// The addresses of a router, whose keys are `name`.
fn of_router(name: String, router: &Outgoing, node: Option<&Node>) -> Vec<Listener> {
    let items = match node.and_then(|node| node.get("listen")).map(|listen| &listen.value) {
        Some(Value::List(items)) => items.as_slice(),
        _ => &[],
    };
    let listener = |(number, &address): (usize, &SocketAddr)| match items.get(number) {
        Some(item) => {
            let name = format!("{name}.listen[{number}]");
            Listener { path: name.clone(), name, address, ports: 1, at: Some(item.at) }
        }
        None => Listener {
            path: format!("{name}.listen"),
            name: name.clone(),
            address,
            ports: 1,
            at: node.map(place),
        },
    };
    router.listen.iter().enumerate().map(listener).collect()
}

fn range(listener: &Listener) -> String {
    let ports = listener.ports();
    if ports.start() == ports.end() {
        listener.address.to_string()
    } else {
        format!("{} to {}", listener.address, ports.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_collide_if_the_system_would_not_bind_both() {
        for (one, other, collide) in [
            ("0.0.0.0:4140", "[::1]:4140", false),
            ("0.0.0.0:4140", "127.0.0.1:4140", true),
            ("0.0.0.0:4140", "[::]:4140", true),
            ("[::]:4140", "127.0.0.1:4140", true),
            ("[::]:4140", "[::1]:4140", true),
            ("127.0.0.1:4140", "[::1]:4140", false),
            ("127.0.0.1:4140", "[::ffff:127.0.0.1]:4140", true),
            ("127.0.0.1:4140", "127.0.0.1:4141", false),
            ("[::]:0", "[::]:0", false),
        ] {
            let of = |address: &str| Listener {
                name: String::new(),
                path: String::new(),
                address: address.parse().unwrap(),
                ports: 1,
                at: None,
            };
            assert_eq!(of(one).collides(&of(other)).is_some(), collide, "{one} {other}");
            assert_eq!(of(other).collides(&of(one)).is_some(), collide, "{other} {one}");
        }
    }
}
