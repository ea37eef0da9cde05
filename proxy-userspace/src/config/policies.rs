//! `policies`: settings per name, as linkerd's `io.l5d.static`.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use super::fields::Section;
use super::problem::Mistake;
use super::tree::Node;
use super::{breaker, values};
use crate::domain::policy::{Client, Policies, Protocol, RequestPolicy, Rule};
use crate::domain::retry::Backoff;
use crate::domain::route::Pattern;

/// Reads `services` and `clients`, each a list of rules.
pub(super) fn read(mut section: Section<'_, '_>) -> Arc<Policies> {
    let services = section.sections("services", |rule| read_rule(rule, read_requests));
    let clients = section.sections("clients", |rule| read_rule(rule, read_client));
    section.finish();
    let (services, clients) = (services.into_iter().flatten(), clients.into_iter().flatten());
    Arc::new(Policies { services: services.collect(), clients: clients.collect() })
}

/// Reads the rules for services of one router.
pub(super) fn read_services(mut section: Section<'_, '_>) -> Vec<Rule<RequestPolicy>> {
    let services = section.sections("services", |rule| read_rule(rule, read_requests));
    if section.has("clients") {
        section.sections("clients", |rule| read_rule(rule, read_client));
        let mistake = Mistake::new("all routers share the endpoints and what is known of them");
        section.mistake("clients", mistake.hint("write it under `policies` at the top of the file"));
    }
    section.finish();
    services.into_iter().flatten().collect()
}

/// Reads one rule and reports its mistakes; none if it does not say which names it applies to.
fn read_rule<S>(mut section: Section<'_, '_>, read: impl Fn(&mut Section<'_, '_>) -> S) -> Option<Rule<S>> {
    let mut prefix = None;
    section.set("prefix", &mut prefix, |node| pattern(node).map(Some));
    if !section.has("prefix") {
        let hint = "`/` is the beginning of every name; `*` and `{capture}` stand for labels";
        section.mistake("prefix", Mistake::new("which names is this for?").hint(hint));
    }
    let settings = read(&mut section);
    section.finish();
    prefix.map(|prefix| Rule { prefix, settings })
}

fn pattern(node: &Node) -> Result<Pattern, Mistake> {
    Pattern::read(values::text(node)?).map_err(|bad| {
        Mistake::new(format!("no prefix: {bad}"))
            .hint("as in /svc/hello, /svc/* or /#/io.l5d.k8s/{ns}/http/{svc}")
    })
}

/// Reads how requests are attempted.
pub(super) fn read_requests(section: &mut Section<'_, '_>) -> RequestPolicy {
    const LONGEST: Duration = Duration::from_hours(24);
    let mut requests = RequestPolicy::default();
    section.set("response", &mut requests.response, |node| {
        let wait = values::duration(Duration::from_millis(1)..=LONGEST)(node)?;
        Ok(u32::try_from(wait.as_millis()).ok().and_then(NonZeroU32::new))
    });
    section.set("attempts", &mut requests.attempts, |node| values::count(1..=10)(node).map(NonZeroU8::new));
    requests
}

fn read_client(section: &mut Section<'_, '_>) -> Client {
    let mut requests = read_requests(section);
    section.set("protocol", &mut requests.protocol, |node| values::choice(Protocol::NAMES)(node).map(Some));
    let (failures, backoff) = section.section("breaker").map(breaker::read_some).unwrap_or_default();
    let backoff = backoff.map(|it| Backoff { min: it.min, max: it.max });
    Client { requests, failures, backoff }
}
