//! Why an object that has a dtab could not be read or written, each with what to do.

use std::fmt;

use bytes::BytesMut;
use http::{Response, StatusCode};
use serde::Deserialize;

use crate::config::{DtabStore, Interpreter, Mistake};
use crate::discovery::kubernetes::failure::{Failure, text};

/// Why an object could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// It is no name of an object.
    Name(Mistake),
    /// The server does not know the type.
    NoType(DtabStore),
    /// There is no such object.
    NotFound(Interpreter),
    /// The namespace does not exist.
    NoNamespace(String),
    /// A role is missing: the verb is not permitted.
    Forbidden {
        /// `get`, `list`, `create` or `update`.
        verb: &'static str,
        /// The object; of a list, without a name, and of all namespaces without one.
        which: Interpreter,
        /// What the server says.
        said: String,
    },
    /// The object was changed after it was read (409 Conflict).
    Conflict {
        /// The object.
        which: Interpreter,
        /// What the server says.
        said: String,
    },
    /// It is too large for the server.
    TooLarge {
        /// The object.
        which: Interpreter,
        /// What the server says.
        said: String,
    },
    /// The server refuses what is in it: the type's schema, an admission policy.
    Invalid {
        /// The object.
        which: Interpreter,
        /// What the server says.
        said: String,
    },
    /// The credentials are not known.
    Unauthorized(String),
    /// Anything else.
    Failed(Failure),
}

/// What the parts of a `Status` are needed for that [`Failure`] does not have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    message: Option<String>,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    name: Option<String>,
    kind: Option<String>,
}

/// How a server, or etcd behind it, says that an object is too large: by the size of a request, of what is stored, of a
/// ConfigMap's data.
const TOO_LARGE: [&str; 4] = [
    "request is too large",
    "Request entity too large",
    "Too long: may not be more than",
    "trying to send message larger than max",
];

impl EditError {
    /// The error in the answer to `verb`, if it is one.
    pub(super) fn of(verb: &'static str, which: &Interpreter, answer: &Response<BytesMut>) -> Option<Self> {
        let (status, which) = (answer.status(), which.clone());
        if status.is_success() {
            return None;
        }
        let told: Status = serde_json::from_slice(answer.body()).unwrap_or_default();
        let said = text(&told.message.unwrap_or_else(|| format!("status {}", status.as_u16())));
        let details = told.details.unwrap_or_default();
        let is_named = details.name.is_some_and(|name| !name.is_empty());
        Some(match status {
            _ if status == StatusCode::PAYLOAD_TOO_LARGE || TOO_LARGE.iter().any(|it| said.contains(it)) => {
                Self::TooLarge { which, said }
            }
            StatusCode::NOT_FOUND if is_named && details.kind.as_deref() == Some("namespaces") => {
                Self::NoNamespace(which.namespace)
            }
            StatusCode::NOT_FOUND if is_named => Self::NotFound(which),
            StatusCode::NOT_FOUND => Self::NoType(which.store),
            StatusCode::UNAUTHORIZED => Self::Unauthorized(said),
            // A quota and a namespace that is being deleted are 403, too.
            StatusCode::FORBIDDEN if said.contains(" cannot ") => Self::Forbidden { verb, which, said },
            StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => {
                Self::Invalid { which, said }
            }
            StatusCode::CONFLICT => Self::Conflict { which, said },
            _ => Self::Failed(Failure::of_answer(status, answer.headers(), answer.body())),
        })
    }
}

impl From<Failure> for EditError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unauthorized(why) => Self::Unauthorized(why),
            failure => Self::Failed(failure),
        }
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(Mistake { what, hint }) => match hint {
                Some(hint) => write!(f, "{what} ({hint})"),
                None => f.write_str(what),
            },
            Self::NoType(DtabStore::Dtab) => f.write_str(
                "the API server does not know the type Dtab (l5d.io/v1alpha1): apply \
                 deploy/kubernetes/components/dtabs/custom-resource-definition.yaml first",
            ),
            Self::NoType(DtabStore::ConfigMap(_)) => {
                f.write_str("what answers does not know ConfigMaps: it is no API server")
            }
            Self::NotFound(which) => write!(f, "there is no {which}"),
            Self::NoNamespace(namespace) => write!(f, "there is no namespace {namespace}: create it first"),
            Self::Forbidden { verb, which, said } => {
                let (group, plural) = which.store.resource();
                let group = if group.is_empty() { "\"\"" } else { group };
                let scope = match &*which.namespace {
                    "" => "in every namespace, by a ClusterRoleBinding".to_owned(),
                    namespace => format!("in the namespace {namespace}"),
                };
                write!(
                    f,
                    "not permitted (403: {said}): a role has to allow `{verb}` of `{plural}` in the API group {group}, \
                     {scope}"
                )?;
                match which.store {
                    DtabStore::ConfigMap(_) => Ok(()),
                    DtabStore::Dtab => f.write_str(
                        "; the ClusterRoles weir-dtab-viewer and weir-dtab-editor of \
                                     deploy/kubernetes/components/dtabs do",
                    ),
                }
            }
            Self::Conflict { which, said } => write!(
                f,
                "{which} was changed meanwhile by somebody else ({said}): get it again, and make the change on top of that"
            ),
            Self::TooLarge { which, said } => write!(
                f,
                "{which} would be too large for the API server ({said}): use patterns (`/svc/*`) for similar entries, or \
                 routers with a dtab each"
            ),
            Self::Invalid { which, said } => write!(f, "{which} is refused by the API server: {said}"),
            Self::Unauthorized(said) => {
                write!(
                    f,
                    "the API server does not take these credentials (401: {said}): see the kubeconfig's user"
                )
            }
            Self::Failed(failure) => write!(f, "{failure}"),
        }
    }
}

