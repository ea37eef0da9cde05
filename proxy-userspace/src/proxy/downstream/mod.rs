//! Client connections, from accept to close.

mod accept;
mod connection;
mod detect;
mod first_head;
mod h1;
mod h2;
mod preface;

pub use accept::start;
