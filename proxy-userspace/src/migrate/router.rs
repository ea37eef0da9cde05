//! The routers: which one becomes weir's, and what it says.

use super::carried::Carried;
use super::notes::Notes;
use super::part::{Field, Part};
use super::place::Place;
use super::{identifier, listeners, policy, reasons, transformer};
use crate::config::tree::{Node, Position};
use crate::config::{Mistake, quoted};
use crate::domain::dtab::{Bounds, Dtab, Origin};
use crate::domain::name::Path;

/// Whose defaults a file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// linkerd 0.8: `baseDtab`, names `/http/1.1/METHOD/HOST`, admin on every address. linkerd 0.9.0 changed the key and
    /// these defaults at once, so the key tells.
    Zero,
    /// linkerd 0.9 and 1.x: `dtab`, names `/svc/HOST`; of 1.x: admin on loopback.
    One,
}

/// Reads the router that clients were given, and notes the others.
pub(super) fn read_all(routers: &Field<'_>, carried: &mut Carried, notes: &mut Notes<'_>) -> Generation {
    let routers = routers.items();
    let http = || routers.iter().enumerate().filter(|(_, router)| protocol(router) == Some("http"));
    let chosen =
        http().find(|(_, router)| port(router) == Some(listeners::HTTP.into())).or_else(|| http().next());
    let chosen = chosen.map(|(index, _)| index);
    let mut generation = Generation::One;
    for (index, router) in routers.iter().enumerate() {
        if Some(index) == chosen {
            generation = read(router, carried, notes);
        } else {
            notes.left(router, why_left(router));
            transformers(router).iter().for_each(|it| notes.left(it, transformer::reason(it.kind())));
        }
    }
    generation
}

fn protocol<'a>(router: &Field<'a>) -> Option<&'a str> {
    router.node.get("protocol").and_then(Node::text)
}

/// The port of the router's first server.
fn port(router: &Field<'_>) -> Option<i128> {
    let Some(servers) = router.node.get("servers") else { return Some(listeners::HTTP.into()) };
    let servers = Field { node: servers, at: servers.at, path: String::new() };
    let server = servers.items().into_iter().next()?;
    match server.node.get("port") {
        Some(node) => Field { node, ..server }.whole(),
        None => Some(listeners::HTTP.into()),
    }
}

fn why_left(router: &Field<'_>) -> String {
    let label = router.node.get("label").and_then(Node::text);
    let who = label.map_or_else(|| "this router".to_owned(), |label| format!("router {}", quoted(label)));
    match protocol(router) {
        Some("http") if is_incoming(router) => format!(
            "{who} took calls from the linkerds of other nodes; weir connects to the endpoints themselves, so there is one hop, \
             and calls between weirs come with TLS between nodes"
        ),
        Some("http") => {
            format!(
                "{who} is one more http router; weir has one explicit listener, and one router was carried over"
            )
        }
        Some("h2") => format!("{who}: protocol h2 is not routed by name; diverted, it passes as bytes"),
        Some(other) => {
            format!("{who}: protocol {} is not routed by name; diverted, it passes as bytes", quoted(other))
        }
        None => format!("{who} has no protocol, without which linkerd does not start"),
    }
}

/// Whether the router was the second hop: it kept to the pods of its own node.
fn is_incoming(router: &Field<'_>) -> bool {
    let named = router.node.get("label").and_then(Node::text).is_some_and(|label| label.contains("incoming"));
    named || transformers(router).iter().any(|transformer| transformer.kind() == "io.l5d.k8s.localnode")
}

/// What changed a left-out router's endpoints: each says what replaces it, since people look for these.
fn transformers<'a>(router: &Field<'a>) -> Vec<Field<'a>> {
    let node = router.node.get("interpreter").and_then(|interpreter| interpreter.get("transformers"));
    let path = format!("{}.interpreter.transformers", router.path);
    node.map(|node| Field { node, at: node.at, path }.items()).unwrap_or_default()
}

fn read(field: &Field<'_>, carried: &mut Carried, notes: &mut Notes<'_>) -> Generation {
    let Some(mut router) = Part::open(field, notes) else { return Generation::One };
    for silent in ["protocol", "label"] {
        router.take(silent);
    }
    let base = router.take("baseDtab");
    let dtab = router.take("dtab");
    let generation = if base.is_some() && dtab.is_none() { Generation::Zero } else { Generation::One };
    match (dtab, base) {
        (Some(dtab), Some(base)) => {
            notes.left(&base, "`dtab` is its later name, and is there too");
            read_dtab(&dtab, carried, notes);
        }
        (Some(dtab), None) | (None, Some(dtab)) => read_dtab(&dtab, carried, notes),
        (None, None) => {
            notes.changed(field, "no dtab here, so names below /svc go where weir's own base dtab leads")
        }
    }
    read_prefix(router.take("dstPrefix").as_ref(), generation, carried, notes);
    identifier::read(router.take("identifier").as_ref(), field, generation, carried, notes);
    if let Some(interpreter) = router.take("interpreter") {
        read_interpreter(&interpreter, notes);
    }
    listeners::read_servers(router.take("servers").as_ref(), carried, notes);
    policy::read(&mut router, carried, notes);
    router.finish(reasons::ROUTER, notes);
    generation
}

/// The dtab keeps its text, but has to be one that weir reads.
fn read_dtab(field: &Field<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
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

/// `/http` was the default while `baseDtab` was; `/svc` is weir's too.
fn read_prefix(
    field: Option<&Field<'_>>,
    generation: Generation,
    carried: &mut Carried,
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
    carried.dst_prefix = (generation == Generation::Zero).then(|| "/http".to_owned());
}

/// `default` reads the router's own dtab, as weir does.
fn read_interpreter(field: &Field<'_>, notes: &mut Notes<'_>) {
    let Some(mut interpreter) = Part::open(field, notes) else { return };
    let kind = interpreter.take("kind");
    for transformer in interpreter.take("transformers").iter().flat_map(Field::items) {
        notes.left(&transformer, transformer::reason(transformer.kind()));
    }
    match kind.as_ref().and_then(Field::text) {
        None | Some("default") => interpreter.finish(&[], notes),
        Some(other) => notes.left(
            field,
            format!(
                "{} kept dtabs elsewhere; weir's is in this file (`baseDtab`, `dtab`), read again on SIGHUP or change",
                quoted(other)
            ),
        ),
    }
}
