//! Discovery by tables, and against a server of a few lines.

mod calls;
mod paces;
mod server;
mod stores;
