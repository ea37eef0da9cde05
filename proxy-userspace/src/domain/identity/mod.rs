//! Who a workload is: the SPIFFE ID of its service account.
//!
//! An ID is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` (the SPIFFE-ID standard, sections 2.1 to 2.3), as
//! Istio and linkerd 2 write it. Others are valid SPIFFE IDs, but no service accounts of Kubernetes, and are rejected here.
//! There is one way to write an ID: what parses, prints as the same text.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest ID, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_ID: usize = 2048;

/// The longest trust domain, in bytes (SPIFFE-ID, section 2.1).
const MAX_TRUST_DOMAIN: usize = 255;

/// The longest namespace, and the longest service account, in bytes: Kubernetes' limits for these objects' names.
const MAX_NAMESPACE: usize = 63;
const MAX_ACCOUNT: usize = 253;

const SCHEME: &str = "spiffe://";

/// What vouches for IDs: all that is below one set of root certificates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// A service account of Kubernetes, `shop/frontend`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// The SPIFFE ID of a service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Who vouches for it.
    pub trust_domain: TrustDomain,
    /// Whose ID it is.
    pub account: ServiceAccount,
}

/// Why a text is no ID, or no part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// It is longer than [`MAX_ID`].
    TooLong,
    /// It does not begin with `spiffe://`.
    Scheme,
    /// The trust domain is no name of lower-case letters, digits, dots, hyphens and underscores.
    TrustDomain,
    /// What follows the trust domain is not `/ns/<namespace>/sa/<service account>`.
    Path,
    /// The namespace is no DNS label (RFC 1123).
    Namespace,
    /// The service account is no DNS name (RFC 1123).
    Account,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is longer than 2048 bytes",
            Self::Scheme => "it does not begin with spiffe://",
            Self::TrustDomain => {
                "the trust domain is not 1 to 255 lower-case letters, digits, dots, hyphens and underscores"
            }
            Self::Path => "it does not end with /ns/<namespace>/sa/<service account>",
            Self::Namespace => "the namespace is not a DNS label",
            Self::Account => "the service account is not a DNS name",
        })
    }
}

impl std::error::Error for IdError {}

impl TrustDomain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of a service account in this domain.
    pub fn id_of(&self, account: &ServiceAccount) -> SpiffeId {
        SpiffeId { trust_domain: self.clone(), account: account.clone() }
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_inside =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        match (1..=MAX_TRUST_DOMAIN).contains(&text.len()) && text.bytes().all(is_inside) {
            true => Ok(Self(text.into())),
            false => Err(IdError::TrustDomain),
        }
    }
}

impl ServiceAccount {
    fn new(namespace: &str, name: &str) -> Result<Self, IdError> {
        if namespace.len() > MAX_NAMESPACE || !is_label(namespace) {
            return Err(IdError::Namespace);
        }
        if name.len() > MAX_ACCOUNT || !name.split('.').all(is_label) {
            return Err(IdError::Account);
        }
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name within the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for ServiceAccount {
    type Err = IdError;

    /// Reads `namespace/name`.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (namespace, name) = text.split_once('/').ok_or(IdError::Path)?;
        Self::new(namespace, name)
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID {
            return Err(IdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(IdError::Path)?;
        let trust_domain = domain.parse()?;
        let (namespace, name) =
            path.strip_prefix("ns/").and_then(|rest| rest.split_once("/sa/")).ok_or(IdError::Path)?;
        Ok(Self { trust_domain, account: ServiceAccount::new(namespace, name)? })
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceAccount { namespace, name } = &self.account;
        write!(f, "{SCHEME}{}/ns/{namespace}/sa/{name}", self.trust_domain)
    }
}

/// A DNS label as Kubernetes has it (RFC 1123, section 2.1).
fn is_label(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
