//! Endpoints that fail: what it costs a client, and what weir remembers of it.

mod breaker; // Ejection and return.
mod connects; // Endpoints that refuse or swallow connections.
mod kills; // Endpoints killed under load.
mod nothing; // No endpoint at all: which status, and how quickly.
mod ports; // A node that has no source port left.
mod retries; // What is tried again, and what is not.
mod silent; // Nodes that go without a word.
mod waits; // Waits that must end.
