#![doc = include_str!("../ARCHITECTURE.md")]

pub mod admin;
pub mod allocator;
pub mod app;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod domain;
pub mod drain;
pub mod intercept;
pub mod migrate;
pub mod proxy;
pub mod telemetry;
pub mod transport;
