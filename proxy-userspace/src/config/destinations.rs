//! `outgoing.destinations`: where a listener leads.

use ipnet::IpNet;
use std::net::IpAddr;

use super::Allow;
use super::fields::Section;
use super::problem::Mistake;
use super::tree::Node;
use super::values;

/// Where the requests of a listener may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// `to`: how far. Default [`LeadsTo::Auto`].
    pub to: LeadsTo,
    /// `also`: names beside. One that begins with a dot stands for all below it.
    names: Vec<Box<str>>,
    /// `also`: ranges of addresses beside, for requests that name an address.
    ranges: Allow,
}

/// How far a listener leads. What an operator wrote in a dtab or a namer is always included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadsTo {
    /// `auto`: on Kubernetes, for a client that would be lent this node's address, as [`LeadsTo::Catalog`]; for any other as
    /// [`LeadsTo::Any`], since it reaches nothing by weir that it does not reach without.
    Auto,
    /// `catalog`: what discovery knows. As long as it does not know the cluster's services, also names that the cluster's DNS
    /// may have for them.
    Catalog,
    /// `cluster`: also names below the cluster's domain, and addresses in `names.clusterRanges`.
    Cluster,
    /// `any`: anywhere.
    Any,
}

/// One entry of `also`.
enum Beside {
    Range(IpNet),
    Name(Box<str>),
}

impl Default for Destinations {
    fn default() -> Self {
        Self { to: LeadsTo::Auto, names: Vec::new(), ranges: Allow::new(Vec::new()) }
    }
}

impl Destinations {
    /// Whether `also` has this name, in lower case and without a trailing dot.
    pub fn has_name(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix('.') {
            Some(parent) => host.strip_suffix(parent).is_some_and(|below| below.ends_with('.')),
            None => **name == *host,
        })
    }

    /// Whether `also` has this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.ranges.permits(address)
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Destinations {
    let mut destinations = Destinations::default();
    let choices = values::choice(&[
        ("auto", LeadsTo::Auto),
        ("catalog", LeadsTo::Catalog),
        ("cluster", LeadsTo::Cluster),
        ("any", LeadsTo::Any),
    ]);
    section.set("to", &mut destinations.to, choices);
    let mut ranges = Vec::new();
    for entry in section.list("also", beside).unwrap_or_default() {
        match entry {
            Beside::Range(range) => ranges.push(range),
            Beside::Name(name) => destinations.names.push(name),
        }
    }
    destinations.ranges = Allow::new(ranges);
    section.finish();
    destinations
}

/// A range of addresses, one address, or a name.
fn beside(node: &Node) -> Result<Beside, Mistake> {
    let text = values::text(node)?;
    if text.contains(['/', ':']) || text.parse::<IpAddr>().is_ok() {
        return values::cidr(node).map(Beside::Range);
    }
    let below = text.strip_prefix('.');
    let lower = below.unwrap_or(text).strip_suffix('.').unwrap_or(below.unwrap_or(text)).to_ascii_lowercase();
    if !values::is_domain(&lower) {
        return Err(Mistake::new(format!(
            "{} is neither a name nor a range of addresses",
            super::quoted(text)
        ))
        .hint("write example.com, .example.com for all names below it, or 10.0.0.0/8"));
    }
    Ok(Beside::Name(if below.is_some() { format!(".{lower}") } else { lower }.into()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn destinations(yaml: &str) -> Result<Destinations, String> {
        let text = format!("outgoing: {{ destinations: {yaml} }}");
        let settings = parse("weir.yaml", &text, Path::new("."));
        settings.map(|it| it.outgoing.destinations).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_addresses_beside_are_told_apart() {
        let also = "{ to: catalog, also: [API.example.com., .example.org, 10.9.0.0/16, \"fd00::1\"] }";
        let destinations = destinations(also).unwrap();
        assert_eq!(destinations.to, LeadsTo::Catalog);
        for (name, is_there) in [
            ("api.example.com", true),
            ("x.api.example.com", false),
            ("example.com", false),
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            ("badexample.org", false),
        ] {
            assert_eq!(destinations.has_name(name), is_there, "{name}");
        }
        for (address, is_there) in
            [("10.9.1.1", true), ("::ffff:10.9.1.1", true), ("10.8.0.1", false), ("fd00::1", true)]
        {
            assert_eq!(destinations.has_address(address.parse().unwrap()), is_there, "{address}");
        }
    }

    #[test]
    fn what_is_neither_is_a_mistake() {
        for (yaml, why) in [
            ("{ to: all }", "destinations.to: `all` is not a choice (one of auto, catalog, cluster, any)"),
            ("{ also: [\"a b\"] }", "destinations.also[0]: `a b` is neither a name nor a range of addresses"),
            ("{ also: [\"*.example.com\"] }", "is neither a name nor a range"),
            ("{ also: [10.0.0.0/99] }", "is not a range"),
            ("{ and: [] }", "unknown key `and`"),
        ] {
            let mistake = destinations(yaml).unwrap_err();
            assert!(mistake.contains(why), "{mistake}");
        }
    }
}
