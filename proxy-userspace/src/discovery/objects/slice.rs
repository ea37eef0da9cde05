//! `EndpointSlice`, of `discovery.k8s.io/v1`.

use serde::Deserialize;

use super::meta::{Address, Metadata, PortNumber};
use crate::domain::catalog::Condition;

/// A part of a service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SliceObject {
    /// Its metadata; a label names the service.
    pub metadata: Metadata,
    /// The endpoints.
    #[serde(default)]
    pub endpoints: Option<Vec<SliceEndpoint>>,
    /// The ports that every endpoint of this slice has.
    #[serde(default)]
    pub ports: Option<Vec<SlicePort>>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceEndpoint {
    /// Its address. Consumers use the first one only, as the API documentation tells them to.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// Its state.
    #[serde(default)]
    pub conditions: Option<Conditions>,
    /// The node it runs on.
    #[serde(default)]
    pub node_name: Option<String>,
    /// The zone it runs in.
    #[serde(default)]
    pub zone: Option<String>,
}

/// An endpoint's conditions; each may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Conditions {
    /// Takes traffic; unknown means yes.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Able to answer, terminating or not; unknown means as `ready`.
    #[serde(default)]
    pub serving: Option<bool>,
    /// On its way out; unknown means no.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlicePort {
    /// The name of the service's port that this is behind; absent for the one that has no name.
    #[serde(default)]
    pub name: Option<String>,
    /// The number endpoints listen on; absent means every port.
    #[serde(default)]
    pub port: Option<PortNumber>,
    /// `TCP`, the default, `UDP` or `SCTP`.
    #[serde(default)]
    pub protocol: Option<String>,
}

impl SliceObject {
    /// The service this is a part of.
    pub fn service_name(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.service_name.as_deref()
    }
}

impl Conditions {
    /// The condition these amount to, by the rules of the EndpointSlice API.
    pub fn condition(self) -> Condition {
        let ready = self.ready.unwrap_or(true);
        if ready {
            Condition::Ready
        } else if self.terminating.unwrap_or(false) && self.serving.unwrap_or(ready) {
            Condition::Terminating
        } else {
            Condition::NotReady
        }
    }
}
