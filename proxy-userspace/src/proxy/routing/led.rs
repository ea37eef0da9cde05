//! Where a listener leads (`outgoing.destinations`).
//!
//! It is checked where a request goes on to a name or an address outside the catalog, before DNS is asked: whatever led there,
//! its own host, a dtab entry that it brought, or an operator's dtab with a part of its name. What an operator wrote whole
//! is the operator's.

use std::borrow::Cow;

use super::route::Lookup;
use super::snapshot::RoutingConfig;
use crate::config::LeadsTo;
use crate::domain::name::{Questions, Services};
use crate::domain::route::Outside;
use crate::domain::ssrf::Refusal;
use crate::proxy::fault::{Fault, Kind};

impl RoutingConfig {
    /// What of a look-up the listener leads to, while the cluster's services are known or not, for a client that would be lent
    /// this node's address or not.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotLed`] where that is nothing; [`Kind::ServicesUnknown`] for an address that may turn out to be a
    /// service's.
    pub(super) fn led<'a>(
        &self,
        lookup: &'a Lookup,
        services: Services,
        is_lent: bool,
    ) -> Result<Cow<'a, Lookup>, Fault> {
        let Lookup { outside, questions } = lookup;
        let to = match self.destinations.to {
            LeadsTo::Auto if is_lent => LeadsTo::Catalog,
            LeadsTo::Auto => LeadsTo::Any,
            said => said,
        };
        if self.leads_to(outside, to) {
            return Ok(Cow::Borrowed(lookup));
        }
        if outside.is_literal() && services == Services::Awaited {
            let why =
                format!("whether {outside} is a service's is not known yet: the cluster's services are not");
            return Err(Fault::new(Kind::ServicesUnknown, why));
        }
        let asks_cluster = to == LeadsTo::Cluster || services == Services::Awaited;
        if questions.inside.is_empty() || !asks_cluster {
            return Err(refused(outside));
        }
        let questions = Questions { outside: None, ..questions.clone() };
        Ok(Cow::Owned(Lookup { outside: outside.clone(), questions }))
    }

    /// Whether the listener leads to an outside destination, whatever DNS has to be asked for it.
    fn leads_to(&self, outside: &Outside, to: LeadsTo) -> bool {
        let destinations = &self.destinations;
        if outside.written || to == LeadsTo::Any {
            return true;
        }
        match outside.literal() {
            Some(address) => {
                let is_cluster = to == LeadsTo::Cluster && self.cluster_ranges.permits(address);
                is_cluster || destinations.has_address(address)
            }
            None => destinations.has_name(&outside.host),
        }
    }
}

fn refused(outside: &Outside) -> Fault {
    let why = Refusal::NotLed;
    Fault::new(Kind::Refused(why), format!("weir does not connect to {outside}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;
    use crate::domain::name::Scope;

    #[test]
    fn each_choice_leads_as_far_as_it_says() {
        let (catalog, cluster, any) = ("{ to: catalog }", "{ to: cluster }", "{ to: any }");
        let also = "{ to: catalog, also: [example.com, 192.0.2.0/24] }";
        for (yaml, host, scope, services, led) in [
            ("{}", "example.com", Scope::Anywhere, Services::Known, false),
            (any, "example.com", Scope::Anywhere, Services::Known, true),
            (catalog, "example.com", Scope::Anywhere, Services::Known, false),
            (catalog, "192.0.2.1", Scope::Anywhere, Services::Known, false),
            (catalog, "10.1.0.1", Scope::Anywhere, Services::Known, false),
            (catalog, "hello.shop", Scope::Cluster, Services::Known, false),
            // Who it is is not known yet: only the cluster's DNS is asked.
            (catalog, "hello.shop", Scope::Anywhere, Services::Awaited, true),
            (catalog, "a.b.c.example.com", Scope::Anywhere, Services::Awaited, false),
            // It may be a service's: the request waits.
            (catalog, "10.96.0.10", Scope::Anywhere, Services::Awaited, false),
            (cluster, "203.0.113.1", Scope::Anywhere, Services::Awaited, false),
            (also, "192.0.2.1", Scope::Anywhere, Services::Awaited, true),
            ("{}", "10.96.0.10", Scope::Anywhere, Services::Awaited, false),
            (any, "10.96.0.10", Scope::Anywhere, Services::Awaited, true),
            (cluster, "hello.shop", Scope::Cluster, Services::Known, true),
            (cluster, "example.com", Scope::Anywhere, Services::Known, false),
            (cluster, "10.1.0.1", Scope::Anywhere, Services::Known, true),
            (cluster, "192.0.2.1", Scope::Anywhere, Services::Known, false),
            (also, "example.com", Scope::Anywhere, Services::Known, true),
            (also, "www.example.com", Scope::Anywhere, Services::Known, false),
            (also, "192.0.2.1", Scope::Anywhere, Services::Known, true),
            (also, "192.0.3.1", Scope::Anywhere, Services::Known, false),
        ] {
            let settings =
                parse("weir.yaml", &format!("outgoing: {{ destinations: {yaml} }}"), Path::new(".")).unwrap();
            let destinations = settings.outgoing.destinations;
            let config = RoutingConfig { destinations, ..crate::proxy::routing::snapshot::tests::config() };
            let outside = Outside { host: host.into(), port: 80, scope, written: false };
            let lookup = config.lookup(&outside, services);
            let found = config.led(&lookup, services, true);
            assert_eq!(found.is_ok(), led, "{yaml} {host} {services:?}");
            if let Err(why) = &found {
                let may_be_a_service = outside.is_literal() && services == Services::Awaited;
                assert_eq!(why.kind == Kind::ServicesUnknown, may_be_a_service, "{yaml} {host}: {why}");
            }
            if let (Ok(found), true) = (found, services == Services::Awaited) {
                assert_eq!(found.questions.outside, None, "{host} is asked of strangers");
            }
            let written = config.lookup(&Outside { written: true, ..outside }, services);
            assert!(config.led(&written, services, true).is_ok(), "an operator wrote {host}");
        }
    }

    #[test]
    fn what_is_left_to_weir_leads_anywhere_but_who_would_be_lent_the_nodes_address() {
        let outside =
            Outside { host: "example.com".into(), port: 80, scope: Scope::Anywhere, written: false };
        for (yaml, is_lent, led) in [
            ("{}", false, true),
            ("{}", true, false),
            ("{ to: auto }", true, false),
            ("{ also: [example.com] }", true, true),
            ("{ to: any }", true, true),
            ("{ to: catalog }", false, false),
        ] {
            let text = format!("outgoing: {{ destinations: {yaml} }}");
            let destinations = parse("weir.yaml", &text, Path::new(".")).unwrap().outgoing.destinations;
            let config = RoutingConfig { destinations, ..crate::proxy::routing::snapshot::tests::config() };
            let lookup = config.lookup(&outside, Services::Known);
            let found = config.led(&lookup, Services::Known, is_lent);
            assert_eq!(found.is_ok(), led, "{yaml}, lent: {is_lent}");
        }
    }
}
