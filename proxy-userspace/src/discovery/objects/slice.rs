//! `EndpointSlice`, of `discovery.k8s.io/v1`.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};

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
    /// Its address: the first of `addresses`, as the API documentation tells consumers; all must be valid.
    #[serde(default, rename = "addresses", deserialize_with = "first")]
    pub address: Option<Address>,
    /// Its state.
    #[serde(default)]
    pub conditions: Option<Conditions>,
    /// `hostname`: its name within the service, if it has a stable one: a pod of a StatefulSet.
    #[serde(default, deserialize_with = "shared")]
    pub hostname: Option<Arc<str>>,
    /// The node it runs on.
    #[serde(default, deserialize_with = "shared")]
    pub node_name: Option<Arc<str>>,
    /// The zone it runs in.
    #[serde(default, deserialize_with = "shared")]
    pub zone: Option<Arc<str>>,
    /// `targetRef`: the pod that it is, as whoever wrote the slice says. Not stored for endpoints of other nodes.
    #[serde(default, rename = "targetRef")]
    pub target: Option<Box<TargetRef>>,
    /// Its hints: most endpoints have none, and the others share a few.
    #[serde(default, deserialize_with = "shared_hints")]
    pub hints: Option<Arc<Hints>>,
}

/// An endpoint's `targetRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TargetRef {
    /// `Pod`, mostly.
    #[serde(default)]
    pub kind: Option<String>,
    /// Its namespace; that of the slice if absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
}

/// An endpoint's `hints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hints {
    /// `forZones`: the zones whose traffic it should take.
    #[serde(default)]
    pub for_zones: Option<Vec<HintedName>>,
    /// `forNodes`: the nodes whose traffic it should take.
    #[serde(default)]
    pub for_nodes: Option<Vec<HintedName>>,
}

/// A zone or a node in [`Hints`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct HintedName {
    /// Its name.
    pub name: String,
}

/// An endpoint's conditions; each may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Conditions {
    /// Takes traffic; unknown means yes.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Able to answer, terminating or not; unknown means the value of `ready`.
    #[serde(default)]
    pub serving: Option<bool>,
    /// Shutting down; unknown means no.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlicePort {
    /// The name of the service's port; absent for the unnamed one.
    #[serde(default)]
    pub name: Option<String>,
    /// The number endpoints listen on; absent means every port.
    #[serde(default)]
    pub port: Option<PortNumber>,
    /// `TCP`, the default, `UDP` or `SCTP`.
    #[serde(default)]
    pub protocol: Option<String>,
}

fn first<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    let addresses = Option::<Vec<Address>>::deserialize(deserializer)?;
    Ok(addresses.unwrap_or_default().first().copied())
}

fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(Arc::from))
}

fn shared_hints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Hints>>, D::Error> {
    Ok(Option::<Hints>::deserialize(deserializer)?.map(Arc::new))
}

impl SliceObject {
    /// The service this is a part of.
    pub fn service_name(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.service_name.as_deref()
    }
}

impl Conditions {
    /// The resulting condition, by the rules of the EndpointSlice API.
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
