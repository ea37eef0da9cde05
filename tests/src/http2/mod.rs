//! Clients of HTTP/2: one that behaves, and one that sends every frame as it is told.

mod client;
mod frames;

pub use client::{Answered, Http2, Stream};
pub use frames::{Ended, Frame, Frames, PREFACE, encode, field};
