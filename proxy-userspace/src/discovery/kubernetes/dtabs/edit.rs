//! Objects that have a dtab, read and written one at a time, for `weir dtab`.
//!
//! A write says the version that it is based on, so that the server refuses it where somebody else has written
//! meanwhile. What is not the dtab stays as it was: labels, annotations, other keys of a ConfigMap.

use std::time::Duration;

use bytes::BytesMut;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, Uri};
use kube::client::Body;
use serde_json::{Value, json};

use super::edit_error::EditError;
use super::object;
use crate::config::{DtabStore, Interpreter, Kubernetes, Mistake};
use crate::discovery::kubernetes::access::Access;
use crate::discovery::kubernetes::call::{self, Head, Page};
use crate::discovery::kubernetes::failure::{Failure, chain};
use crate::domain::dtab::Dtab;

/// Who wrote a field, as `kubectl` shows it (`metadata.managedFields`).
const MANAGER: &str = "weir-dtab";
/// Objects asked for at a time.
const PAGE: &str = "500";
/// The most pages of a list.
const PAGES: usize = 100;

/// Reads and writes the objects that have dtabs.
pub struct DtabEditor {
    access: Access,
    patience: Duration,
}

/// An object, as the server has it.
#[derive(Clone, Debug)]
pub struct DtabObject {
    /// Which one.
    pub which: Interpreter,
    value: Value,
}

/// The dtab to write.
#[derive(Clone, Copy, Debug)]
pub struct NewDtab<'a> {
    /// Its entries, for a `Dtab`.
    pub dtab: &'a Dtab,
    /// Its text, for a ConfigMap.
    pub text: &'a str,
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is stored.
    Store,
    /// The server does everything but store it (`dryRun=All`).
    DryRun,
}

impl DtabObject {
    /// Its version (`metadata.resourceVersion`).
    pub fn version(&self) -> String {
        Head::from_object(&self.value).version.unwrap_or_default()
    }

    /// What weir said of it: its `status.state`, and its `status.problem`.
    pub fn status(&self) -> (Option<&str>, Option<&str>) {
        let status = |key| self.value.get("status").and_then(|status| status.get(key)?.as_str());
        (status("state"), status("problem"))
    }

    /// What weir said is wrong with it: its `status.problem`, or else its `status.message`.
    pub fn wrong(&self) -> Option<&str> {
        let message = self.value.get("status").and_then(|status| status.get("message")?.as_str());
        self.status().1.or(message)
    }

    /// Its dtab.
    ///
    /// # Errors
    ///
    /// Every mistake, with its place.
    pub fn dtab(&self) -> Result<Dtab, Vec<String>> {
        object::read_all(&self.which, &self.value)
    }

    /// Its dtab as it is written, right or not: each entry of a `Dtab`, or the text under the key. `None` if there is none
    /// that could be shown.
    pub fn text(&self) -> Option<String> {
        match &self.which.store {
            DtabStore::ConfigMap(key) => object::text_of(key, &self.value).map(str::to_owned),
            DtabStore::Dtab => {
                let entries = object::entries(&self.value).ok()?;
                // Behind a comment the `;` would belong to it.
                let end = |entry: &str| if entry.replace("/#", "").contains('#') { "\n;\n" } else { " ;\n" };
                Some(entries.iter().flat_map(|entry| [entry, end(entry)]).collect())
            }
        }
    }
}

impl DtabEditor {
    /// One for the API server of these settings: their kubeconfig, or else `KUBECONFIG`, `~/.kube/config`, the pod's
    /// service account.
    pub fn new(settings: Kubernetes) -> Self {
        Self { patience: settings.read_timeout, access: Access::of_operator(settings) }
    }

    /// The object that is called `[NAMESPACE/]NAME`, by default in the namespace of the kubeconfig's context or of the
    /// service account.
    ///
    /// # Errors
    ///
    /// It is no name, or there is no way to a server.
    pub async fn named(&self, name: &str, key: Option<&str>) -> Result<Interpreter, EditError> {
        let client = self.access.client().await?;
        Interpreter::named(name, client.default_namespace(), key).map_err(EditError::Name)
    }

    /// The object; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The server's, see [`EditError`].
    pub async fn get(&self, which: &Interpreter) -> Result<Option<DtabObject>, EditError> {
        let answer = self.ask(request(Method::GET, path(which, true), &[], None)?).await?;
        match EditError::of("get", which, &answer) {
            None => read(which, &answer).map(Some),
            Some(EditError::NotFound(_)) => Ok(None),
            Some(error) => Err(error),
        }
    }

