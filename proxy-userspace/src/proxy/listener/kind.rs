//! Which of weir's listeners a connection came to.

/// The listener that accepted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// :4140, for clients that use an explicit proxy.
    Outgoing,
    /// The transparent ports, to which the eBPF program diverts connections.
    Transparent,
    /// The pods' own ports, for the weirs of other nodes: connections that the eBPF program tells from plain ones.
    Incoming,
    /// :9990, for operators and their tools.
    Admin,
    /// :9991, for the kubelet and Prometheus.
    Probes,
}

impl ListenerKind {
    /// Whether its clients may speak HTTP/2.
    pub fn serves_http2(self) -> bool {
        matches!(self, Self::Outgoing | Self::Transparent)
    }

    /// Whether the workers serve its connections.
    pub fn is_data(self) -> bool {
        matches!(self, Self::Outgoing | Self::Transparent | Self::Incoming)
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Outgoing => "outgoing",
            Self::Transparent => "transparent",
            Self::Incoming => "incoming",
            Self::Admin => "admin",
            Self::Probes => "probes",
        }
    }
}
