//! Input that is wrong, hostile or unlucky, from clients and from backends.

mod answers; // Answers that are not HTTP, or not framed.
mod bad_heads; // Heads that hyper cannot read.
mod chunks; // Chunked bodies that break, and chunked beside Content-Length.
mod clients; // Slow, endless, random and vanishing clients.
mod framing; // Requests whose extent is ambiguous.
mod heads; // Heads over a bound: 408, 414, 431, 508, 400.
mod interim; // Interim answers (1xx): a few, and a flood of them.
mod leniencies; // What an answer may look like, one leniency at a time.
