//! Selects the routers that become weir's, and reads them.

use super::carried::{Carried, Listen, Router};
use super::hop::{self, protocol};
use super::notes::Notes;
use super::part::{Field, Part};
use super::place::Place;
use super::{Options, identifier, interpreter, listeners, policy, reasons, several, transformer};
use crate::config::tree::{Node, Position};
use crate::config::{Mistake, quoted};
use crate::domain::dtab::{Bounds, Dtab, Origin};
use crate::domain::name::Path;

/// The linkerd generation whose defaults apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// linkerd 0.8: `baseDtab`, names `/http/1.1/METHOD/HOST`, admin on every address. linkerd 0.9.0 changed the key
    /// and these defaults together, so the key identifies the generation.
    Zero,
    /// linkerd 0.9 and 1.x: `dtab`, names `/svc/HOST`; of 1.x: admin on loopback.
    One,
}

/// Reads the routers that clients used, the one on linkerd's own port first, and notes the others. Without one, no
/// listener is opened.
pub(super) fn read_all(
    routers: &Field<'_>,
    namers: Option<&Field<'_>>,
    options: Options<'_>,
    carried: &mut Carried,
    notes: &mut Notes<'_>,
) -> Generation {
    let items = routers.items();
    let routed: Vec<usize> = (0..items.len()).filter(|&at| hop::is_routed(&items[at])).collect();
    let second = |at: usize| hop::is_second(&items, at, namers);
    let first = || routed.iter().copied().filter(|&at| !second(at));
    let chosen =
        first().find(|&at| hop::port(&items[at]) == Some(listeners::HTTP.into())).or_else(|| first().next());
    let mut generation = Generation::One;
    let mut read_of: Vec<(&Field<'_>, Vec<Router>)> = Vec::new();
    for (index, router) in items.iter().enumerate() {
        if first().any(|at| at == index) {
            let (of_router, routers) = read(router, options, notes);
            if Some(index) == chosen {
                generation = of_router;
                read_of.insert(0, (router, routers));
            } else {
                read_of.push((router, routers));
            }
        } else {
            notes.left(router, why_left(router));
            hop::transformers(router).iter().for_each(|it| notes.left(it, transformer::reason(it.kind())));
        }
    }
    carried.routers = several::share(read_of, notes);
    if chosen.is_none() {
        carried.routers = vec![Router { listen: Listen::Nowhere, ..Router::default() }];
        let why = match routed.is_empty() {
            true => {
                "no router has the protocol http or h2, so weir opens no explicit listener (`outgoing.listen: none`)"
            }
            false => {
                "the http and h2 routers are second hops, to which only other linkerds sent: opened to clients, they would let \
                 them choose any destination; weir opens no explicit listener (`outgoing.listen: none`)"
            }
        };
        notes.broken(routers, why);
    }
    generation
}

fn why_left(router: &Field<'_>) -> String {
    let label = router.node.get("label").and_then(Node::text);
    let who = label.map_or_else(|| "this router".to_owned(), |label| format!("router {}", quoted(label)));
    match protocol(router) {
        Some("http" | "h2") => format!(
            "{who} took calls from the linkerds of other nodes; weir connects to the endpoints themselves, in one hop and in \
             plain text"
        ),
        Some(other) => {
            format!("{who}: protocol {} is not routed by name; diverted, it passes as bytes", quoted(other))
        }
        None => format!("{who} has no protocol, without which linkerd does not start"),
    }
}

/// The routers of weir that a router with these keys becomes: one for each server.
fn read(field: &Field<'_>, options: Options<'_>, notes: &mut Notes<'_>) -> (Generation, Vec<Router>) {
    let Some(mut router) = Part::open(field, notes) else { return (Generation::One, Vec::new()) };
    let own = &mut Router { label: several::label(field), ..Router::default() };
    for silent in ["protocol", "label"] {
        router.take(silent);
    }
    let base = router.take("baseDtab");
    let dtab = router.take("dtab");
    let generation = if base.is_some() && dtab.is_none() { Generation::Zero } else { Generation::One };
    let interpreter = router.take("interpreter");
    match (dtab, base) {
        (Some(dtab), Some(base)) => {
            notes.left(&base, "`dtab` is its later name, and is there too");
            read_dtab(&dtab, own, notes);
        }
        (Some(dtab), None) | (None, Some(dtab)) => read_dtab(&dtab, own, notes),
        (None, None) if interpreter.as_ref().is_some_and(interpreter::keeps_dtabs_elsewhere) => {
            own.dtab = Some(String::new());
        }
        (None, None) => {
            notes.changed(field, "no dtab here, so names below /svc go where weir's own base dtab leads")
        }
    }
    let default = match (generation, protocol(field)) {
        (Generation::One, _) => None,
        (Generation::Zero, Some("h2")) => Some("/h2"),
        (Generation::Zero, _) => Some("/http"),
    };
    read_prefix(router.take("dstPrefix").as_ref(), default, own, notes);
    let is_h2 = protocol(field) == Some("h2");
    let of_router = identifier::OfRouter { router: field, is_h2, uri_in_name: router.take("httpUriInDst") };
    identifier::read(router.take("identifier").as_ref(), &of_router, generation, own, notes);
    if let Some(interpreter) = interpreter {
        interpreter::read(&interpreter, own, notes);
    }
    let servers = router.take("servers");
    policy::read(&mut router, options, own, notes);
    router.finish(reasons::ROUTER, notes);
    let port = listeners::port(protocol(field));
    (generation, listeners::read_servers(servers.as_ref(), port, options, own, notes))
}

/// The dtab keeps its text, but weir must be able to parse it.
fn read_dtab(field: &Field<'_>, carried: &mut Router, notes: &mut Notes<'_>) {
    let Some(text) = field.text() else {
        return notes.left(field, format!("expected a text, not {}", field.node.kind()));
    };
    match Dtab::parse(text, Origin::Base, &Bounds::CONFIGURATION) {
        Ok(_) => carried.dtab = Some(text.to_owned()),
        Err(error) => {
            let place = Place::find(notes.source, field.node.at, text);
            for problem in error.problems {
                let mistake = Mistake::new(format!("{}\n{}", problem.what, problem.caret));
                let mistake = problem.hint.into_iter().fold(mistake, Mistake::hint);
                let inside = Position { line: problem.at.line, column: problem.at.column };
                notes.problem(place.of(inside), &field.path, mistake);
            }
        }
    }
}

/// `/http` or `/h2` is the `default` with `baseDtab`; `/svc` is also weir's default.
fn read_prefix(
    field: Option<&Field<'_>>,
    default: Option<&str>,
    carried: &mut Router,
    notes: &mut Notes<'_>,
) {
    let written = field.and_then(Field::text);
    let is_path = written.is_some_and(|prefix| prefix.parse::<Path>().is_ok());
    match (field, written) {
        (Some(_), Some(prefix)) if is_path => {
            carried.dst_prefix = Some(prefix.to_owned()).filter(|prefix| prefix != "/svc");
            return;
        }
        (Some(field), _) => notes.left(field, "no path, so the default is in its place"),
        (None, _) => {}
    }
    carried.dst_prefix = default.map(str::to_owned);
}
