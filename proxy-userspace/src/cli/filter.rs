//! Filters of a running weir's state: `weir status --service … --namespace … --pod …`.

use std::collections::BTreeSet;

use clap::Args;

use crate::control::report::{ServiceReport, StateReport};

/// Which services and pods. A name that ends in `*` stands for all that begin so.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only this service: its name, or NAMESPACE/NAME.
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    /// Only services and pods of this namespace.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// Only this pod of the node, and the services that it is an endpoint of: its name, or NAMESPACE/NAME.
    #[arg(long, value_name = "NAME")]
    pub(super) pod: Option<String>,
}

impl Filter {
    /// Whether any filter is set.
    pub(super) fn is_set(&self) -> bool {
        self.service.is_some() || self.namespace.is_some() || self.pod.is_some()
    }

    /// Removes everything from `state` that does not match.
    ///
    /// # Errors
    ///
    /// Nothing matches.
    pub(super) fn apply(&self, state: &mut StateReport) -> Result<(), String> {
        if !self.is_set() {
            return Ok(());
        }
        let mut addresses = BTreeSet::new();
        let mut kept = 0;
        if let Some(pods) = &mut state.enrolment.pods {
            pods.retain(|it| self.keeps_pod(&it.pod));
            addresses.extend(pods.iter().flat_map(|it| it.addresses.iter().cloned()));
            kept += pods.len();
        }
        state.services.retain(|service| {
            let of_pod = self.pod.is_none() || endpoints(service).any(|ip| addresses.contains(ip));
            of_pod && self.keeps_service(&service.service)
        });
        kept += state.services.len();
        for others in [&mut state.outside, &mut state.transformed] {
            // They have no namespace and no pods.
            others.retain(|it| match (&self.service, &self.namespace, &self.pod) {
                (Some(wanted), None, None) => is_named(wanted, &it.name),
                _ => false,
            });
            kept += others.len();
        }
        if kept == 0 { Err(format!("there is nothing here of {self}")) } else { Ok(()) }
    }

    /// Whether `key` matches: `/#/io.l5d.k8s/NAMESPACE/NAME` or `/#/io.l5d.fs/NAME`.
    fn keeps_service(&self, key: &str) -> bool {
        let path = key.splitn(4, '/').nth(3).unwrap_or_default();
        let (namespace, name) = match key.starts_with("/#/io.l5d.k8s/") {
            true => path.split_once('/').unwrap_or(("", path)),
            false => ("", path),
        };
        self.keeps_namespace(namespace)
            && self.service.as_ref().is_none_or(|wanted| is_called(wanted, namespace, name))
    }

    /// Whether `pod`, NAMESPACE/NAME, matches. A service filter alone matches no pod.
    fn keeps_pod(&self, pod: &str) -> bool {
        let (namespace, name) = pod.split_once('/').unwrap_or(("", pod));
        let wanted = match (&self.pod, &self.service) {
            (Some(wanted), _) => is_called(wanted, namespace, name),
            (None, service) => service.is_none(),
        };
        wanted && self.keeps_namespace(namespace)
    }

    fn keeps_namespace(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| is_named(wanted, namespace))
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [("service", &self.service), ("namespace", &self.namespace), ("pod", &self.pod)];
        let said = all.iter().filter_map(|(what, name)| Some(format!("{what} {:?}", name.as_ref()?)));
        f.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}

/// The addresses of a service's endpoints.
fn endpoints(service: &ServiceReport) -> impl Iterator<Item = &str> {
    let all = service.clusters.iter().flat_map(|cluster| &cluster.endpoints);
    all.filter_map(|it| {
        let (ip, _) = it.address.rsplit_once(':')?;
        Some(ip.trim_start_matches('[').trim_end_matches(']'))
    })
}

/// Whether `wanted`, a name or NAMESPACE/NAME, matches this name.
fn is_called(wanted: &str, namespace: &str, name: &str) -> bool {
    match wanted.split_once('/') {
        // A file's name may contain a slash and has no namespace.
        Some((of, wanted)) if !namespace.is_empty() => is_named(of, namespace) && is_named(wanted, name),
        Some(_) | None => is_named(wanted, name),
    }
}

fn is_named(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state() -> StateReport {
        let service = |key: &str, address: &str| json!({ "service": key, "clusters": [{ "name": key, "endpoints": [{ "address": address }] }] });
        let state = json!({
            "version": "1",
            "ready": true,
            "enrolment": { "by": "pods", "pods": [
                { "pod": "shop/web-0", "addresses": ["10.1.0.9", "fd00::9"] },
                { "pod": "prod/web-1", "addresses": ["10.1.0.8"] },
            ] },
            "services": [
                service("/#/io.l5d.k8s/shop/web", "10.1.0.9:8080"),
                service("/#/io.l5d.k8s/shop/six", "[fd00::9]:8080"),
                service("/#/io.l5d.k8s/prod/web", "10.1.0.8:8080"),
                service("/#/io.l5d.fs/web", "10.1.0.7:8080"),
            ],
            "outside": [{ "name": "web" }, { "name": "example.com" }],
            "transformed": [],
        });
        serde_json::from_value(state).unwrap()
    }

    /// The names that remain after filtering.
    fn left(service: Option<&str>, namespace: Option<&str>, pod: Option<&str>) -> Result<String, String> {
        let [service, namespace, pod] = [service, namespace, pod].map(|it| it.map(str::to_owned));
        let mut state = state();
        Filter { service, namespace, pod }.apply(&mut state)?;
        let pods = state.enrolment.pods.iter().flatten().map(|it| &*it.pod);
        let services = state.services.iter().map(|it| &*it.service);
        let all: Vec<_> = pods.chain(services).chain(state.outside.iter().map(|it| &*it.name)).collect();
        Ok(all.join(" ").replace("/#/io.l5d.", ""))
    }

    #[test]
    fn what_is_asked_for_is_left_and_nothing_else() {
        let all = "shop/web-0 prod/web-1 k8s/shop/web k8s/shop/six k8s/prod/web fs/web web example.com";
        assert_eq!(left(None, None, None).unwrap(), all);
        for (service, namespace, pod, expected) in [
            (Some("web"), None, None, "k8s/shop/web k8s/prod/web fs/web web"),
            (Some("shop/web"), None, None, "k8s/shop/web"),
            (Some("s*"), None, None, "k8s/shop/six"),
            (None, Some("shop"), None, "shop/web-0 k8s/shop/web k8s/shop/six"),
            (Some("web"), Some("prod"), None, "k8s/prod/web"),
            (None, None, Some("web-0"), "shop/web-0 k8s/shop/web k8s/shop/six"),
            (None, None, Some("prod/web-*"), "prod/web-1 k8s/prod/web"),
            (Some("six"), None, Some("web-0"), "shop/web-0 k8s/shop/six"),
        ] {
            assert_eq!(left(service, namespace, pod).unwrap(), expected, "{service:?} {namespace:?} {pod:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let said = left(Some("nobody"), Some("shop"), None).unwrap_err();
        assert_eq!(said, "there is nothing here of service \"nobody\", namespace \"shop\"");
        assert!(left(None, None, Some("web")).is_err(), "not the start of a name, unless that is written");
    }
}
