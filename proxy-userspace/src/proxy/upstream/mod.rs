//! Endpoints at run time: which one takes a request, the connections to them, and connecting.

pub mod cluster;
pub mod dial;
pub mod pool;
pub mod race;
