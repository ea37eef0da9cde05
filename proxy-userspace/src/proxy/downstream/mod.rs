//! Clients' connections: from accept to close.

pub mod connection;
mod first_head;
mod h1;
pub mod wakers;
