//! The programs of weir's sockets in the pods' network namespaces.
//!
//! 1. `connect` rewrites a connection's destination to the address that stands for it, on the pod's loopback interface.
//! 2. `lookup`, one instance for each pod, steers what arrives there to the pod's listener.
//! 3. `names` tells the application the address it dialled, and its pod's own. Both are computed from the addresses of the
//!    socket, so they are right whatever the socket did before.

mod connect;
mod connect4;
mod connect6;
mod lookup;
mod maps;
mod names;
