//! Discovery by tables, and against a server of a few lines.

mod accesses;
mod calls;
mod folds;
mod paces;
mod server;
mod stores;