    /// Every `Dtab`, or those of a namespace.
    ///
    /// # Errors
    ///
    /// The server's, see [`EditError`].
    pub async fn list(&self, namespace: Option<&str>) -> Result<Vec<DtabObject>, EditError> {
        let store = DtabStore::Dtab;
        let any =
            Interpreter { store, namespace: namespace.unwrap_or_default().to_owned(), name: String::new() };
        if namespace.is_some() {
            // A name with nothing in it that would have to be escaped.
            Interpreter::named("x", &any.namespace, None).map_err(EditError::Name)?;
        }
        let (mut found, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut query = vec![("limit", PAGE)];
            query.extend(next.as_deref().map(|next| ("continue", next)));
            let answer = self.ask(request(Method::GET, path(&any, false), &query, None)?).await?;
            if let Some(error) = EditError::of("list", &any, &answer) {
                return Err(error);
            }
            let page = Page::from_body(answer.body())?;
            for item in page.items.unwrap_or_default() {
                let value: Value = serde_json::from_str(item.get()).map_err(|error| garbage(&error))?;
                let head = Head::from_object(&value);
                let namespace = head.namespace.unwrap_or_default();
                let which = Interpreter { namespace, name: head.name, ..any.clone() };
                found.push(DtabObject { which, value });
            }
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(more) => next = Some(more),
                None => return Ok(found),
            }
        }
        Err(Failure::Garbage(format!("a list of more than {PAGES} pages")).into())
    }

    /// Creates the object with this dtab, if there is none yet.
    ///
    /// # Errors
    ///
    /// The server's, see [`EditError`]; [`EditError::Conflict`] if there is one by now.
    pub async fn create(
        &self,
        which: &Interpreter,
        new: NewDtab<'_>,
        how: Write,
    ) -> Result<DtabObject, EditError> {
        let (api, kind) = which.store.kind();
        let metadata = json!({ "namespace": which.namespace, "name": which.name });
        let object = json!({ "apiVersion": api, "kind": kind, "metadata": metadata });
        self.write("create", which, with_dtab(object, which, new), how).await
    }

    /// Replaces the dtab of the object as it was at its version, or at `version`.
    ///
    /// # Errors
    ///
    /// The server's, see [`EditError`]; [`EditError::Conflict`] if it has another version by now.
    pub async fn replace(
        &self,
        object: &DtabObject,
        version: Option<&str>,
        new: NewDtab<'_>,
        how: Write,
    ) -> Result<DtabObject, EditError> {
        let mut value = object.value.clone();
        if let Some(version) = version {
            value["metadata"]["resourceVersion"] = json!(version);
        }
        self.write("update", &object.which, with_dtab(value, &object.which, new), how).await
    }

    async fn write(
        &self,
        verb: &'static str,
        which: &Interpreter,
        object: Value,
        how: Write,
    ) -> Result<DtabObject, EditError> {
        let mut query = vec![("fieldManager", MANAGER)];
        query.extend((how == Write::DryRun).then_some(("dryRun", "All")));
        let is_new = verb == "create";
        let method = if is_new { Method::POST } else { Method::PUT };
        let answer = self.ask(request(method, path(which, !is_new), &query, Some(&object))?).await?;
        match EditError::of(verb, which, &answer) {
            None => read(which, &answer),
            // It was there a moment ago.
            Some(EditError::NotFound(which)) => {
                Err(EditError::Conflict { which, said: "it was deleted meanwhile".to_owned() })
            }
            Some(error) => Err(error),
        }
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<BytesMut>, EditError> {
        Ok(call::whole(&self.access.client().await?, request, self.patience).await?)
    }
}

/// The object with this dtab in the place of its own.
fn with_dtab(mut object: Value, which: &Interpreter, new: NewDtab<'_>) -> Value {
    match &which.store {
        DtabStore::Dtab => {
            let entries = new.dtab.entries.iter();
            let entry = |it: &crate::domain::dtab::Dentry| json!({ "prefix": it.prefix.to_string(), "dst": it.tree.to_string() });
            object["dentries"] = entries.map(entry).collect();
        }
        DtabStore::ConfigMap(key) => {
            if !object.get("data").is_some_and(Value::is_object) {
                object["data"] = json!({});
            }
            object["data"][key] = json!(new.text);
        }
    }
    object
}

/// Where the objects of this kind are, or the one.
fn path(which: &Interpreter, one: bool) -> String {
    let Interpreter { namespace, name, .. } = which;
    let (group, plural) = which.store.resource();
    let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1alpha1") };
    let scope = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let name = if one { format!("/{name}") } else { String::new() };
    format!("{root}{scope}/{plural}{name}")
}

fn request(
    method: Method,
    path: String,
    query: &[(&str, &str)],
    object: Option<&Value>,
) -> Result<Request<Body>, EditError> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let uri: Uri = if query.is_empty() { path } else { format!("{path}?{query}") }
        .parse()
        .map_err(|error| EditError::Name(Mistake::new(format!("no path of an object: {error}"))))?;
    let body = object.map_or_else(Body::empty, |object| Body::from(object.to_string().into_bytes()));
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json.clone());
    request.headers_mut().insert(CONTENT_TYPE, json);
    Ok(request)
}

fn read(which: &Interpreter, answer: &Response<BytesMut>) -> Result<DtabObject, EditError> {
    let object: serde_json::Map<_, _> =
        serde_json::from_slice(answer.body()).map_err(|error| garbage(&error))?;
    let value = Value::Object(object);
    Ok(DtabObject { which: which.clone(), value })
}

fn garbage(error: &serde_json::Error) -> Failure {
    Failure::Garbage(format!("no object: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_object_is_refused_and_not_written_into() {
        let which = Interpreter { store: DtabStore::Dtab, namespace: "l5d".into(), name: "web".into() };
        for (body, is_read) in
            [("{}", true), ("[]", false), ("[{}]", false), ("\"a\"", false), ("null", false), ("", false)]
        {
            assert_eq!(read(&which, &Response::new(BytesMut::from(body))).is_ok(), is_read, "{body}");
        }
    }
}
