//! The protocol that a port declares.

use crate::domain::catalog::AppProtocol;

/// Whether a port's `protocol` is TCP, the default.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

/// The meaning of `appProtocol`: Kubernetes' own names (KEP-3726), and the IANA and mesh names in use for protocols
/// that weir forwards without detection, several of which are server-first.
pub fn app_protocol(declared: Option<&str>) -> AppProtocol {
    let Some(declared) = declared else { return AppProtocol::Sniff };
    match declared.to_ascii_lowercase().as_str() {
        "http" | "http1" | "kubernetes.io/ws" => AppProtocol::Http1,
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => AppProtocol::Http2,
        "tcp" | "tls" | "ssl" | "https" | "kubernetes.io/wss" | "grpcs" | "mysql" | "postgresql"
        | "postgres" | "redis" | "mongo" | "mongodb" | "amqp" | "kafka" | "smtp" | "imap" | "ftp" | "ssh" => {
            AppProtocol::Opaque
        }
        _ => AppProtocol::Sniff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_protocol_spares_the_look_at_the_bytes() {
        for (declared, expected) in [
            (None, AppProtocol::Sniff),
            (Some("http"), AppProtocol::Http1),
            (Some("HTTP"), AppProtocol::Http1),
            (Some("kubernetes.io/h2c"), AppProtocol::Http2),
            (Some("https"), AppProtocol::Opaque),
            (Some("tcp"), AppProtocol::Opaque),
            (Some("example.com/own"), AppProtocol::Sniff),
            (Some(""), AppProtocol::Sniff),
        ] {
            assert_eq!(app_protocol(declared), expected, "{declared:?}");
        }
    }
}
