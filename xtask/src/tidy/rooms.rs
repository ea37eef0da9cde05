//! The rooms of `proxy/`: each uses only those before it, so that they have no circle.

use super::Finding;
use super::floors::{first_names, names_after, top_module};
use super::source::Source;

const RULE: &str = "room";
const ROOT: &str = "proxy-userspace/src/proxy";

/// Every room, in order.
const ROOMS: [&str; 13] = [
    "fault",
    "clock",
    "holders",
    "pod_clients",
    "memory",
    "listener",
    "upstream",
    "routing",
    "tcp",
    "worker",
    "exchange",
    "downstream",
    "metrics",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let Ok(inside) = source.path.strip_prefix(ROOT) else { return Vec::new() };
    let room = top_module(inside);
    if room == "mod" {
        return Vec::new();
    }
    let place = |room: &str| ROOMS.iter().position(|it| *it == room);
    let Some(own) = place(room) else {
        let message =
            format!("`{room}` has no place among the rooms: give it one in xtask/src/tidy/rooms.rs");
        return vec![Finding::new(&source.path, 1, RULE, message)];
    };
    let absolute = source.words("crate").filter(|at| source.code[*at..].starts_with("crate::proxy::"));
    let absolute = absolute.flat_map(|at| names_after(&source.code, at + "crate::proxy".len()));
    let used = absolute.chain(first_names(source, inside));
    let later = used.filter(|(_, used)| place(used).is_some_and(|place| place > own));
    later
        .map(|(at, used)| {
            let message = format!("`{room}` may not use `{used}`, which comes after it");
            Finding::new(&source.path, source.line(at), RULE, message)
        })
        .collect()
}
