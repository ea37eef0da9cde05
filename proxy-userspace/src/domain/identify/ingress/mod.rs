//! `io.l5d.ingress`: the rules of Ingress objects (`networking.k8s.io/v1`).
//!
//! Which rule a request matches is Kubernetes' definition ("Ingress", sections "Path types" and "Hostname wildcards"),
//! with linkerd's where that leaves it open: a path of type `ImplementationSpecific` is a regular expression for the whole
//! path. Of the same host and path the older Ingress's rule counts, whatever its namespace; what there is room for is
//! divided among namespaces. The name is linkerd's: `/namespace/port/service`.
//!
//! Deliberately absent: `spec.tls`, and backends that are resources.

mod literal;
mod object;
mod path;
mod paths;
mod rules;
mod shares;
mod starts;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use self::object::{Backend, Ingress, IngressRule, check_host};
pub use self::path::{IngressPath, PathType};
pub use self::rules::{IngressRules, LeftOut};
pub use self::table::IngressTable;
use super::{RequestFacts, Unidentifiable};
use crate::domain::name::Path;

/// linkerd's class.
pub const CLASS: &str = "linkerd";

/// Which Ingresses a router follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IngressSource {
    /// `namespace`: those of this namespace; of all without it.
    pub namespace: Option<Arc<str>>,
    /// `ingressClassAnnotation`: those of this class (`spec.ingressClassName`, or else the annotation
    /// `kubernetes.io/ingress.class`), and those without one. Default `linkerd`.
    pub class: Arc<str>,
    /// `ignoreDefaultBackends`: whether `spec.defaultBackend` takes no requests.
    pub ignore_default_backends: bool,
}

/// The identifier: a source, and where its rules are.
#[derive(Clone, Debug)]
pub struct IngressIdentifier {
    /// Whose rules they are.
    pub source: IngressSource,
    /// The rules; `None` where no cluster is asked.
    pub table: Option<Arc<IngressTable>>,
}

/// The rules are no part of it, only where they are.
impl PartialEq for IngressIdentifier {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
            && self.table.as_ref().map(Arc::as_ptr) == other.table.as_ref().map(Arc::as_ptr)
    }
}

impl Eq for IngressIdentifier {}

impl IngressIdentifier {
    pub(super) fn identify(&self, facts: &RequestFacts<'_>) -> Result<Option<Path>, Unidentifiable> {
        let rules = self.rules().ok_or(Unidentifiable::IngressesUnknown)?;
        let matched = rules.find(facts.host.unwrap_or_default(), facts.target);
        Ok(matched.map(|target| target.name.clone()))
    }

    fn rules(&self) -> Option<Arc<IngressRules>> {
        self.table.as_ref()?.rules()
    }

    /// Which rule matches.
    pub(super) fn rule_of(&self, facts: &RequestFacts<'_>) -> Option<String> {
        let rules = self.rules()?;
        let target = rules.find(facts.host.unwrap_or_default(), facts.target)?;
        Some(rules.describe(target))
    }
}

impl fmt::Display for IngressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "Ingresses of class {} in {namespace}", self.class),
            None => write!(f, "Ingresses of class {}", self.class),
        }
    }
}
