//! Tests of discovery: table-driven, and against a small test server.

mod accesses;
mod calls;
mod folds;
mod paces;
mod server;
mod stores;
