//! `Service`, of `v1`.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::meta::{Address, Metadata, PortNumber};
use crate::domain::ports::PortWishes;

/// The default of `timeoutSeconds`: three hours.
const AFFINITY_SECONDS: u64 = 10_800;

/// A Kubernetes Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceObject {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its spec.
    pub spec: ServiceSpec,
}

/// A Service's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `type`: weir only distinguishes `ExternalName` from the others.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// `clusterIP`.
    #[serde(default, rename = "clusterIP")]
    pub cluster_ip: Option<ClusterIp>,
    /// `clusterIPs`: the same and the one of the other family.
    #[serde(default, rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<ClusterIp>>,
    /// `ports`.
    #[serde(default)]
    pub ports: Option<Vec<SpecPort>>,
    /// `externalName`: the DNS name that an `ExternalName` service stands for.
    #[serde(default)]
    pub external_name: Option<String>,
    /// `sessionAffinity`: `ClientIP`, or `None`.
    #[serde(default)]
    pub session_affinity: Option<String>,
    /// `sessionAffinityConfig`.
    #[serde(default)]
    pub session_affinity_config: Option<AffinityConfig>,
    /// `ipFamilies`: the first is the preferred one.
    #[serde(default)]
    pub ip_families: Option<Vec<Family>>,
    /// `internalTrafficPolicy`.
    #[serde(default)]
    pub internal_traffic_policy: TrafficPolicy,
    /// `externalTrafficPolicy`.
    #[serde(default)]
    pub external_traffic_policy: TrafficPolicy,
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
    /// An unknown family.
    #[serde(other)]
    Other,
}

/// Which endpoints a node may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All of them.
    #[default]
    Cluster,
    /// Only those that run on it.
    Local,
}

/// A Service's `sessionAffinityConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AffinityConfig {
    /// `clientIP`.
    #[serde(default, rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
}

/// The settings of `ClientIP`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// How long a client keeps its endpoint.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecPort {
    /// Its name; may be left out where there is only one.
    #[serde(default)]
    pub name: Option<String>,
    /// The number applications dial.
    pub port: PortNumber,
    /// `TCP`, the default, `UDP` or `SCTP`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Its application protocol.
    #[serde(default)]
    pub app_protocol: Option<String>,
    /// `nodePort`: the number at nodes' addresses; 0 where there is none.
    #[serde(default)]
    pub node_port: Option<u16>,
}

/// A cluster IP, or a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterIp {
    /// `None`: the service is headless.
    Headless,
    /// Empty: not assigned yet, or an `ExternalName` service.
    Unset,
    /// An address.
    At(IpAddr),
}

impl ServiceObject {
    /// The addresses applications dial, without duplicates.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let spec = &self.spec;
        let mut addresses = Vec::new();
        for ip in spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()) {
            if let ClusterIp::At(address) = ip
                && !addresses.contains(address)
            {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// The port settings in its annotations, and their mistakes.
    pub fn port_wishes(&self) -> (PortWishes, Vec<String>) {
        let Some(annotations) = &self.metadata.annotations else { return Default::default() };
        PortWishes::read(annotations.skip_ports.as_deref(), annotations.opaque_ports.as_deref())
    }

    /// The family whose addresses are used for endpoints that have both.
    pub fn preferred_family(&self) -> Option<Family> {
        match self.spec.ip_families.as_deref() {
            Some([first, _, ..]) => Some(*first),
            _ => None,
        }
    }

    /// The DNS name this service is an alias of, if it is one.
    pub fn external_name(&self) -> Option<&str> {
        let name = self.spec.external_name.as_deref()?;
        (self.spec.kind.as_deref() == Some("ExternalName")).then_some(name)
    }

    /// How long a client keeps its endpoint, with session affinity.
    pub fn affinity(&self) -> Option<Duration> {
        let config = self.spec.session_affinity_config.unwrap_or_default().client_ip.unwrap_or_default();
        let seconds = config.timeout_seconds.map_or(AFFINITY_SECONDS, u64::from);
        (self.spec.session_affinity.as_deref() == Some("ClientIP")).then(|| Duration::from_secs(seconds))
    }
}

impl SpecPort {
    /// Whether it is a TCP port.
    pub fn is_tcp(&self) -> bool {
        super::protocol::is_tcp(self.protocol.as_deref())
    }
}

impl<'de> Deserialize<'de> for TrafficPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(if text.as_deref() == Some("Local") { Self::Local } else { Self::Cluster })
    }
}

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "None" => Ok(Self::Headless),
            "" => Ok(Self::Unset),
            _ => {
                let address = Address::deserialize(de::value::StrDeserializer::<D::Error>::new(&text))?;
                Ok(Self::At(address.0))
            }
        }
    }
}
