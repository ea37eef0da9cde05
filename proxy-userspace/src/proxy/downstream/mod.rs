//! Client connections, from accept to close.

mod accept;
mod connection;
mod detect;
mod first_head;
mod h1;

pub use accept::start;
