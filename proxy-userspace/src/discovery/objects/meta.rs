//! Types shared by all objects: metadata, addresses, ports.

use std::fmt;
use std::net::IpAddr;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The metadata that identifies objects, and the service of a slice.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Metadata {
    /// The object's name.
    pub name: String,
    /// Its namespace; `default` if absent, as with `kubectl apply`.
    #[serde(default = "default_namespace", deserialize_with = "namespace")]
    pub namespace: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Option<Annotations>,
}

/// weir's annotations on a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Annotations {
    /// `weir.dev/skip-ports`: ports that are not diverted.
    #[serde(default, rename = "weir.dev/skip-ports", deserialize_with = "scalar")]
    pub skip_ports: Option<String>,
    /// `weir.dev/opaque-ports`: ports that are forwarded without protocol detection.
    #[serde(default, rename = "weir.dev/opaque-ports", deserialize_with = "scalar")]
    pub opaque_ports: Option<String>,
}

/// The one label that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Labels {
    /// `kubernetes.io/service-name`: the service of an EndpointSlice.
    #[serde(default, rename = "kubernetes.io/service-name")]
    pub service_name: Option<String>,
}

/// The text of a scalar. An API server has only strings as annotations; a file may contain `80` or `false` without
/// quotes, which YAML reads as a number or a boolean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

/// A port number, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortNumber(pub u16);

/// An address that can be listened on: neither unspecified nor multicast. IPv4-mapped becomes IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub IpAddr);

fn default_namespace() -> String {
    "default".to_owned()
}

/// An empty namespace counts as absent.
fn namespace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let written = Option::<String>::deserialize(deserializer)?;
    Ok(written.filter(|namespace| !namespace.is_empty()).unwrap_or_else(default_namespace))
}

fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Scalar>::deserialize(deserializer)?.map(|Scalar(text)| text))
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de> Deserialize<'de> for PortNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;

        impl Visitor<'_> for PortVisitor {
            type Value = PortNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number from 1 to 65535")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortNumber, E> {
                match u16::try_from(number) {
                    Ok(port) if port > 0 => Ok(PortNumber(port)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }
        }

        deserializer.deserialize_u16(PortVisitor)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;

        impl Visitor<'_> for AddressVisitor {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the IP address of an endpoint")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Address, E> {
                let address = text.parse().map(|address: IpAddr| address.to_canonical());
                match address {
                    Ok(address) if !address.is_unspecified() && !address.is_multicast() => {
                        Ok(Address(address))
                    }
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_str(AddressVisitor)
    }
}
