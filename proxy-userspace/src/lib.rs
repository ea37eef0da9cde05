#![doc = include_str!("../ARCHITECTURE.md")]
// What the admin may await is deeply nested futures, hickory's among them.
#![recursion_limit = "256"]

pub mod admin;
pub mod allocator;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod discovery;
pub mod domain;
pub mod drain;
pub mod identity;
pub mod intercept;
pub mod migrate;
pub mod proxy;
pub mod telemetry;
pub mod transport;
