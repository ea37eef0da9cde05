//! linkerd's listeners: a router's servers, and admin.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::carried::{Carried, Listen, Router};
use super::notes::Notes;
use super::part::{Field, Part};
use super::router::Generation;
use super::{Options, reasons, tls};
use crate::config::{MOST_ADDRESSES, Mistake, quoted};

/// The default port of an `http` router.
pub(super) const HTTP: u16 = 4140;
/// The default port of an `h2` router.
const H2: u16 = 4142;
const ADMIN: u16 = 9990;

/// The default port of a router of this protocol.
pub(super) fn port(protocol: Option<&str>) -> u16 {
    if protocol == Some("h2") { H2 } else { HTTP }
}

/// The router's servers: those with the same settings become one router of weir's, the others one each.
pub(super) fn read_servers(
    servers: Option<&Field<'_>>,
    default: u16,
    options: Options<'_>,
    carried: &Router,
    notes: &mut Notes<'_>,
) -> Vec<Router> {
    let servers = servers.map(Field::items).unwrap_or_default();
    let read = |(at, server): (usize, &Field<'_>)| {
        let server = Part::open(server, notes);
        // One that is no section is noted; the first is a server in any case.
        (server.is_some() || at == 0).then(|| read_server(server, default, options, carried.clone(), notes))
    };
    let mut all: Vec<Router> = servers.iter().enumerate().filter_map(read).collect();
    if all.is_empty() {
        all.push(read_server(None, default, options, carried.clone(), notes));
    }
    let mut all = together(all);
    for (at, router) in all.iter_mut().enumerate().skip(1) {
        router.label = format!("{}-{}", router.label, at + 1);
    }
    all
}

/// Routers that differ in nothing but their addresses are one, with as many as one may have.
fn together(all: Vec<Router>) -> Vec<Router> {
    let mut different: Vec<Router> = Vec::new();
    for mut router in all {
        let listen = std::mem::take(&mut router.listen);
        let is_same = |it: &&mut Router| {
            matches!(&it.listen, Listen::At(addresses) if addresses.len() < MOST_ADDRESSES)
                && Router { listen: Listen::Default, ..(**it).clone() } == router
        };
        match (different.iter_mut().find(is_same), listen) {
            (Some(Router { listen: Listen::At(addresses), .. }), Listen::At(more)) => addresses.extend(more),
            (_, listen) => different.push(Router { listen, ..router }),
        }
    }
    different
}

fn read_server(
    server: Option<Part<'_>>,
    default: u16,
    options: Options<'_>,
    mut carried: Router,
    notes: &mut Notes<'_>,
) -> Router {
    carried.listen = Listen::At(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, default))]);
    if let Some(mut server) = server {
        let ip = server.take("ip");
        let port = server.take("port");
        let listen = address(ip.as_ref(), port.as_ref(), default, notes);
        note_allow(ip.as_ref(), listen, "outgoing", notes);
        carried.listen = Listen::At(vec![listen]);
        if let Some(tls) = server.take("tls")
            && !tls::opens_without(&tls, options, notes)
        {
            carried.listen = Listen::Nowhere;
        }
        if let Some(clear) = server.take("clearContext") {
            read_clear(&clear, &mut carried, notes);
        }
        server.finish(reasons::SERVER, notes);
    }
    carried
}

/// Notes that linkerd accepted every client that reached its address.
fn note_allow(ip: Option<&Field<'_>>, listen: SocketAddr, section: &str, notes: &mut Notes<'_>) {
    if let Some(ip) = ip.filter(|_| !listen.ip().is_loopback()) {
        notes.changed(
            ip,
            format!(
                "linkerd took every client that reached it; weir takes those with private, link-local, shared (100.64.0.0/10) \
                 or loopback addresses: for others write `{section}.allow`"
            ),
        );
    }
}

/// Whether clients' own context is dropped, which determines who may choose a destination.
fn read_clear(clear: &Field<'_>, carried: &mut Router, notes: &mut Notes<'_>) {
    match clear.boolean() {
        Some(true) => {
            carried.clears = true;
            let why = "it is `outgoing.overrides: []` now: no l5d- header of a client counts or goes on, none of an answer's \
                       comes back, and errors say no more than their status";
            notes.changed(clear, why);
        }
        Some(false) => {}
        None => notes.left(clear, "neither true nor false; `outgoing.overrides` says whose l5d-dtab counts"),
    }
}

