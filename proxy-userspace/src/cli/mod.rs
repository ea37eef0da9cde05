//! What `weir` does when it is called: one file per command.

pub mod check;
