//! Why keys of linkerd have no equivalent in weir, and what replaces them.

/// Keys of one section, each with its reason.
pub(super) type Reasons = &'static [(&'static str, &'static str)];

/// The top level of the file.
pub(super) const ROOT: Reasons = &[
    ("tracers", "weir writes no traces yet"),
    ("usage", "weir reports to nobody"),
    ("announcers", "weir announces nothing: Kubernetes knows its services"),
];

/// `admin`.
pub(super) const ADMIN: Reasons = &[
    ("security", "`admin.allow` says who may connect; `probes` is a listener without anything that acts"),
    ("httpIdentifierPort", "`weir explain` and /api/explain tell how a request is named and where it goes"),
    ("workerThreads", "the control plane has a thread of its own"),
    ("socketOptions", "weir sets its sockets itself"),
];

/// A router.
pub(super) const ROUTER: Reasons = &[
    ("responseClassifier", CLASSIFIER),
    ("failFast", "the breaker (`breaker`) takes a failing endpoint out"),
    ("bindingTimeoutMs", "a name is bound at once from what is known; DNS has its own bounds"),
    ("httpAccessLog", ACCESS_LOG),
    ("httpAccessLogRollPolicy", ACCESS_LOG),
    ("httpAccessLogAppend", ACCESS_LOG),
    ("httpAccessLogRotateCount", ACCESS_LOG),
    ("h2AccessLog", ACCESS_LOG),
    ("h2AccessLogRollPolicy", ACCESS_LOG),
    ("h2AccessLogAppend", ACCESS_LOG),
    ("h2AccessLogRotateCount", ACCESS_LOG),
    ("experimental", "not needed: nothing of weir's has to be enabled so"),
    ("addForwardedHeader", "weir sets no Forwarded header"),
    ("tracePropagator", "weir passes trace headers on as they come"),
    ("loggers", ACCESS_LOG),
    ("streamingEnabled", STREAMS),
    ("streamAfterContentLengthKB", STREAMS),
    ("maxChunkKB", STREAMS),
    ("maxRequestKB", STREAMS),
    ("maxResponseKB", STREAMS),
    ("maxErrResponseKB", STREAMS),
    ("maxHeadersKB", "`limits.headerBytes` bounds a head, its first line included; the default is 64KiB"),
    ("maxInitialLineKB", "`limits.targetBytes` bounds a request's target; the default is 8KiB"),
    ("compressionLevel", "weir passes bodies on as they are, and compresses nothing"),
    ("announcers", "weir announces nothing: Kubernetes knows its services"),
    ("requestAuthorizers", AUTHORIZERS),
    ("originator", "weir has no other side that would need to know"),
];

/// A server of a router.
pub(super) const SERVER: Reasons = &[
    (
        "maxConcurrentRequests",
        "`limits.connections` bounds connections, which is not the same; requests at once are not bounded",
    ),
    (
        "maxConcurrentStreamsPerConnection",
        "`limits.http2.maxConcurrentStreams` bounds the streams of a client's connection",
    ),
    ("initialStreamWindowBytes", "`limits.http2.streamWindow` is what a client may send ahead on a stream"),
    ("addForwardedHeader", "weir sets no Forwarded header"),
    ("timestampHeader", "weir stamps no requests"),
    ("maxCallDepth", "weir refuses a request that has passed through too many proxies by itself"),
    ("announce", "weir announces nothing: Kubernetes knows its services"),
    ("serverSession", "`limits.idle` bounds an idle connection; the default is 5m"),
    (
        "socketOptions",
        "weir sets its sockets itself; `limits.silence`, `limits.keepAlive` and `limits.unacknowledged` bound silence",
    ),
    ("engine", "weir has one engine"),
];

/// A router's `bindingCache`.
pub(super) const BINDING_CACHE: Reasons = &[
    ("paths", BINDINGS),
    ("trees", "weir keeps no trees apart from the names that lead to them"),
    ("bounds", BINDINGS),
    ("clients", "a client is a Service's port, and is kept as long as that is there"),
];

/// `client`, for all destinations.
pub(super) const CLIENT: Reasons = &[
    ("retries", RETRIES),
    ("failFast", "the breaker (`breaker`) takes a failing endpoint out"),
    (
        "hostConnectionPool",
        "`limits.poolIdle` and `limits.poolConnections` bound unused connections; those in use are not",
    ),
    ("clientSession", "`limits.poolIdle` bounds an unused connection; the default is 60s"),
    ("requestAuthorizers", AUTHORIZERS),
    ("responseClassifier", CLASSIFIER),
    ("connectTimeoutMs", "`limits.connect` bounds a connect to an endpoint; the default is 1s"),
    (
        "socketOptions",
        "weir sets its sockets itself; `limits.silence`, `limits.keepAlive` and `limits.unacknowledged` bound silence",
    ),
    ("engine", "weir has one engine"),
];

/// `service`, for all destinations.
pub(super) const SERVICE: Reasons = &[("retries", RETRIES), ("responseClassifier", CLASSIFIER)];

/// An identifier.
pub(super) const IDENTIFIER: Reasons = &[("host", INGRESSES), ("port", INGRESSES)];

/// A namer.
pub(super) const NAMER: Reasons = &[
    ("experimental", "not needed: no namer of weir's has to be enabled so"),
    ("host", API_SERVER),
    ("port", API_SERVER),
    ("tls", API_SERVER),
];

const INGRESSES: &str = "weir asks the API server of `discovery.kubernetes`, and needs no kubectl proxy";
const BINDINGS: &str =
    "`limits.bindings` bounds the names that are remembered; the default is 20,000 for each worker";
const AUTHORIZERS: &str =
    "weir asks nobody whether a request may pass: what an authorizer refused is passed on now";
const STREAMS: &str = "weir never holds a body: every one streams, of whatever size";
const ACCESS_LOG: &str = "weir writes no access log; counts are in /metrics";
const API_SERVER: &str = "weir has one catalog for all namers, from `discovery`, and needs no kubectl proxy";
const RETRIES: &str = "weir has no retry budget: it sends again only what was not sent, and once what is idempotent and got no answer \
     (`limits.attempts`)";
const CLASSIFIER: &str = "weir does not send a request again that was answered: a 5xx is not retried, whatever the method; for the breaker a \
     5xx is a failure";
