//! Checks of `outgoing` where it is a list: several routers, each with a label of its own.

use std::collections::HashMap;

use super::fields::Report;
use super::problem::{Mistake, quoted};
use super::settings::Settings;
use super::tree::{Node, Value};
use crate::domain::identify::Identifier;

/// The most routers.
const MOST: usize = 64;

/// Dtabs and Ingresses of the cluster can only be read from an API server.
pub(super) fn check_objects(settings: &Settings, root: &Node, report: &mut Report) {
    if settings.discovery.kubernetes.is_some() {
        return;
    }
    let Some(outgoing) = root.get("outgoing") else { return };
    let routers = match &outgoing.value {
        Value::List(routers) => routers.as_slice(),
        _ => std::slice::from_ref(outgoing),
    };
    for (at, (router, read)) in routers.iter().zip(settings.all_routers()).enumerate() {
        let key = if routers.len() > 1 { format!("outgoing[{at}]") } else { "outgoing".to_owned() };
        let mut add = |name: &str, what: &str| {
            let Some(node) = router.get(name) else { return };
            let mistake = Mistake::new(format!("there is no API server to read {what} from"));
            report.add(node.at, format!("{key}.{name}"), mistake.hint("set `discovery.kubernetes`"));
        };
        add("interpreter", "the dtab");
        if read.identifiers.iter().any(|it| matches!(it, Identifier::Ingress(_))) {
            add("identifier", "Ingresses");
        }
    }
}

pub(super) fn check(root: &Node, report: &mut Report) {
    let Some(outgoing) = root.get("outgoing") else { return };
    let Value::List(routers) = &outgoing.value else { return };
    if routers.is_empty() {
        let mistake = Mistake::new("an empty list, which could mean the default or none");
        report.add(outgoing.at, "outgoing", mistake.hint("remove the key, or write `{ listen: none }`"));
    }
    if routers.len() > MOST {
        let mistake = Mistake::new(format!("{} routers, {MOST} are the most", routers.len()));
        report.add(
            outgoing.at,
            "outgoing",
            mistake.hint("run several weirs, or join routers by their dtabs"),
        );
    }
    let mut known = HashMap::new();
    for (at, router) in routers.iter().enumerate() {
        match router.get("label") {
            None if routers.len() > 1 => {
                let mistake = Mistake::new("one of several routers, without a label");
                let hint = "write `label: NAME`; it tells the routers apart in metrics and explanations";
                report.add(router.at, format!("outgoing[{at}]"), mistake.hint(hint));
            }
            None => {}
            Some(label) => {
                let Some(text) = label.text() else { continue };
                if let Some(first) = known.insert(text, at) {
                    let mistake = Mistake::new(format!("outgoing[{first}] is called {} too", quoted(text)));
                    report.add(
                        label.at,
                        format!("outgoing[{at}].label"),
                        mistake.hint("give each router a label of its own"),
                    );
                }
            }
        }
    }
}