impl std::error::Error for EditError {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dtab() -> Interpreter {
        Interpreter { store: DtabStore::Dtab, namespace: "l5d".into(), name: "web".into() }
    }

    fn map() -> Interpreter {
        Interpreter { store: DtabStore::ConfigMap("web.dtab".into()), ..dtab() }
    }

    fn of(which: &Interpreter, code: u16, body: &str) -> String {
        let answer = Response::builder().status(code).body(BytesMut::from(body)).unwrap();
        EditError::of("update", which, &answer).unwrap().to_string()
    }

    fn status(code: u16, reason: &str, message: &str, details: Value) -> String {
        json!({ "kind": "Status", "code": code, "reason": reason, "message": message, "details": details })
            .to_string()
    }

    /// What servers of 1.30 to 1.36 answer.
    #[test]
    fn each_refusal_says_what_to_do() {
        let details = |kind: &str, name: &str| json!({ "kind": kind, "name": name, "group": "l5d.io" });
        let cannot = "dtabs.l5d.io \"web\" is forbidden: User \"jo\" cannot update resource \"dtabs\" in API group \"l5d.io\" in \
                      the namespace \"l5d\"";
        for (code, body, expected) in [
            (
                404,
                "404 page not found\n".to_owned(),
                "does not know the type Dtab (l5d.io/v1alpha1): apply deploy/",
            ),
            (
                404,
                status(404, "NotFound", "the server could not find the requested resource", json!({})),
                "does not know the type Dtab",
            ),
            (
                404,
                status(404, "NotFound", "dtabs.l5d.io \"web\" not found", details("dtabs", "web")),
                "there is no Dtab l5d/web",
            ),
            (
                404,
                status(404, "NotFound", "namespaces \"l5d\" not found", details("namespaces", "l5d")),
                "there is no namespace l5d: create it first",
            ),
            (
                403,
                status(403, "Forbidden", cannot, details("dtabs", "web")),
                "has to allow `update` of `dtabs` in the API group l5d.io, in the namespace l5d; the ClusterRoles weir-dtab-viewer",
            ),
            (
                403,
                status(
                    403,
                    "Forbidden",
                    "unable to create new content in namespace l5d because it is being terminated",
                    json!({}),
                ),
                "Dtab l5d/web is refused by the API server: unable to create new content",
            ),
            (
                409,
                status(
                    409,
                    "Conflict",
                    "Operation cannot be fulfilled on dtabs.l5d.io \"web\"",
                    details("dtabs", "web"),
                ),
                "Dtab l5d/web was changed meanwhile by somebody else",
            ),
            (
                409,
                status(409, "AlreadyExists", "dtabs.l5d.io \"web\" already exists", details("dtabs", "web")),
                "already exists): get it again",
            ),
            (
                413,
                status(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", json!({})),
                "Dtab l5d/web would be too large for the API server (Request entity too large: limit is 3145728)",
            ),
            (413, "<html>".to_owned(), "would be too large for the API server (status 413)"),
            (500, status(500, "", "etcdserver: request is too large", json!({})), "would be too large"),
            (
                422,
                status(
                    422,
                    "Invalid",
                    "Dtab.l5d.io \"web\" is invalid: dentries[0].prefix: Too long",
                    details("Dtab", "web"),
                ),
                "Dtab l5d/web is refused by the API server: Dtab.l5d.io",
            ),
            (
                401,
                status(401, "Unauthorized", "Unauthorized", json!({})),
                "does not take these credentials (401",
            ),
            (429, String::new(), "asks for patience"),
            (500, "oops".to_owned(), "the API server refused (500: status 500)"),
        ] {
            let said = of(&dtab(), code, &body);
            assert!(said.contains(expected) && !said.contains('\n'), "{code} {body}: {said}");
        }
    }

    #[test]
    fn each_refusal_of_a_config_map_names_it_and_its_rule() {
        for (code, body, expected) in [
            (404, "no".to_owned(), "does not know ConfigMaps: it is no API server"),
            (
                404,
                status(404, "NotFound", "x", json!({ "kind": "configmaps", "name": "web" })),
                "there is no ConfigMap l5d/web (web.dtab)",
            ),
            (
                403,
                status(403, "Forbidden", "jo cannot update", json!({})),
                "`update` of `configmaps` in the API group \"\", in the namespace l5d",
            ),
            (
                422,
                status(
                    422,
                    "Invalid",
                    "ConfigMap \"web\" is invalid: []: Too long: may not be more than 1048576 bytes",
                    json!({}),
                ),
                "would be too large",
            ),
        ] {
            let said = of(&map(), code, &body);
            assert!(said.contains(expected), "{code} {body}: {said}");
        }
    }

    #[test]
    fn what_is_well_is_no_error() {
        let answer = Response::builder().status(200).body(BytesMut::new()).unwrap();
        assert_eq!(EditError::of("get", &dtab(), &answer), None);
    }
}
