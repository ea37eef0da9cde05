//! What is believed of files, and what of peers.

mod development;
mod handshakes;
mod reading;
mod reloading;
