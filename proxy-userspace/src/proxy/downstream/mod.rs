//! Client connections, from accept to close.

mod accept;
mod client_hello;
mod connection;
mod detect;
mod first_head;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod h1;
mod h2;
mod preface;
mod refuse;
mod relief;
mod sweep;
mod tls;
mod whose;
mod wire;
mod wire_look;

pub use accept::start;
