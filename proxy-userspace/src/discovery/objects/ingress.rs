//! `Ingress`, of `networking.k8s.io/v1`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::identify::ingress::{Backend, Ingress, IngressPath, IngressRule, PathType, check_host};

/// The class in an annotation, which `spec.ingressClassName` has replaced.
const CLASS: &str = "kubernetes.io/ingress.class";

/// Most regular expressions of an Ingress: compiling one takes a while.
const EXPRESSIONS: usize = 32;

/// Most mistakes that are named.
const NAMED: usize = 5;

/// An Ingress as weir follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressObject {
    /// The rules without mistakes.
    pub ingress: Arc<Ingress>,
    /// What is wrong with the others.
    pub mistakes: Vec<String>,
}

#[derive(Deserialize)]
struct Written {
    metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    creation_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    default_backend: Option<WrittenBackend>,
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    http: Option<Http>,
}

#[derive(Deserialize)]
struct Http {
    #[serde(default)]
    paths: Option<Vec<WrittenPath>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPath {
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    path_type: Option<String>,
    #[serde(default)]
    backend: Option<WrittenBackend>,
}

#[derive(Deserialize)]
struct WrittenBackend {
    #[serde(default)]
    service: Option<Service>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    name: String,
    #[serde(default)]
    port: Option<Port>,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    number: Option<u16>,
}

/// The class of an Ingress: its `spec.ingressClassName`, or else its annotation.
pub fn ingress_class(object: &Value) -> Option<&str> {
    let field = || object.get("spec")?.get("ingressClassName")?.as_str();
    let annotation = || object.get("metadata")?.get("annotations")?.get(CLASS)?.as_str();
    field().or_else(annotation).filter(|class| !class.is_empty())
}

impl IngressObject {
    /// Reads `value`.
    ///
    /// # Errors
    ///
    /// It is no Ingress at all.
    pub fn read(value: &Value) -> Result<Self, serde_json::Error> {
        let Written { metadata, spec } = Written::deserialize(value)?;
        let spec = spec.unwrap_or_default();
        let (mut rules, mut mistakes) = (Vec::<IngressRule>::new(), Vec::new());
        let mut expressions = 0;
        for (at, rule) in spec.rules.into_iter().flatten().enumerate() {
            let host = match host_of(rule.host.as_deref()) {
                Ok(host) => host,
                Err(why) => {
                    mistakes.push(format!("spec.rules[{at}].host: {why}"));
                    continue;
                }
            };
            // A rule without paths leaves its host to the default backend.
            let paths = rule.http.and_then(|http| http.paths).unwrap_or_default();
            for (number, path) in paths.into_iter().enumerate() {
                let is_expression = would_compile(&path);
                if is_expression && expressions == EXPRESSIONS {
                    mistakes.push(format!(
                        "spec.rules[{at}].http.paths[{number}]: after {EXPRESSIONS} regular expressions, the most of \
                         an Ingress"
                    ));
                    continue;
                }
                expressions += usize::from(is_expression);
                match read_path(path) {
                    Ok((path, backend)) => {
                        rules.push(IngressRule { host: host.clone(), path, backend });
                    }
                    Err(why) => mistakes.push(format!("spec.rules[{at}].http.paths[{number}]: {why}")),
                }
            }
        }
        let default = spec.default_backend.and_then(|backend| match read_backend(Some(backend)) {
            Ok(backend) => Some(backend),
            Err(why) => {
                mistakes.push(format!("spec.defaultBackend: {why}"));
                None
            }
        });
        let more = mistakes.len().saturating_sub(NAMED);
        if more > 0 {
            mistakes.truncate(NAMED);
            mistakes.push(format!("and {more} more"));
        }
        let ingress = Ingress {
            namespace: metadata.namespace.as_deref().unwrap_or("default").into(),
            name: metadata.name.into(),
            created: metadata.creation_timestamp.unwrap_or_default().into(),
            class: ingress_class(value).map(Into::into),
            rules,
            default,
        };
        Ok(Self { ingress: Arc::new(ingress), mistakes })
    }
}

fn host_of(host: Option<&str>) -> Result<Option<Arc<str>>, String> {
    match host {
        None | Some("") => Ok(None),
        Some(host) => match check_host(host) {
            Ok(()) => Ok(Some(host.into())),
            Err(why) => Err(format!("{:?} is {why}", &host[..host.floor_char_boundary(80)])),
        },
    }
}

fn would_compile(written: &WrittenPath) -> bool {
    written.path_type.as_deref() == Some("ImplementationSpecific")
        && IngressPath::would_compile(
            PathType::ImplementationSpecific,
            written.path.as_deref().unwrap_or_default(),
        )
}

fn read_path(written: WrittenPath) -> Result<(IngressPath, Backend), String> {
    let kind = match written.path_type.as_deref() {
        Some("Exact") => PathType::Exact,
        Some("Prefix") => PathType::Prefix,
        Some("ImplementationSpecific") => PathType::ImplementationSpecific,
        Some(other) => {
            return Err(format!("there is no pathType {:?}", &other[..other.floor_char_boundary(80)]));
        }
        None => return Err("without a pathType".to_owned()),
    };
    let path = IngressPath::new(kind, written.path.as_deref().unwrap_or_default())?;
    Ok((path, read_backend(written.backend)?))
}

fn read_backend(written: Option<WrittenBackend>) -> Result<Backend, String> {
    let Some(written) = written else { return Err("without a backend".to_owned()) };
    let Some(service) = written.service else {
        return Err("its backend is no Service, and weir knows no other".to_owned());
    };
    if service.name.is_empty() || service.name.len() > 253 {
        return Err("its Service has no name".to_owned());
    }
    let port = match service.port {
        Some(Port { name: Some(name), number: None }) if !name.is_empty() && name.len() <= 63 => name,
        Some(Port { name, number: Some(number) }) if name.as_deref().unwrap_or_default().is_empty() => {
            match number {
                0 => return Err("port 0 is none".to_owned()),
                number => number.to_string(),
            }
        }
        Some(Port { name: Some(_), number: Some(_) }) => {
            return Err("its port has a name and a number".to_owned());
        }
        Some(_) | None => return Err("its Service has no port".to_owned()),
    };
    Ok(Backend { service: service.name.into(), port: port.into() })
}

#[cfg(test)]
#[path = "ingress_tests.rs"]
mod tests;
