//! `names`: how names are made canonical and bound.

use super::fields::Section;
use super::values;

/// What a short name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `namespace`: the namespace of a name that says none, and the one that is cut from names. Default `default`.
    pub namespace: String,
    /// `port`: the name of the service port that a request without a port means. Default `http`.
    pub port: String,
    /// `clusterDomain`: the cluster's DNS domain, lower case, without a trailing dot. Default `cluster.local`.
    pub cluster_domain: String,
    /// `dns`: whether names outside the catalog are looked up in DNS. Default true.
    pub dns: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            port: "http".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            dns: true,
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Names {
    let mut names = Names::default();
    section.set("namespace", &mut names.namespace, values::label);
    section.set("port", &mut names.port, values::label);
    section.set("clusterDomain", &mut names.cluster_domain, values::domain);
    section.set("dns", &mut names.dns, values::boolean);
    section.finish();
    names
}
