//! What the programs count, one number per decision, so that "why was this connection not diverted?" has
//! an answer without a debugger.

/// An index into the per-CPU map `COUNTS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Rewritten to a transparent port.
    Diverted,
    /// Direct: no known destination.
    OutOfScope,
    /// Direct: a destination that is never diverted.
    Excluded,
    /// Direct: weir's own connection, by its cgroup.
    Own,
    /// Direct: no cgroup on the way to the process is enrolled.
    NotEnrolled,
    /// Direct: the nearest cgroup with a policy is to be left alone.
    LeftAlone,
    /// Direct: the pod is diverted, but not to this port.
    SkippedPort,
    /// Direct: a client in the node's own network namespace.
    Host,
    /// Direct: the node has no address of that family.
    NoNodeAddress,
    /// Direct: no settings yet, or those of another layout.
    NoSettings,
    /// Direct although wanted: no listening socket, weir is gone.
    NoListener,
    /// Direct although wanted: weir does not move.
    StaleHeart,
    /// Direct although wanted: the kernel had no memory to remember the dialled address.
    NoStorage,
    /// Refused, because weir is gone and failures are closed.
    RefusedNoListener,
    /// Refused, because weir does not move and failures are closed.
    RefusedStaleHeart,
    /// Refused, because the kernel had no memory and failures are closed.
    RefusedNoStorage,
    /// The dialled address was filed for weir to find.
    Filed,
    /// It could not be filed, for want of memory or because an entry of the same addresses, ports and number is there:
    /// weir will close that connection.
    NotFiled,
    /// An application that asked for its peer was told the address it had dialled.
    PeerNamed,
    /// Direct: the destination has no number, with weir's sockets in the pods.
    NoNumber,
    /// Direct: the socket is bound to an interface, with weir's sockets in the pods.
    BoundDevice,
    /// Direct: the socket is bound to an address that is not known as one of its pod's, with weir's sockets in the pods.
    BoundSource,
    /// Direct: processes of another pod connect from the same network namespace, so it is not known whose it is.
    SharedNetns,
    /// An application that asked for its own address was told its pod's.
    SocketNamed,
    /// Refused: the service that was dialled has no endpoint.
    NoEndpoint,
}

impl Count {
    /// Every counter, in the order of its index.
    pub const ALL: [Self; 25] = [
        Self::Diverted,
        Self::OutOfScope,
        Self::Excluded,
        Self::Own,
        Self::NotEnrolled,
        Self::LeftAlone,
        Self::SkippedPort,
        Self::Host,
        Self::NoNodeAddress,
        Self::NoSettings,
        Self::NoListener,
        Self::StaleHeart,
        Self::NoStorage,
        Self::RefusedNoListener,
        Self::RefusedStaleHeart,
        Self::RefusedNoStorage,
        Self::Filed,
        Self::NotFiled,
        Self::PeerNamed,
        Self::NoNumber,
        Self::BoundDevice,
        Self::BoundSource,
        Self::SharedNetns,
        Self::SocketNamed,
        Self::NoEndpoint,
    ];

    /// Its name in metrics and in the admin interface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Diverted => "diverted",
            Self::OutOfScope => "direct_out_of_scope",
            Self::Excluded => "direct_excluded",
            Self::Own => "direct_own",
            Self::NotEnrolled => "direct_not_enrolled",
            Self::LeftAlone => "direct_left_alone",
            Self::SkippedPort => "direct_skipped_port",
            Self::Host => "direct_host",
            Self::NoNodeAddress => "direct_no_node_address",
            Self::NoSettings => "direct_no_settings",
            Self::NoListener => "direct_no_listener",
            Self::StaleHeart => "direct_stale_heart",
            Self::NoStorage => "direct_no_storage",
            Self::RefusedNoListener => "refused_no_listener",
            Self::RefusedStaleHeart => "refused_stale_heart",
            Self::RefusedNoStorage => "refused_no_storage",
            Self::Filed => "filed",
            Self::NotFiled => "not_filed",
            Self::PeerNamed => "peer_named",
            Self::NoNumber => "direct_no_number",
            Self::BoundDevice => "direct_bound_device",
            Self::BoundSource => "direct_bound_source",
            Self::SharedNetns => "direct_shared_netns",
            Self::SocketNamed => "socket_named",
            Self::NoEndpoint => "refused_no_endpoint",
        }
    }
}