/// linkerd's `admin`, or its default without that section.
pub(super) fn read_admin(
    admin: Option<&Field<'_>>,
    generation: Generation,
    carried: &mut Carried,
    notes: &mut Notes<'_>,
) {
    let Some(field) = admin else { return };
    let Some(mut admin) = Part::open(field, notes) else { return };
    let ip = admin.take("ip");
    let port = admin.take("port");
    let mut listen = address(ip.as_ref(), port.as_ref(), ADMIN, notes);
    if let Some(tls) = admin.take("tls") {
        listen.set_ip(Ipv4Addr::LOCALHOST.into());
        notes.unprotected(&tls, "weir's admin speaks no TLS: it is on loopback, whatever `ip` said");
    } else {
        note_allow(ip.as_ref(), listen, "admin", notes);
    }
    if ip.is_none() && generation == Generation::Zero {
        notes.changed(
            field,
            "linkerd 0.8 listened on every address; weir's admin, which can drain it, stays on loopback (for every address \
             write `admin.listen: \"[::]:9990\"` and `admin.allow`; `probes` gives health and metrics alone)",
        );
    }
    carried.admin = Some(listen);
    admin.finish(reasons::ADMIN, notes);
}

fn address(
    ip: Option<&Field<'_>>,
    port: Option<&Field<'_>>,
    default: u16,
    notes: &mut Notes<'_>,
) -> SocketAddr {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, default));
    if let Some(field) = ip {
        match field.text().map(str::parse::<IpAddr>) {
            Some(Ok(ip)) => address.set_ip(ip),
            // The one name that needs no look-up (RFC 6761 §6.3).
            _ if field.text().is_some_and(|name| name.eq_ignore_ascii_case("localhost")) => {}
            _ => notes.left(field, "no IP address: names are not looked up, so weir listens on 127.0.0.1"),
        }
    }
    if let Some(field) = port {
        match field.whole().and_then(|port| u16::try_from(port).ok()) {
            Some(port) => address.set_port(port),
            None => notes.left(field, format!("no port number: weir takes {default}")),
        }
    }
    address
}

/// One port for two listeners is a mistake that linkerd would have rejected too.
pub(super) fn check(
    admin: Option<&Field<'_>>,
    routers: Option<&Field<'_>>,
    carried: &Carried,
    notes: &mut Notes<'_>,
) {
    let addresses = |router: &Router| match &router.listen {
        Listen::At(listen) => listen.clone(),
        Listen::Default => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTP))],
        Listen::Nowhere => Vec::new(),
    };
    let of = |router: &Router| {
        addresses(router).into_iter().map(|it| (router.label.clone(), it)).collect::<Vec<_>>()
    };
    let all: Vec<_> = carried.routers.iter().flat_map(of).collect();
    for (at, (router, listen)) in all.iter().enumerate() {
        check_admin(admin, *listen, carried, notes);
        let earlier = all[..at].iter().find(|(_, it)| is_same_port(*it, *listen));
        if let Some((earlier, _)) = earlier {
            let port = quoted(&listen.port().to_string());
            let what = match earlier == router {
                true => format!("{port} is a port of two servers of the router {}", quoted(router)),
                false => {
                    format!("{port} is a port of the routers {} and {}", quoted(earlier), quoted(router))
                }
            };
            let at = routers.map(|routers| routers.at).unwrap_or_default();
            notes.problem(at, "routers", Mistake::new(what).hint("give each server a port of its own"));
        }
    }
}

fn is_same_port(one: SocketAddr, other: SocketAddr) -> bool {
    let same = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    same && one.port() == other.port() && one.port() != 0
}

fn check_admin(admin: Option<&Field<'_>>, outgoing: SocketAddr, carried: &Carried, notes: &mut Notes<'_>) {
    let listen = carried.admin.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN)));
    if is_same_port(outgoing, listen) {
        let at = admin.map(|admin| admin.at).unwrap_or_default();
        let what = format!("{} is the port of the router and of admin", quoted(&listen.port().to_string()));
        notes.problem(at, "admin", Mistake::new(what).hint("give each a port of its own"));
    }
}
