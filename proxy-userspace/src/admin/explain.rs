//! `/api/explain?name=…[&dtab=…][&namespace=…][&router=…][&format=text]`.

use std::time::Instant;

use serde_json::{Value, json};

use crate::control;
use crate::control::report::ClusterReport;
use crate::domain::route::{Step, Verdict, What};
use crate::proxy::routing::explain::{Question, explain};

/// The answer to `query`, and whether it is JSON.
///
/// # Errors
///
/// What is wrong with the query.
pub(super) fn answer(control: &control::State, query: &str) -> Result<(String, bool), String> {
    let of = |key: &str| {
        form_urlencoded::parse(query.as_bytes()).find(|(it, _)| it == key).map(|(_, value)| value)
    };
    let name = of("name").ok_or("say which: /api/explain?name=/svc/hello")?;
    let now = Instant::now();
    let (dtab, namespace) = (of("dtab").unwrap_or_default(), of("namespace").filter(|it| !it.is_empty()));
    let router = of("router").filter(|it| !it.is_empty());
    let asked =
        Question { name: &name, dtab: &dtab, namespace: namespace.as_deref(), router: router.as_deref() };
    let explained = explain(&control.shared.routing.snapshot.load(), asked, now)?;
    if of("format").as_deref() == Some("text") {
        return Ok((explained.to_string(), false));
    }
    let clusters: Vec<_> = explained.clusters.iter().map(|it| ClusterReport::read(it, now)).collect();
    let answer = json!({
        "name": explained.explanation.name.to_string(),
        "result": explained.explanation.outcome(),
        "step": step(&explained.explanation.root, &mut Vec::new()),
        "omittedSteps": explained.explanation.omitted,
        "reasons": explained.explanation.reasons(),
        "policy": {
            "rules": explained.rules,
            "responseSeconds": explained.requests.response().map(|it| it.as_secs_f64()),
            "attempts": explained.requests.attempts,
        },
        "dns": explained.dns.iter().map(|(outside, questions)| json!({
            "host": outside.to_string(),
            "inside": questions.inside.iter().map(|it| &**it).collect::<Vec<_>>(),
            "outside": questions.outside.as_deref(),
        })).collect::<Vec<_>>(),
        "router": explained.router.as_deref(),
        "rule": explained.rule,
        "note": explained.note,
        "servicesUnknown": explained.unknown,
        "refused": explained.refused,
        "clusters": clusters,
    });
    Ok((format!("{answer:#}\n"), true))
}

/// A step and its children; `above` holds the enclosing steps. A cycle is cut after one round, and so is anything
/// nested as deeply as only a cyclic dtab can be.
fn step<'a>(it: &'a Step, above: &mut Vec<&'a Step>) -> Value {
    let told = above.len() < Step::DEEPEST && !it.is_among(above);
    above.push(it);
    let steps = it.steps.iter().filter(|_| told).map(|it| step(it, above)).collect::<Vec<_>>();
    above.pop();
    json!({
        "what": what(&it.what),
        "verdict": verdict(&it.verdict),
        "role": format!("{:?}", it.role).to_lowercase(),
        "omitted": !told && !it.steps.is_empty(),
        "steps": steps,
    })
}

fn what(what: &What) -> Value {
    match what {
        What::Name(name) => json!({ "name": name }),
        What::Entry { index, origin, at, text } => json!({
            "entry": text,
            "index": index,
            "origin": format!("{origin:?}").to_lowercase(),
            "line": at.line,
            "column": at.column,
        }),
        What::Namer(prefix) => json!({ "namer": prefix }),
        What::Nobody => json!("nobody knows such names"),
        What::Alternatives => json!("alternatives"),
        What::Union => json!("union"),
        What::Member { weight, share } => json!({ "weight": weight, "share": share }),
        What::Sign(sign) => json!({ "sign": sign }),
        What::Tree(tree) => json!({ "tree": tree }),
    }
}

fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Bound { id, residual, uncertain } => {
            json!({ "bound": id, "residual": residual, "dnsDecides": uncertain })
        }
        Verdict::Several => json!("several"),
        Verdict::Neg { why } => json!({ "neg": why }),
        Verdict::Unknown { why } => json!({ "unknown": why }),
        Verdict::Fail => json!("fail"),
        Verdict::Empty { why: None } => json!("empty"),
        Verdict::Empty { why } => json!({ "empty": why }),
        Verdict::Error { why } => json!({ "error": why }),
        Verdict::Untried => json!("untried"),
    }
}
