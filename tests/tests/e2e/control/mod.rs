//! What operators touch: files, configuration, the admin listener, signals.

mod admin; // Health, metrics, state, status.
pub(crate) mod apply; // What of a changed configuration takes effect while weir runs.
mod buffers; // What the kernel buffers.
mod check; // Wrong configuration and wrong usage.
mod drain; // SIGTERM.
mod files; // The folder of services, while weir runs.
mod guard; // Foreign pages, names that lead to the admin, strangers.
mod hung; // A worker that stands still.
mod identity; // Certificates from files.
mod log; // A log that nobody reads.
mod machine; // The machine around it: pipes, disks, descriptors, crowds.
mod policy; // Settings of clusters, which change under load.
mod reload; // The configuration changes while weir runs.
mod routers; // Several routers in one weir.
